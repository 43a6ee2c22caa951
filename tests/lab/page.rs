//! Pages of the documents, done as they are written; here `docs/install.md`.

use std::path::Path;

use crate::{
    hosts::{Done, Host, Image, Lab},
    pair::{self, SINK_USER},
};

/// What a page tells a person to do.
#[derive(Debug)]
pub enum Step {
    /// A block, and on which host it is typed.
    Type { on: String, script: String },
    /// A file or folder to be carried, from a host and path to another.
    Carry { from: (String, String), to: (String, String) },
}

/// The steps of a page, or of a part of one, in their order.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let comment = |kind: &str| line.strip_prefix("<!-- ")?.strip_prefix(kind)?.strip_suffix(" -->");
        let visible = || line.strip_prefix("**On the ")?.strip_suffix(":**");
        if let Some(on) = comment("on: ").or_else(visible) {
            assert!(lines.next().is_some_and(|fence| fence.starts_with("```")), "no block after {line}");
            let script: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            steps.push(Step::Type { on: on.to_owned(), script: script.join("\n") + "\n" });
        } else if let Some((from, to)) = comment("carry: ").and_then(|both| both.split_once(" to ")) {
            let place =
                |text: &str| text.split_once(':').map(|(host, path)| (host.to_owned(), path.to_owned()));
            steps.push(Step::Carry { from: place(from).unwrap(), to: place(to).unwrap() });
        }
    }
    steps
}

/// Types a block, in the folder in which the operator has put the binary. What it said.
#[track_caller]
pub fn type_in(host: &Host, variables: &str, script: &str) -> Done {
    host.must(&format!("set -eu; cd /root; {variables}\n{script}"))
}

/// Types a block at a terminal, where questions are asked, and gives this answer. What it said.
#[track_caller]
pub fn type_at_terminal(host: &Host, variables: &str, script: &str, answer: &str) -> String {
    host.put("/root/typed", format!("set -eu; cd /root; {variables}\n{script}").as_bytes(), 0o600);
    host.must(&format!("echo {answer} | script --quiet --return --command 'sh /root/typed' /dev/null")).text()
}

/// Carries a file or folder from a host to another, root's there, as a person does with whatever is at hand.
pub fn carry(from: (&Host, &str), to: (&Host, &str)) {
    let packed = from.0.must(&format!("tar -C $(dirname {0}) -cf - $(basename {0})", from.1)).stdout;
    to.0.put("/root/carried.tar", &packed, 0o600);
    to.0.must(&format!(
        "mkdir -p $(dirname {0}) /root/carried && tar -C /root/carried --no-same-owner -xf /root/carried.tar &&
         cp -rT /root/carried/$(basename {1}) {0} && rm -r /root/carried /root/carried.tar",
        to.1, from.1
    ));
}

#[test]
fn the_first_hour_works_as_the_page_says() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() >= 10, "the page has lost its blocks: {}", steps.len());
    let lab = Lab::new();
    let (shop, vault) = (lab.host("shop", Image::Bare), lab.host("vault", Image::Bare));
    let binary = std::fs::read(env!("CARGO_BIN_EXE_handover")).unwrap();
    for host in [&shop, &vault] {
        assert_ne!(host.run("command -v handover").code, 0);
        host.put("/root/handover", &binary, 0o755);
    }
    let mut fingerprint = String::new();
    let host = |name: &str| match name {
        "source" => &shop,
        "sink" => &vault,
        other => panic!("there is no host {other}"),
    };
    for step in &steps {
        match step {
            Step::Carry { from, to } => carry((host(&from.0), &from.1), (host(&to.0), &to.1)),
            Step::Type { on, script } => {
                let said = type_in(host(on), &format!("FINGERPRINT='{fingerprint}'"), script).text();
                if script.contains("ssh-keygen -lf") {
                    fingerprint = said.split(' ').nth(1).unwrap().to_owned();
                }
            }
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
    // No systemd runs here: what `init` put into cron.d is what is tried here.
    for (host, role) in [(&shop, "source"), (&vault, "sink"), (&vault, "logsink")] {
        let lines = host.must(&format!("cat /etc/cron.d/handover-{role}")).text();
        assert!(lines.contains(&format!("/usr/bin/handover --quiet {role} run\n")), "{lines}");
    }
    assert_eq!(vault.run_as(SINK_USER, "handover --quiet sink run").code, 0);
    assert_eq!(vault.run_as(pair::LOGSINK_USER, "handover --quiet logsink run").code, 0);
}
