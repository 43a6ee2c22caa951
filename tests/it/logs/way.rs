//! The way of the logs: their Handover Point, their gate, and what goes wrong on it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use handover::{
    manifest::{Channel, Digest, GenerationId, Receipt, receipt::Verify},
    store::handover_point::HandoverPoint,
};

use super::{Logs, Store};
use crate::{
    harness::{Lab, NOBODY, below, findings, names},
    kill::{dies_in, nothing_is_left_of},
};

/// The seal of a waiting generation.
fn seal(logs: &Logs, id: &str) -> Digest {
    Digest::of(&fs::read(logs.0.path("logs/transport-outgoing").join(id).join("generation.toml")).unwrap())
}

/// Gives a receipt for a generation, as the sink does; gives the outcome.
#[track_caller]
fn accept(logs: &Logs, id: &str, seal: Digest) -> String {
    let receipt = Receipt {
        format: 1,
        id: id.parse::<GenerationId>().unwrap(),
        seal,
        sequence: 1,
        stored: "2026-11-23T03:00:00Z".parse().unwrap(),
        sink: "vault".to_owned(),
        store: "a".to_owned(),
        verify: Verify::Transferred,
        hashed: 1,
        reread: 0,
        linked: 0,
    };
    let ran = logs.gate(&format!("handover 1 accept {id} {seal}"), &receipt.to_text().unwrap()).exits(0);
    ran.json()["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn accepted_logs_go_and_their_receipt_stays() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    let report = logs.run(0);
    let id = report["logs"]["id"].as_str().unwrap();
    let offers = logs.gate("handover 1 offers", "").exits(0).json();
    assert_eq!(offers["offers"][0]["id"], *id);
    let sealed = seal(&logs, id);
    assert_eq!(sealed.to_string(), report["logs"]["seal"].as_str().unwrap());
    assert_eq!(accept(&logs, id, sealed), "accepted");
    assert_eq!(accept(&logs, id, sealed), "already");
    assert_eq!(logs.waiting(), Vec::<String>::new());
    assert_eq!(names(&logs.0.path("logs/store")), [format!("{id}.receipt.toml")]);
    assert_eq!(names(&logs.0.path("logs/condemned")), [id]);
    let history = logs.gate(&format!("handover 1 history {id}"), "").exits(0).out;
    for word in ["sealed", "accepted", "by vault", "condemned"] {
        assert!(history.contains(word), "{word} is missing in {history}");
    }
    // It can be taken back until `undo_for` is over; then it goes, and the receipt stays.
    let text = logs.0.text("handover.toml").replace("[source.logs]", "undo_for = \"0s\"\n[source.logs]");
    logs.0.config_text(&text);
    logs.append("app.log", "2\n");
    assert_eq!(logs.run(0)["logs"]["bytes_read"], 2);
    assert_eq!(names(&logs.0.path("logs/condemned")), Vec::<String>::new());
    assert_eq!(accept(&logs, id, sealed), "already");
    let history = logs.gate(&format!("handover 1 history {id}"), "").exits(0).out;
    assert!(history.contains("accepted"), "{history}");
}

#[test]
fn a_full_handover_point_drops_no_log_and_says_so() {
    let logs = Logs::with("max_waiting = 2");
    for n in 1..=2 {
        logs.append("app.log", &format!("{n}\n"));
        logs.collect();
    }
    logs.append("app.log", "3\n");
    let cursor = fs::read(logs.0.path("state/source/logs/cursor")).unwrap();
    let report = logs.run(4);
    let said = findings(&report, "logs-full").concat();
    assert!(said.contains("max_waiting = 2") && said.contains("handover logsink"), "{said}");
    assert!(report["logs"].is_null());
    assert_eq!(fs::read(logs.0.path("state/source/logs/cursor")).unwrap(), cursor);
    let mut store = logs.store();
    let waiting = logs.waiting();
    assert_eq!(waiting.len(), 2);
    for id in waiting {
        let sealed = seal(&logs, &id);
        accept(&logs, &id, sealed);
    }
    let id = logs.run(0)["logs"]["id"].as_str().unwrap().to_owned();
    store.read(&logs.0.path("logs/transport-outgoing").join(id));
    assert_eq!(store.cat(&logs.path("app.log")), "1\n2\n3\n");
}

/// Damages what is stored of a log in a generation, and rejects it.
fn damage(logs: &Logs, id: &str, name: &str) {
    let data = logs.0.path("logs/transport-outgoing").join(id).join("data/files");
    let file = below(&data, &logs.path(name));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let length = fs::metadata(&file).unwrap().len() as usize;
    fs::write(&file, "x".repeat(length)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    let path = format!("files{}\0", logs.path(name).display());
    let sealed = seal(logs, id);
    let ran = logs.gate(&format!("handover 1 reject {id} {sealed}"), &path).exits(0);
    assert_eq!(ran.json()["outcome"], "rejected");
}

#[test]
fn what_the_sink_rejected_is_handed_over_again_from_the_log() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    logs.write("other.log", "other\n");
    let first = logs.run(0)["logs"]["id"].as_str().unwrap().to_owned();
    logs.append("app.log", "3\n");
    logs.rename("app.log", "app.log.1");
    logs.pack("gzip", "app.log.1");
    damage(&logs, &first, "app.log");
    let report = logs.run(13);
    assert!(findings(&report, "failed").is_empty(), "{report:#}");
    assert_eq!(logs.waiting(), [report["logs"]["id"].as_str().unwrap()]);
    assert_eq!(names(&logs.0.path("logs/condemned")), [first]);
    assert_eq!(logs.cat("app.log"), "1\n2\n3\n");
    assert_eq!(logs.cat("other.log"), "other\n");
    assert!(logs.collect()["logs"].is_null());
}

#[test]
fn what_was_rejected_and_nothing_holds_any_more_is_named_and_the_rest_is_handed_over() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n");
    logs.write("other.log", "other\n");
    let first = logs.run(0)["logs"]["id"].as_str().unwrap().to_owned();
    fs::remove_file(logs.path("app.log")).unwrap();
    damage(&logs, &first, "app.log");
    let report = logs.run(13);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("app.log from byte 0 to 4") && said.contains("lost"), "{said}");
    assert_eq!(logs.store().logs().into_values().collect::<Vec<_>>(), ["other\n"]);
    logs.run(4);
}

#[test]
fn a_log_that_cannot_be_read_is_named_and_the_others_are_taken() {
    let lab = Lab::of_user(NOBODY);
    fs::create_dir(lab.path("tree/log")).unwrap();
    lab.write("log/a.log", "a\n");
    lab.write("log/b.log", "b\n");
    lab.give_all();
    lab.config_text(
        "state = \"{lab}/state\"\n[source]\nname = \"shop\"\nreserve = \"0B\"\n\
         [source.logs]\nhome = \"{lab}/logs\"\npaths = [\"{lab}/tree/log/*.log\"]\n",
    );
    lab.run(&["source", "init"]).exits(0);
    fs::set_permissions(lab.path("tree/log/a.log"), fs::Permissions::from_mode(0o000)).unwrap();
    let report = lab.source(3);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("a.log: Permission denied") && said.contains("all other logs are taken"), "{said}");
    assert_eq!(report["logs"]["elements"][0]["ok"], false);
    let mut store = Store::default();
    store.read(&lab.path("logs/transport-outgoing").join(report["logs"]["id"].as_str().unwrap()));
    assert_eq!(store.cat(&lab.path("tree/log/b.log")), "b\n");
}

#[test]
fn links_folders_excluded_and_own_files_are_left_out() {
    let logs = Logs::with("exclude = [\"*.swp\", \"debug/\"]");
    logs.write("app.log", "1\n");
    logs.write(".hidden.log", "hidden\n");
    logs.write("x.swp", "swapped\n");
    logs.write("debug/much.log", "much\n");
    fs::write(logs.0.path("secret"), "secret\n").unwrap();
    fs::create_dir(logs.0.path("elsewhere")).unwrap();
    fs::write(logs.0.path("elsewhere/x.log"), "elsewhere\n").unwrap();
    std::os::unix::fs::symlink(logs.0.path("secret"), logs.path("link.log")).unwrap();
    std::os::unix::fs::symlink(logs.0.path("elsewhere"), logs.path("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        logs.path("pipe.log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    let report = logs.run(0);
    assert_eq!(logs.store().logs().into_values().collect::<Vec<_>>(), ["1\n"]);
    let notes = findings(&report, "note").concat();
    assert!(notes.contains("link.log") && notes.contains("symbolic links are not followed"), "{notes}");
    // A pattern that reaches into handover's own folders takes nothing of them; and one that finds nothing is named.
    logs.config("paths = [\"{lab}/logs/**/*\", \"{lab}/none/*.log\", \"{lab}/log/app.log\"]", "");
    let said = findings(&logs.collect(), "warning").concat();
    assert!(said.contains("nothing matches") && said.contains("none/*.log"), "{said}");
    assert_eq!(logs.waiting().len(), 1);
}

#[test]
fn a_failure_of_one_channel_never_stops_the_other() {
    let logs = Logs::new();
    let element = |path: &str| {
        format!(
            "[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{{lab}}/{path}\"]\nallow_empty = true"
        )
    };
    logs.config("", &element("tree"));
    logs.0.run(&["source", "init"]).exits(0);
    logs.write("app.log", "1\n");
    let report = logs.run(0);
    assert!(report["generation"]["id"].is_string() && report["logs"]["id"].is_string(), "{report:#}");
    logs.config("", &element("missing"));
    logs.append("app.log", "2\n");
    let report = logs.run(3);
    assert_eq!(report["logs"]["bytes_read"], 2, "{report:#}");
    logs.config("", &element("tree"));
    fs::remove_dir(logs.0.path("logs/gate/")).unwrap_or_else(|_| {
        fs::rename(logs.0.path("logs/gate"), logs.0.path("gone")).unwrap();
    });
    let report = logs.run(10);
    assert!(report["generation"]["id"].is_string() && report["logs"].is_null(), "{report:#}");
    let said = findings(&report, "configuration").concat();
    assert!(said.contains("shop logs") && said.contains("handover source init"), "{said}");
}

#[test]
fn the_keys_of_one_channel_open_nothing_of_the_other() {
    let logs = Logs::new();
    logs.config("", crate::harness::TREE);
    // The homes are of users of their own, as `init` makes them.
    for (channel, home, uid) in [(Channel::Data, "home", 54_321), (Channel::Logs, "logs", 54_322)] {
        HandoverPoint::create(&logs.0.path(home), channel, Some((uid, uid))).unwrap();
    }
    logs.write("app.log", "1\n");
    let report = logs.run(0);
    let (data, log) = (report["generation"]["id"].as_str().unwrap(), report["logs"]["id"].as_str().unwrap());
    let root = logs.0.path("");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let gate = |uid: u32, channel: &str, home: &str, request: &str| {
        let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
        let home = logs.0.path(home);
        let args = [&ids[0], &ids[1], "--clear-groups", "--", crate::harness::HANDOVER];
        let mut command = logs.0.program("setpriv", &args);
        command.args(["source", "gate", "--channel", channel, "--home"]).arg(home);
        crate::harness::Ran::new(&command.env("SSH_ORIGINAL_COMMAND", request).output().unwrap())
    };
    let offers = gate(54_322, "logs", "logs", "handover 1 offers").exits(0).json();
    assert_eq!(offers["offers"].as_array().unwrap().len(), 1);
    assert_eq!(offers["offers"][0]["id"], *log);
    for channel in ["data", "logs"] {
        let refused = gate(54_322, channel, "home", "handover 1 offers").exits_with_failure();
        assert!(!refused.out.contains(data) && !refused.err.contains(data), "{refused:?}");
        gate(54_321, channel, "logs", "handover 1 offers").exits_with_failure();
    }
    // Even where one user has both homes, the key is bound to its channel.
    gate(0, "logs", "home", "handover 1 offers").exits_with_failure().says(&["not one of the channel logs"]);
    gate(0, "data", "logs", "handover 1 offers").exits_with_failure().says(&["not one of the channel data"]);
}

#[test]
fn the_logs_are_named_wherever_the_source_is_asked() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    logs.0
        .run(&["source", "--dry-run"])
        .exits(0)
        .says(&["app.log would be looked at", "logs: 0 generations waiting"]);
    logs.0.run(&["check"]).exits(0).says(&["the logs of 1 glob"]);
    logs.0.run(&["check", "--live"]).says(&["home of the logs", "1 file matches"]);
    let id = logs.run(0)["logs"]["id"].as_str().unwrap().to_owned();
    let status = logs.0.run(&["source", "status", "--json"]).exits(0).json();
    assert_eq!((&status["channel"], &status["waiting"][0]["id"]), (&"logs".into(), &id.into()));
    assert_eq!(status["last_success"]["exit"], "ok");
    let key = logs.0.path("key");
    crate::ssh::keygen(&key);
    let (public, file) = (logs.0.path("key.pub"), logs.0.path("authorized_keys"));
    let (public, file) = (public.to_str().unwrap(), file.to_str().unwrap());
    let authorize = ["source", "authorize", public, "--authorized-keys", file];
    logs.0.run(&[&authorize[..], &["--channel", "data"]].concat()).exits(10).says(&["[[source.element]]"]);
    logs.0.run(&authorize).exits(0);
    assert!(logs.0.text("authorized_keys").contains(" source gate --channel logs --home "));
}

#[test]
fn logs_that_nobody_fetches_are_seen_by_the_watch() {
    let logs = Logs::with("alarm_after = \"1s\"");
    logs.0.run(&["source", "watch"]).exits(0);
    logs.write("app.log", "1\n");
    logs.run(0);
    crate::harness::settle();
    let ran = logs.0.run(&["source", "watch"]).exits(4);
    ran.says(&["shop logs", "has not been fetched", "handover logsink status"]);
    let id = logs.waiting().remove(0);
    let sealed = seal(&logs, &id);
    accept(&logs, &id, sealed);
    logs.0.run(&["source", "watch"]).exits(0);
}

/// Cut before each of its durable steps and run again: nothing twice, nothing missing.
#[test]
fn a_log_run_cut_before_each_durable_step_and_run_again_takes_each_line_once() {
    let places = |logs: &Logs| {
        let fixed =
            ["logs/transport-outgoing", "logs/store", "logs/condemned", "logs/collecting", "logs/gate"];
        let state = ["state/source", "state/source/logs"];
        let ids = logs.waiting().into_iter().map(|id| format!("logs/transport-outgoing/{id}"));
        fixed.iter().chain(&state).map(|place| (*place).to_owned()).chain(ids).collect::<Vec<_>>()
    };
    let mut cuts = 0;
    for calls in ["rename,renameat,renameat2", "fsync,syncfs"] {
        for n in 1.. {
            let logs = Logs::of(Lab::in_memory(), "");
            logs.write("app.log", "1\n");
            logs.run(0);
            logs.append("app.log", "2\n");
            logs.copy_truncate("app.log", "app.log.1");
            logs.append("app.log", "3\n");
            if !dies_in(&logs.0, "source", calls, n, &places(&logs)) {
                break;
            }
            cuts += 1;
            nothing_is_left_of(&logs.0);
            logs.append("app.log", "4\n");
            logs.collect();
            assert_eq!(logs.cat("app.log"), "1\n2\n3\n4\n", "{calls} {n}");
            assert!(logs.collect()["logs"].is_null(), "{calls} {n}");
        }
    }
    assert!(cuts > 10, "{cuts}");
}
