//! The Debian package: installed, upgraded, removed and purged on a host that knew nothing of it.

use std::{path::Path, process::Command};

use crate::{
    hosts::{Image, Lab},
    pair,
};

/// Builds the package from the binary under test.
#[expect(clippy::disallowed_methods, reason = "the lab starts programs of its own, not those of handover")]
fn package() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let built =
        Command::new(root.join("packaging/deb")).args(["--debug", "--output"]).arg(folder.path()).output();
    let built = built.unwrap();
    assert!(built.status.success(), "packaging/deb: {}", String::from_utf8_lossy(&built.stderr));
    let file = std::fs::read_dir(folder.path()).unwrap().next().expect("cargo deb made nothing").unwrap();
    std::fs::read(file.path()).unwrap()
}

const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
     -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold";

#[test]
fn the_package_installs_upgrades_and_goes_and_never_takes_a_backup_a_user_or_a_key_with_it() {
    let lab = Lab::new();
    let shop = lab.host("shop", Image::Bare);
    shop.put("/root/handover.deb", &package(), 0o644);
    assert_ne!(shop.run("command -v handover").code, 0);
    let said = shop.must(&format!("{INSTALL} /root/handover.deb 2>&1")).text();
    assert!(said.contains("handover source init"), "{said}");
    shop.must("test -x /usr/bin/handover && handover --version && command -v rsync && command -v ssh");
    for file in [
        "/usr/lib/systemd/system/handover-sink.timer",
        "/usr/share/bash-completion/completions/handover",
        "/usr/share/zsh/vendor-completions/_handover",
        "/usr/share/fish/vendor_completions.d/handover.fish",
    ] {
        shop.must(&format!("test -s {file}"));
    }
    // A slim system leaves out what is only to be read; the package has it.
    let listed = shop.must("dpkg-deb -c /root/handover.deb").text();
    for file in ["man1/handover-sink-quarantine-drop.1.gz", "handover/copyright", "handover/docs/restore.md"]
    {
        assert!(listed.contains(file), "{file}: {listed}");
    }
    assert_eq!(shop.run("id dataBackupSource").code, 1, "the package made a user");
    // As it comes, no role is configured, and nothing runs.
    assert_eq!(shop.run("handover source run").code, 10);
    assert_eq!(shop.run("ls /etc/cron.d/handover-source").code, 2);

    let config = "[source]\nname = \"shop\"\nreserve = 0\n# what an operator wrote\n\n[[source.element]]\nname = \"etc\"\nkind = \"tree\"\npaths = [\"/etc/ssh\"]\n";
    shop.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    shop.must("handover source init && ssh-keygen -q -t ed25519 -N '' -f /etc/handover/sink_ed25519");
    let id = pair::collect(&shop);

    // The next version: another default configuration.
    shop.must(
        "cd /root && dpkg-deb -R handover.deb next && sed -i 's/^Version: .*/Version: 99.0-1/' next/DEBIAN/control && \
         echo '# a new default' >> next/etc/handover/handover.toml && rm -f next/DEBIAN/md5sums && \
         dpkg-deb -Zgzip -z1 --root-owner-group -b next next.deb",
    );
    shop.must(&format!("{INSTALL} /root/next.deb"));
    assert!(shop.must("dpkg -s handover").text().contains("Version: 99.0-1"));
    assert_eq!(
        shop.get("/etc/handover/handover.toml"),
        config.as_bytes(),
        "an upgrade changed what an operator wrote"
    );
    shop.must("grep -q 'a new default' /etc/handover/handover.toml.dpkg-dist");
    shop.must("handover source status && test -e /etc/cron.d/handover-source");

    let said = shop.must("apt-get remove --yes handover 2>&1").text();
    assert!(said.contains("/etc/cron.d/handover-source is still there"), "{said}");
    assert_ne!(shop.run("test -e /usr/bin/handover").code, 0);
    assert_eq!(shop.get("/etc/handover/handover.toml"), config.as_bytes());
    let said = shop.must("apt-get purge --yes handover 2>&1").text();
    assert!(said.contains("left as they are") && said.contains("keys in /etc/handover"), "{said}");
    assert_ne!(shop.run("test -e /etc/handover/handover.toml -o -e /etc/cron.d/handover-source").code, 0);
    for what in [
        &format!("test -s /home/dataBackupSource/transport-outgoing/{id}/generation.toml"),
        "id dataBackupSource",
        "test -s /etc/handover/sink_ed25519",
        "test -n \"$(ls /var/lib/handover/source)\"",
    ] {
        shop.must(what);
    }
    // And it comes back to where it was.
    shop.must(&format!("{INSTALL} /root/handover.deb"));
    shop.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    let status = shop.must("handover --json source status").json();
    assert_eq!(status["waiting"][0]["id"], id.as_str(), "{status}");
}
