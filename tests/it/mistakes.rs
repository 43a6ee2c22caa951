//! Mistakes that everybody makes once: each answer names what is wrong and what to do. And the exit codes are those that
//! are documented.

use std::{fs, os::unix::fs::PermissionsExt as _};

use handover::report::Exit;

use crate::harness::{Lab, NOBODY, Ran, TREE};

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("file", "x");
    lab
}

/// No answer is a crash or has the looks of one.
#[track_caller]
fn plain(ran: &Ran) {
    for word in ["panicked", "RUST_BACKTRACE", "Os {", "Error(", "None", "internal"] {
        assert!(!ran.err.contains(word), "{}", ran.err);
    }
}

#[track_caller]
fn answers(lab: &Lab, args: &[&str], code: i32, words: &[&str]) {
    let ran = lab.run(args).exits(code).says(words);
    plain(&ran);
}

#[test]
fn check_and_health_answer_programs_too() {
    let lab = lab();
    let good = lab.run(&["check", "--json"]).exits(0).json();
    assert_eq!((&good["good"], &good["source"]["name"]), (&true.into(), &"shop".into()), "{good:#}");
    assert_eq!(good["source"]["elements"][0]["kind"], "tree");
    assert_eq!(good["sinks"][0], serde_json::json!({ "role": "sink", "sources": ["shop"] }));
    let health = lab.run(&["health", "--json"]).exits(1).json();
    assert_eq!(health, serde_json::json!({ "well": false, "daemons": [] }));
    lab.config("kepp = 3", TREE, "");
    let bad = lab.run(&["check", "--json"]).exits(10).json();
    let mistake = &bad["mistakes"][0];
    assert_eq!((&bad["good"], &mistake["line"]), (&false.into(), &6.into()), "{bad:#}");
    assert_eq!((&mistake["section"], &mistake["key"]), (&"[source]".into(), &"kepp".into()), "{bad:#}");
    fs::remove_file(lab.path("handover.toml")).unwrap();
    let gone = lab.run(&["check", "--json"]).exits(10).json();
    assert!(gone["mistakes"][0]["text"].as_str().unwrap().contains("create it"), "{gone:#}");
}

#[test]
fn no_configuration_file() {
    let lab = lab();
    fs::remove_file(lab.path("handover.toml")).unwrap();
    for role in ["source", "sink"] {
        answers(&lab, &[role], 10, &["handover.toml", "No such file", "--config"]);
    }
    answers(&lab, &["check"], 10, &["handover.toml"]);
}

#[test]
fn a_configuration_without_the_section_of_the_role() {
    let lab = lab();
    lab.config_text("[source]\nname = \"shop\"\n[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"/srv\"]\n");
    answers(&lab, &["sink"], 10, &["[sink]"]);
    lab.config_text("[sink]\n[[sink.source]]\nname = \"shop\"\npath = \"/srv/shop\"\n");
    answers(&lab, &["source"], 10, &["[source]"]);
}

#[test]
fn a_key_that_does_not_exist() {
    let lab = lab();
    lab.config("kepp = 3", TREE, "");
    answers(&lab, &["source"], 10, &["handover.toml:6", "[source] kepp", "unknown key", "`keep`"]);
    lab.config("", TREE, "[smtp]\nserver = 1");
    answers(&lab, &["check"], 10, &["smtp"]);
}

#[test]
fn a_file_that_is_no_toml() {
    let lab = lab();
    lab.config_text("[source\nname = shop");
    answers(&lab, &["source"], 10, &["handover.toml:1"]);
}

#[test]
fn a_configuration_that_may_not_be_read() {
    let lab = Lab::of_user(NOBODY);
    fs::set_permissions(lab.path("handover.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    answers(&lab, &["source"], 10, &["handover.toml", "Permission denied", "who may read it"]);
    assert!(!lab.run(&["source"]).err.contains("create it"));
}

#[test]
fn a_source_that_was_never_initialised() {
    let lab = lab();
    answers(&lab, &["source"], 10, &["home", "handover source init"]);
    answers(&lab, &["source", "status"], 10, &["handover source init"]);
    lab.run(&["sink", "init"]).exits(0);
    answers(&lab, &["sink"], 12, &["handover source init"]);
}

#[test]
fn a_source_that_was_initialised_but_never_ran() {
    let lab = lab();
    lab.init();
    answers(&lab, &["sink"], 12, &["handover source"]);
    answers(&lab, &["sink", "status"], 0, &["handover sink run shop"]);
}

#[test]
fn a_sink_that_was_never_initialised() {
    let lab = lab();
    lab.run(&["source", "init"]).exits(0);
    lab.source(0);
    answers(&lab, &["sink"], 14, &["sink", "handover sink init", "mount"]);
    answers(&lab, &["sink", "list"], 14, &["handover sink init"]);
}

#[test]
fn init_run_twice_harms_nothing() {
    let lab = lab();
    let id = lab.init().both();
    answers(&lab, &["source", "init"], 0, &["nothing to do"]);
    answers(&lab, &["sink", "init"], 0, &["nothing to do"]);
    lab.run(&["sink", "list"]).exits(0).says(&[&id]);
    lab.both();
}

#[test]
fn a_home_that_may_not_be_written() {
    let lab = Lab::of_user(NOBODY);
    lab.write("file", "x");
    fs::create_dir(lab.path("home")).unwrap();
    fs::set_permissions(lab.path("home"), fs::Permissions::from_mode(0o755)).unwrap();
    let ran =
        lab.run(&["source", "init"]).exits_with_failure().says(&["home", "it belongs to user 0", "as root"]);
    plain(&ran);
    answers(&lab, &["source"], 10, &["home", "handover source init"]);
    answers(&lab, &["source", "init", "--dry-run"], 10, &["as root"]);
}

#[test]
fn a_state_folder_that_may_not_be_written() {
    let lab = Lab::of_user(NOBODY);
    lab.write("file", "x");
    lab.init();
    fs::remove_dir_all(lab.path("state")).unwrap();
    fs::create_dir(lab.path("state")).unwrap();
    fs::set_permissions(lab.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    for role in ["source", "sink"] {
        let ran = lab.run(&[role]).exits_with_failure().says(&["state", "denied"]);
        plain(&ran);
    }
}

#[test]
fn the_home_of_another_user() {
    let lab = lab();
    lab.init().both();
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", crate::harness::HANDOVER, "source"];
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let output = lab.program("setpriv", &args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.status.code() != Some(1), "{said}");
    assert!(said.contains("denied"), "{said}");
}

#[test]
fn rsync_is_not_installed() {
    let lab = lab();
    lab.init();
    lab.source(0);
    let mut command = lab.handover(&["sink"]);
    command.env("PATH", lab.path("bin"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(said.contains("rsync") && said.contains("install"), "{said}");
}

#[test]
fn an_rsync_that_fails_is_named_with_its_own_words() {
    let lab = lab();
    lab.init();
    lab.source(0);
    lab.fake(
        "rsync",
        "case \"$*\" in *--version*) exec /usr/bin/rsync --version;; esac; echo no such luck >&2; exit 11",
    );
    let ran = lab.run(&["sink"]).exits_with_failure().says(&["rsync"]);
    plain(&ran);
    assert_eq!(lab.waiting().len(), 1);
}

#[test]
fn a_command_line_that_is_wrong() {
    let lab = lab();
    answers(&lab, &["sinc"], 2, &["sink"]);
    answers(&lab, &["source", "--jsn"], 2, &["--json"]);
    answers(&lab, &["sink", "ls"], 2, &["Usage"]);
    answers(&lab, &["restore", "--too"], 2, &["--to"]);
    answers(&lab, &[], 2, &["source", "sink", "restore"]);
    answers(&lab, &["sink", "ls", "shop", "yesterday"], 2, &["20261123T030000Z"]);
}

#[test]
fn an_element_that_names_a_path_within_the_home() {
    let lab = lab();
    lab.config("", &TREE.replace("{lab}/tree", "{lab}/home/store"), "");
    answers(&lab, &["source"], 10, &["home"]);
}

#[test]
fn a_restore_without_anything_to_restore_or_into_something_that_is_there() {
    let lab = lab();
    lab.init();
    let to = lab.path("out");
    answers(&lab, &["restore", "--to", to.to_str().unwrap()], 15, &["home/restore", "home/store"]);
    lab.both();
    let tree = lab.path("tree");
    answers(&lab, &["restore", "--to", tree.to_str().unwrap()], 15, &["is not empty"]);
    answers(&lab, &["restore", "20200101T000000Z", "--to", to.to_str().unwrap()], 15, &["20200101T000000Z"]);
    let wrong = ["restore", "--to", to.to_str().unwrap(), "--element", "wwww"];
    answers(&lab, &wrong, 15, &["no element wwww", "it has: www"]);
    assert_eq!(fs::read(lab.path("tree/file")).unwrap(), b"x");
    assert!(!to.exists() || fs::read_dir(&to).unwrap().next().is_none());
}

#[test]
fn the_exit_codes_are_those_that_are_documented() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-codes.md")).unwrap();
    let documented: Vec<(u8, String)> = docs
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect();
    let all = [
        Exit::Ok,
        Exit::Internal,
        Exit::Usage,
        Exit::SomeFailed,
        Exit::PreviousTransportFailed,
        Exit::Configuration,
        Exit::Busy,
        Exit::Unreachable,
        Exit::VerificationFailed,
        Exit::Storage,
        Exit::RestoreRefused,
        Exit::AlarmNotDelivered,
        Exit::Interrupted,
    ];
    // A new exit code does not compile here before it is in the list and in the page.
    for exit in all {
        match exit {
            Exit::Ok
            | Exit::Internal
            | Exit::Usage
            | Exit::SomeFailed
            | Exit::PreviousTransportFailed
            | Exit::Configuration
            | Exit::Busy
            | Exit::Unreachable
            | Exit::VerificationFailed
            | Exit::Storage
            | Exit::RestoreRefused
            | Exit::AlarmNotDelivered
            | Exit::Interrupted => {}
        }
    }
    let built: Vec<(u8, String)> = all.iter().map(|e| (e.code(), e.name().to_owned())).collect();
    assert_eq!(documented, built);
    let order = docs.lines().find(|line| line.starts_with("130, ")).unwrap();
    let order: Vec<u8> =
        order.split_once('.').unwrap().0.split(", ").map(|code| code.trim().parse().unwrap()).collect();
    let by_code = |code: u8| *all.iter().find(|e| e.code() == code).unwrap();
    for pair in order.windows(2) {
        assert_eq!(by_code(pair[0]).worst(by_code(pair[1])), by_code(pair[0]), "{pair:?}");
    }
    for before in [2, 15] {
        assert_eq!(by_code(before).worst(Exit::Storage), by_code(before));
        assert_eq!(by_code(before).worst(Exit::Internal), Exit::Internal);
    }
}
