# handover with the programs that it calls on its PATH: rsync and ssh.
{
  lib,
  rustPlatform,
  installShellFiles,
  makeBinaryWrapper,
  openssh,
  rsync,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../packaging
      ../docs/configuration.md
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
    makeBinaryWrapper
  ];

  # The tests want sshd, root and file systems of their own: lab/test runs them.
  doCheck = false;

  postInstall = ''
    $out/bin/handover man man
    installManPage man/*
    installShellCompletion --cmd handover \
      --bash <($out/bin/handover completions bash) \
      --zsh <($out/bin/handover completions zsh) \
      --fish <($out/bin/handover completions fish)
    for unit in packaging/systemd/*; do
      substitute "$unit" "$(basename "$unit")" --replace-quiet /usr/bin/handover $out/bin/handover
      install -D -m 0644 "$(basename "$unit")" -t $out/lib/systemd/system
    done
    # After what the host has on its PATH: its own rsync and ssh come first.
    wrapProgram $out/bin/handover --suffix PATH : ${
      lib.makeBinPath [
        openssh
        rsync
      ]
    }
  '';

  meta = {
    inherit (manifest) description;
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "handover";
    platforms = lib.platforms.linux;
  };
}
