# What cargo and lab/test need.
{
  mkShell,
  acl,
  attr,
  cargo,
  clippy,
  jq,
  libarchive,
  openssh,
  python3,
  rsync,
  rust-analyzer,
  rustc,
  rustfmt,
  sqlite,
  strace,
}:
mkShell {
  packages = [
    acl
    attr
    cargo
    clippy
    jq
    libarchive
    openssh
    python3
    rsync
    rust-analyzer
    rustc
    rustfmt
    sqlite
    strace
  ];
}
