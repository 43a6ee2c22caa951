//! `restore --to`: it chooses as a restore in place does, and touches nothing but the folder.

use std::{fs, path::PathBuf};

use super::{Host, copy, places::tar};
use crate::harness::{Ran, below, id_of, names};

impl Host {
    fn to(&self, name: &str, args: &[&str]) -> Ran {
        let to = self.lab.path(name);
        self.lab.run(&[&["restore", "--to", to.to_str().unwrap()], args].concat())
    }

    /// What came out of a path of the application.
    fn out(&self, name: &str, path: &str) -> Option<String> {
        let app: PathBuf = self.app(path).strip_prefix("/").unwrap().into();
        fs::read_to_string(self.lab.path(name).join(app)).ok()
    }
}

#[test]
fn below_a_folder_comes_out_what_lies_there_in_any_shape() {
    let (host, newer, older) = Host::two();
    fs::write(host.lab.path("home/restore/notes.txt"), "x").unwrap();
    let ran = host.to("newest", &["--json"]).exits(0);
    assert_eq!(ran.json()["id"], newer.as_str());
    assert!(ran.json()["findings"].to_string().contains("notes.txt"), "{ran:?}");
    assert_eq!(host.out("newest", "shop/index.html").unwrap(), "newer");
    tar(&host, &["-C", "home/restore", "-czf", "both.tar.gz", &newer, &older]);
    let packed = host.lab.path("both.tar.gz");
    let packed = packed.to_str().unwrap();
    let ran = host.to("dry", &["--from", packed, &older, "--dry-run", "--json"]).exits(0);
    assert_eq!((ran.json()["id"].as_str(), ran.json()["wanted"]["files"].as_u64()), (Some(&*older), Some(3)));
    assert!(!host.lab.path("dry").exists(), "a dry run wrote something");
    host.to("unpacked", &["--from", packed, &older]).exits(0);
    assert_eq!(host.out("unpacked", "shop.conf").unwrap(), "older");
    let top = names(&host.lab.path("unpacked"));
    assert!(top.iter().all(|name| !name.starts_with(".handover")), "{top:?}");
}

#[test]
fn below_a_folder_a_torn_newest_is_refused_and_taken_only_where_that_is_said() {
    let (host, newer, older) = Host::two();
    let torn = below(&host.lab.path("home/restore").join(&newer).join("data/www"), &host.app("shop"));
    fs::remove_file(torn.join("deep/er/page")).unwrap();
    host.to("a", &[]).exits(15).says(&[&newer, "deep/er/page: it is missing", &older, "--allow-older"]);
    assert!(!host.lab.path("a").exists(), "something was made of what was refused");
    host.to("a", &["--allow-older"]).exits(0).says(&[&older]);
    assert_eq!(host.out("a", "shop/deep/er/page").unwrap(), "older");
    // What there is of it, with what is missing named.
    host.to("b", &["--allow-partial"]).exits(13).says(&["deep/er/page", &newer, &older]);
    assert_eq!(host.out("b", "shop/index.html").unwrap(), "newer");
    assert_eq!(host.out("b", "shop/deep/er/page"), None);
    host.to("c", &["--element", "conf"]).exits(0);
    assert_eq!(host.out("c", "shop.conf").unwrap(), "newer");
}

#[test]
fn below_a_folder_an_element_that_had_failed_is_not_left_out_in_silence() {
    let host = Host::new();
    host.fill("old");
    let good = host.init().collect();
    fs::remove_file(host.app("shop.conf")).unwrap();
    let bad = id_of(&host.lab.source(3));
    host.deliver(&good);
    host.deliver(&bad);
    host.to("a", &[]).exits(15).says(&["conf", "had failed", &good, "--allow-partial"]);
    host.to("a", &["--allow-partial"]).exits(0).says(&["conf", "had failed"]);
    assert_eq!(host.out("a", "shop/index.html").unwrap(), "old");
}

#[test]
fn below_a_folder_another_source_comes_out_where_it_is_named_and_from_restore_only_by_its_name() {
    let (host, _, _) = Host::two();
    let text = host.lab.text("handover.toml").replace("\"shop\"\nhome", "\"market\"\nhome");
    fs::write(host.lab.path("handover.toml"), text).unwrap();
    host.to("a", &[]).exits(15).says(&["is of shop", "market", "--as shop"]);
    host.to("a", &["--as", "shop"]).exits(0);
    let from = host.lab.path("home/restore");
    host.to("b", &["--from", from.to_str().unwrap()])
        .exits(0)
        .says(&["it is of shop, and this host is market"]);
    assert_eq!(host.out("b", "shop/index.html").unwrap(), "newer");
    // Of two sources one has to be named.
    host.collect();
    let other = names(&host.lab.path("home/transport-outgoing")).pop().unwrap();
    let mixed = host.lab.path("mixed");
    copy(&from, &mixed);
    copy(&host.waiting(&other), &mixed.join(&other));
    fs::remove_file(host.lab.path("handover.toml")).unwrap();
    let mixed = mixed.to_str().unwrap();
    host.to("c", &["--from", mixed]).exits(15).says(&["market and shop", "--as market"]);
    host.to("c", &["--from", mixed, "--as", "shop"]).exits(0);
    assert_eq!(host.out("c", "shop/index.html").unwrap(), "newer");
}

#[test]
fn below_a_folder_a_seal_that_is_not_known_is_a_warning() {
    let (host, newer, _) = Host::two();
    fs::write(host.lab.path("state/source/ledger"), "").unwrap();
    host.to("a", &[]).exits(0).says(&["warning", "ledger", &newer]);
    assert_eq!(host.out("a", "shop/index.html").unwrap(), "newer");
}
