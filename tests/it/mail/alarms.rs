//! What is mailed, spooled, printed and told by the exit code, when things go wrong one after the other.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::server::{LOGIN, Server, Speaks, configure};
use crate::harness::{Lab, findings, names};

const WAITS: &str = "[handover] shop: not fetched";

fn plain(lab: &Lab, source: &str, port: u16) {
    configure(lab, source, "", &format!("smtp+plain://127.0.0.1:{port}"), "");
}

fn spool(lab: &Lab) -> Vec<PathBuf> {
    names(&lab.path("state/source/spool"))
        .iter()
        .map(|name| lab.path("state/source/spool").join(name))
        .collect()
}

fn body(mail: &Value) -> &str {
    mail["body"].as_str().unwrap()
}

#[test]
fn a_failed_transport_and_a_failed_element_are_one_mail_and_one_when_all_is_well_again() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::StartTls);
    configure(&lab, "", "", &format!("smtp://localhost:{}", server.port), LOGIN);
    lab.write("file", "x");
    lab.init();
    lab.source(0);
    assert_eq!(server.mails().len(), 0);
    fs::rename(lab.path("tree"), lab.path("gone")).unwrap();
    for _ in 0..2 {
        lab.source(3);
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "what was told is not told again: {mails:#?}");
        assert_eq!(mails[0]["subject"], "[handover] shop: failed (and 2 more)");
        assert_eq!(mails[0]["headers"]["X-Handover-Exit"], "3 some-failed");
        for words in [
            "handover source run on ",
            "Exit code 3 (some-failed)",
            "found       ",
            "safe        ",
            "not fetched",
            "do next     look at the sink",
        ] {
            assert!(body(&mails[0]).contains(words), "{words}: {}", body(&mails[0]));
        }
    }
    fs::rename(lab.path("gone"), lab.path("tree")).unwrap();
    lab.sink(0);
    lab.source(0);
    let mails = server.mails();
    assert_eq!(mails.len(), 2, "{mails:#?}");
    assert_eq!(mails[1]["subject"], "[handover] shop: well again: failed (and 2 more)");
    assert!(body(&mails[1]).contains("well again: not fetched"), "{}", body(&mails[1]));
    assert_eq!(spool(&lab), Vec::<PathBuf>::new());
}

#[test]
fn a_mail_server_that_is_down_fails_no_backup_and_gets_the_mail_later() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    let port = server.port;
    plain(&lab, "", port);
    lab.write("file", "x");
    lab.init();
    drop(server);
    lab.source(0);
    let report = lab.source(4);
    let said = findings(&report, "alarm-not-delivered").concat();
    assert!(said.contains("a mail waits in ") && said.contains("no connection to 127.0.0.1"), "{report:#}");
    assert_eq!(spool(&lab).len(), 1);
    // All is well again, but nobody knows.
    lab.sink(0);
    let report = lab.source(16);
    assert_eq!(report["exit"], "alarm-not-delivered");
    assert!(report["generation"]["id"].is_string());
    assert_eq!(spool(&lab).len(), 2);
    lab.sink(0);
    lab.run(&["source", "watch"]).exits(16).says(&["2 in ", "tried again after", "check --send-test-mail"]);
    let server = Server::with_name(&lab, Speaks::Plain, "localhost", port);
    let later = lab.handover(&["source", "watch"]).env("HANDOVER_CLOCK", "+1h").output().unwrap();
    assert_eq!(later.status.code(), Some(0), "{later:?}");
    assert_eq!(server.subjects(), [WAITS, "[handover] shop: well again: not fetched"]);
    assert_eq!(spool(&lab).len(), 0);
}

/// Takes every connection, says this, and never a word more.
fn mute(greeting: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for line in listener.incoming() {
            let mut line = line.unwrap();
            line.write_all(greeting.as_bytes()).unwrap();
            held.push(line);
        }
    });
    port
}

#[test]
fn a_mail_server_that_hangs_is_given_up_in_time_fails_no_backup_and_gets_the_mail_later() {
    for greeting in ["", "220 mail ESMTP\r\n"] {
        let lab = Lab::new();
        let server = mute(greeting);
        plain(&lab, "", server);
        let text = lab.text("handover.toml").replace("timeout = \"10s\"", "timeout = \"2s\"");
        lab.config_text(&text);
        lab.write("file", "x");
        lab.init();
        lab.source(0);
        let start = Instant::now();
        let report = lab.source(4);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert!(report["generation"]["id"].is_string(), "{report:#}");
        let said = findings(&report, "alarm-not-delivered").concat();
        assert!(said.contains("a mail waits in "), "{report:#}");
        assert_eq!(spool(&lab).len(), 1);
        // A backup is fetched meanwhile, and the mail goes out when somebody takes it.
        lab.sink(0);
        let server = Server::start(&lab, Speaks::Plain);
        plain(&lab, "", server.port);
        let later = lab.handover(&["source", "watch"]).env("HANDOVER_CLOCK", "+1h").output().unwrap();
        assert_eq!(later.status.code(), Some(0), "{later:?}");
        assert_eq!(server.subjects().first().map(String::as_str), Some(WAITS));
        assert_eq!(spool(&lab).len(), 0);
    }
}

#[test]
fn a_kill_between_writing_and_sending_loses_no_mail() {
    let lab = Lab::new();
    // It takes connections and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    plain(&lab, "", mute.local_addr().unwrap().port());
    lab.write("file", "x");
    lab.init();
    lab.source(0);
    let mut run = lab.handover(&["source", "run"]).stderr(Stdio::null()).spawn().unwrap();
    let (line, _) = mute.accept().unwrap();
    assert_eq!(spool(&lab).len(), 1, "it is sent before it is written");
    run.kill().unwrap();
    run.wait().unwrap();
    drop(line);
    assert_eq!(spool(&lab).len(), 1);
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "", server.port);
    lab.source(4);
    assert_eq!((server.subjects(), spool(&lab).len()), (vec![WAITS.to_owned()], 0));
    // Killed after delivery: it comes twice, and mail programs can tell by its id.
    let mail = server.mails()[0]["headers"]["Message-ID"].as_str().unwrap().to_owned();
    assert!(mail.ends_with("@shop.example.org>"), "{mail}");
}

#[test]
fn a_full_disk_is_mailed_from_memory() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "", server.port);
    let image = lab.path("tmp/disk");
    let at = lab.path("state");
    fs::create_dir(&at).unwrap();
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-ec", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    shell(&format!(
        "truncate -s 4M {0} && mkfs.ext4 -q -m 0 {0} && mount -o loop {0} {1}",
        image.display(),
        at.display()
    ));
    let disk = Mounted(at.clone());
    lab.write("file", "x");
    lab.init();
    lab.source(0);
    shell(&format!("head -c 8M /dev/zero > {0}/stranger || sync -f {0}/stranger", at.display()));
    let report = lab.source(14);
    assert!(!findings(&report, "storage").is_empty(), "{report:#}");
    let said = findings(&report, "warning").concat();
    assert!(said.contains("sent from memory") && said.contains("No space left"), "{report:#}");
    let subject = &server.subjects()[0];
    assert!(subject.starts_with("[handover] shop: ") && subject.contains("storage (and "), "{subject}");
    assert!(body(&server.mails()[0]).contains("No space left"));
    fs::remove_file(at.join("stranger")).unwrap();
    lab.sink(0);
    lab.source(0);
    drop(disk);
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_mailed_if_it_says_whom_to_tell() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "", server.port);
    lab.write("file", "x");
    lab.init();
    let good = lab.text("handover.toml");
    lab.config_text(&good.replace("[[source.element]]", "[[source.element]]\nkin = 1"));
    lab.run(&["source", "status"]).exits(10);
    assert_eq!(server.mails().len(), 0, "somebody looks at it");
    for _ in 0..2 {
        lab.run(&["source", "run"]).exits(10).says(&["kin", "unknown key"]);
        assert_eq!(server.subjects(), ["[handover] configuration: configuration"]);
    }
    assert!(body(&server.mails()[0]).contains("unknown key"));
    lab.config_text(&good);
    lab.source(0);
    assert_eq!(server.subjects()[1], "[handover] configuration: well again: configuration");
    // Root leaves nothing in a folder that is another user's.
    lab.config_text(&good.replace("[[source.element]]", "[[source.element]]\nkin = 1"));
    fs::remove_dir_all(lab.path("state/source")).unwrap();
    fs::create_dir(lab.path("state/source")).unwrap();
    std::os::unix::fs::chown(lab.path("state/source"), Some(65534), Some(65534)).unwrap();
    lab.run(&["source", "run"]).exits(10).says(&["sent from memory"]);
    assert_eq!((server.mails().len(), names(&lab.path("state/source")).len()), (3, 0));
}

#[test]
fn the_store_that_cannot_be_opened_is_mailed_by_the_sink_and_a_busy_run_tells_nothing() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "", server.port);
    lab.write("file", "x");
    lab.init().both();
    lab.source(0);
    fs::rename(lab.path("sink"), lab.path("elsewhere")).unwrap();
    lab.sink(14);
    lab.run(&["sink", "watch"]).exits(14);
    assert_eq!(server.subjects(), ["[handover] store: storage"]);
    fs::rename(lab.path("elsewhere"), lab.path("sink")).unwrap();
    let held = fs::File::open(lab.path("state/sink/lock-shop")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    lab.sink(11);
    assert_eq!(server.mails().len(), 1);
    drop(held);
    lab.sink(0);
    assert_eq!(server.subjects()[1..], ["[handover] store: well again: storage"]);
}

#[test]
fn in_real_time_a_generation_that_nobody_fetches_is_mailed_once() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "alarm_after = \"3s\"", server.port);
    lab.write("file", "x");
    lab.init();
    lab.source(0);
    let end = Instant::now() + Duration::from_secs(40);
    while server.mails().is_empty() {
        assert!(Instant::now() < end, "it is never told");
        thread::sleep(Duration::from_millis(300));
        lab.run(&["source", "watch"]);
    }
    lab.run(&["source", "watch"]).exits(3).says(&["waits since", "handover sink status"]);
    // Mail tells, so cron need not.
    let quiet = lab.run(&["--quiet", "source", "watch"]).exits(3);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let told = server.mails();
    assert_eq!(
        (told.len(), &told[0]["subject"]),
        (1, &"[handover] shop: overdue (and 1 more)".into()),
        "{told:#?}"
    );
    assert!(body(&told[0]).contains("nothing was collected since"), "{}", body(&told[0]));
    lab.sink(0);
    lab.run(&["source", "watch"]);
    assert!(body(&server.mails()[1]).contains("well again: not fetched"), "{:#?}", server.mails());
}

#[test]
fn damage_in_the_store_is_mailed_when_it_is_found_and_when_it_is_healed() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    plain(&lab, "", server.port);
    lab.write("file", "content of the file");
    lab.init();
    let id = lab.both();
    let stored = lab.stored(format!("sink/store/shop/{id}"), "file");
    fs::set_permissions(&stored, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    fs::write(&stored, "cONTENT of the file").unwrap();
    lab.run(&["sink", "verify"]).exits(13);
    let damaged = "[handover] shop: damaged in the store";
    assert_eq!(server.subjects(), [damaged]);
    let mails = server.mails();
    for words in [format!("{id} (1 file)"), "handover sink verify shop --heal".to_owned()] {
        assert!(body(&mails[0]).contains(&words), "{words}: {}", body(&mails[0]));
    }
    // It lasts, whoever looks, and a run that has nothing to do with it does not end it.
    lab.run(&["sink", "verify"]).exits(13);
    lab.sink(0);
    lab.run(&["sink", "watch"]).exits(13).says(&["damaged in the store", &id]);
    assert_eq!(server.subjects(), [damaged]);
    lab.run(&["sink", "verify", "--heal"]).exits(0);
    assert_eq!(server.subjects(), [damaged, "[handover] shop: well again: damaged in the store"]);
    lab.run(&["sink", "watch"]).exits(0);
    // A generation that cannot be read at all, found by the watch alone.
    let own = lab.path("sink/store/shop").join(&id).join("generation.toml");
    let text = fs::read_to_string(&own).unwrap();
    fs::remove_file(&own).unwrap();
    lab.run(&["sink", "watch"]).exits(13);
    fs::write(&own, text).unwrap();
    lab.run(&["sink", "watch"]).exits(0);
    assert_eq!(server.subjects().len(), 4, "{:?}", server.subjects());
}
