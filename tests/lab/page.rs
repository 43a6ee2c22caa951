//! docs/install.md, done as it is written.

use std::path::Path;

use crate::{
    hosts::{Host, Image, Lab},
    pair::{self, SINK_USER},
};

/// A block of the page: on which host, and what is typed there.
struct Block {
    on: String,
    script: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(on) = line.strip_prefix("<!-- on: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        assert!(lines.next().is_some_and(|fence| fence.starts_with("```")), "no block after {line}");
        let script: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { on: on.to_owned(), script: script.join("\n") });
    }
    blocks
}

/// Types a block, in the folder in which the operator has put the binary. What it printed.
fn type_in(host: &Host, variables: &str, script: &str) -> String {
    host.must(&format!("set -eu; cd /root; {variables}\n{script}")).text()
}

#[test]
fn the_first_hour_works_as_the_page_says() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 10, "the page has lost its blocks: {}", blocks.len());
    let lab = Lab::new();
    let (shop, vault) = (lab.host("shop", Image::Bare), lab.host("vault", Image::Bare));
    let binary = std::fs::read(env!("CARGO_BIN_EXE_handover")).unwrap();
    for host in [&shop, &vault] {
        assert_ne!(host.run("command -v handover").code, 0);
        host.put("/root/handover", &binary, 0o755);
    }
    let mut fingerprint = String::new();
    for Block { on, script } in &blocks {
        match on.as_str() {
            "source" => {
                // What the page tells a person to carry over.
                for key in ["sink_ed25519.pub", "logsink_ed25519.pub"] {
                    if script.contains(&format!("/root/{key}")) {
                        shop.put(&format!("/root/{key}"), &vault.get(&format!("/etc/handover/{key}")), 0o644);
                    }
                }
                let said = type_in(&shop, "", script);
                if script.contains("ssh-keygen -lf") {
                    fingerprint = said.split(' ').nth(1).unwrap().to_owned();
                }
            }
            "sink" => {
                type_in(&vault, &format!("FINGERPRINT='{fingerprint}'"), script);
            }
            other => panic!("there is no host {other}"),
        }
    }
    let stored = pair::stored(&vault, "shop");
    assert_eq!(stored.len(), 1);
    assert_eq!(pair::kept(&shop), stored);
    let there = pair::manifest(&shop, "/root/restored/etc");
    pair::assert_same(&there, &pair::manifest(&vault, "/root/restored/etc"), "both ways back");
    assert!(there.contains("./shadow"), "a restore without the passwords: {there}");
    let logs = vault.must("handover logsink cat shop --path /var/log/dpkg.log").stdout;
    assert!(!logs.is_empty() && shop.get("/var/log/dpkg.log").starts_with(&logs), "other logs");
    // What was put into cron.d is what was tried above.
    assert_eq!(vault.run_as(SINK_USER, "handover --quiet sink run").code, 0);
    assert_eq!(vault.run_as(pair::LOGSINK_USER, "handover --quiet logsink run").code, 0);
}
