//! docs/operations.md, where it changes keys: typed as it is written.

use std::path::Path;

use crate::{
    hosts::{Image, Lab},
    page::{self, Step},
    pair::{self, SINK_USER, WWW},
};

#[test]
fn keys_are_changed_as_the_page_says_and_no_run_is_missed() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let steps = page::steps(&text);
    assert!(steps.len() >= 12, "the page has lost its blocks: {}", steps.len());
    let lab = Lab::new();
    let shop = pair::source(&lab, "shop", Image::Host, WWW);
    let vault = pair::sink(&lab, "vault", "");
    shop.must("mkdir -p /srv/www && echo hello > /srv/www/index.html");
    pair::enroll(&vault, &shop);
    pair::collect(&shop);
    let before = (vault.get("/etc/handover/sink_ed25519"), vault.get("/etc/handover/known_hosts"));
    vault.put("/root/stolen", &before.0, 0o600);
    let host = |name: &str| match name {
        "source" => &shop,
        "sink" => &vault,
        other => panic!("there is no host {other}"),
    };
    let mut runs = 0;
    for step in &steps {
        match step {
            Step::Carry { from, to } => page::carry((host(&from.0), &from.1), (host(&to.0), &to.1)),
            Step::Type { on, script } => {
                page::type_in(host(on), "", script);
                runs += script.matches("handover sink run").count();
            }
        }
    }
    assert!(runs >= 5, "only {runs} runs were typed");

    let (key, known) = (vault.get("/etc/handover/sink_ed25519"), vault.get("/etc/handover/known_hosts"));
    assert!(key != before.0 && known != before.1, "nothing was changed");
    let known = String::from_utf8(known).unwrap();
    let there = String::from_utf8(shop.get("/etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    let now: Vec<&str> = there.split(' ').take(2).collect();
    assert_eq!(known.trim(), format!("shop.example.org {}", now.join(" ")), "another key is pinned too");
    let keys = shop.must("cat /home/dataBackupSource/.ssh/authorized_keys").text();
    let public = String::from_utf8(vault.get("/etc/handover/sink_ed25519.pub")).unwrap();
    assert_eq!(keys.lines().count(), 1, "{keys}");
    assert!(keys.contains(public.split(' ').nth(1).unwrap()), "{keys}");
    let old = vault.run(
        "ssh -i /root/stolen -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=/etc/handover/known_hosts \
         dataBackupSource@shop.example.org 'handover 1 offers'",
    );
    assert!(old.code == 255 && old.stderr.contains("Permission denied"), "the old key is let in: {old:?}");
    // And the next night is as any other.
    let id = pair::collect(&shop);
    assert_eq!(vault.run_as(SINK_USER, "handover --quiet sink run").code, 0);
    assert!(pair::stored(&vault, "shop").contains(&id));
}
