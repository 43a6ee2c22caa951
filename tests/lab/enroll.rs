//! A source is added to a running sink.

use crate::{
    hosts::{Image, Lab},
    pair::{self, SINK_USER, WWW},
};

#[test]
fn a_source_is_added_by_init_and_enroll_alone() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "# what an operator wrote stays\n");
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    let id = pair::collect(&shop);
    // The line that `sink init` prints is what an operator types on the source.
    let said = vault.must("handover sink init 2>&1; cat /etc/handover/sink_ed25519.pub").text();
    let key = said.lines().find(|line| line.starts_with("ssh-ed25519")).unwrap();
    shop.must(&format!("echo '{key}' | handover source authorize -"));

    let wrong = vault.run("handover sink enroll shop shop.example.org --fingerprint SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(wrong.code, 13, "{wrong:?}");
    assert_eq!(vault.run("test -s /etc/handover/known_hosts").code, 1, "a wrong fingerprint was pinned");

    pair::enroll_only(&vault, &shop);
    // Again, as after a cut: nothing changes.
    let file = vault.get("/etc/handover/handover.toml");
    pair::enroll_only(&vault, &shop);
    assert_eq!(vault.get("/etc/handover/handover.toml"), file);
    assert!(String::from_utf8(file).unwrap().contains("# what an operator wrote stays"));

    let report = pair::fetch(&vault);
    assert_eq!(report["sources"][0]["accepted"][0], id.as_str(), "{report}");
    assert_eq!(pair::kept(&shop), [id]);
    shop.must("handover check --live");
    vault.must("handover check --live");
}

#[test]
fn another_host_in_place_of_the_enrolled_one_is_refused() {
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "");
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    pair::enroll(&vault, &shop);
    pair::collect(&shop);
    shop.must("rm /etc/ssh/ssh_host_*");
    shop.restart();
    let done = vault.run_as(SINK_USER, "handover sink run");
    assert_ne!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("not the host that was enrolled"), "{done:?}");
    assert!(pair::stored(&vault, "shop").is_empty());
}
