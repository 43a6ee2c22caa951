//! The worst day of a source: its host is gone, and a new one takes its place.

use crate::{
    hosts::{Image, Lab},
    pair::{self, SINK_USER, WWW},
};

/// Content, owners and modes of what was backed up, by path below a folder.
const LOOK: &str =
    "find . -printf '%p %y %m %U %s %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";

#[test]
fn a_new_host_in_place_of_a_lost_one_gets_its_backup_from_the_sink() {
    let lab = Lab::new();
    let vault = pair::sink(&lab, "vault", "");
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    shop.must(
        "mkdir -p /srv/www/sub && cd /srv/www && echo hello > index.html && chmod 640 index.html && chown www-data index.html \
         && head -c 3000000 /dev/urandom > sub/noise && ln sub/noise sub/again && ln -s index.html link",
    );
    pair::enroll(&vault, &shop);
    let id = pair::collect(&shop);
    pair::fetch(&vault);
    let before = shop.must(&format!("cd /srv/www && {LOOK}")).text();
    drop(shop);

    // All that is known of the new host: its configuration and `source init`.
    let fresh = lab.host("fresh", Image::Host);
    let config = format!("[source]\nname = \"shop\"\nreserve = 0\n\n{WWW}");
    fresh.put("/etc/handover/handover.toml", config.as_bytes(), 0o644);
    fresh.must("handover source init --schedule none");

    // Each refusal says what to type next.
    let to = "handover sink deliver shop --to fresh.example.org";
    let unknown = vault.run_as(SINK_USER, to);
    assert_eq!(unknown.code, 12, "{unknown:?}");
    assert!(unknown.stderr.contains("--fingerprint SHA256:"), "{unknown:?}");
    let to = format!("{to} --fingerprint {}", pair::fingerprint(&fresh));
    let closed = vault.run_as(SINK_USER, &to);
    assert_eq!(closed.code, 12, "{closed:?}");
    let line = closed.stderr.split("as root: ").nth(1).unwrap().lines().next().unwrap();
    assert!(
        line.starts_with("echo 'ssh-ed25519 ") && line.ends_with("| handover restore grant --key - --for 2h"),
        "{line}"
    );
    fresh.must(line);

    let said = vault.must_as(SINK_USER, &to).stderr;
    assert!(said.contains("next, on fresh.example.org, as root: handover restore"), "{said}");
    let drop_point = "/home/dataBackupSource/restore";
    assert_eq!(fresh.must(&format!("ls -A {drop_point}")).text(), format!("{id}\n"));
    fresh.must("handover restore --to /srv/back");
    assert_eq!(fresh.must(&format!("cd /srv/back/srv/www && {LOOK}")).text(), before);

    // What the granted key opens on a host where the transport user is an ordinary one: nothing of the host.
    let ssh = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
               -i /etc/handover/restore_ed25519 dataBackupSource@fresh.example.org";
    for asked in ["cat /etc/passwd", "handover 1 offers", "handover 1 send X DATA e.L"] {
        let refused = vault.run_as(SINK_USER, &format!("{ssh} '{asked}'"));
        assert_eq!((refused.code, refused.stdout.len()), (99, 0), "{asked}: {refused:?}");
    }
    fresh.must("handover restore grant --revoke all");
    assert_eq!(vault.run_as(SINK_USER, &to).code, 12);
    fresh.must("! grep -q 'restore gate' /home/dataBackupSource/.ssh/authorized_keys");
}
