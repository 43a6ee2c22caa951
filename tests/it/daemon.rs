//! Daemons: they run by their times, survive what happens to a run, and stop when they are asked to.

use std::{
    fs::{self, File},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Lab, names, processes_with};

/// Longer than anything takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// A daemon of the lab; ended when it is dropped.
struct Daemon<'a> {
    lab: &'a Lab,
    child: Child,
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl<'a> Daemon<'a> {
    /// Starts one whose output goes to files of the lab, which are emptied before.
    fn start(lab: &'a Lab, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = lab.handover(args);
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(File::create(lab.path("out")).unwrap());
        command.stderr(File::create(lab.path("err")).unwrap());
        Self { lab, child: command.spawn().unwrap() }
    }

    fn said(&self) -> String {
        self.lab.text("out") + &self.lab.text("err")
    }

    #[track_caller]
    fn says(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            assert!(Instant::now() < deadline, "`{text}` is missing in:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Asks it to stop, and waits for that. Its exit code.
    fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.end()
    }

    fn end(&mut self) -> Option<i32> {
        let mut code = None;
        wait_for("it has ended", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal("-TERM");
            let deadline = Instant::now() + Duration::from_secs(70);
            while self.child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            self.child.kill().unwrap();
        }
    }
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init();
    lab
}

/// A lab whose mails are files in `mails/`.
fn lab_with_mail(source: &str) -> Lab {
    let lab = Lab::new();
    lab.write("file", "x");
    fs::create_dir(lab.path("mails")).unwrap();
    lab.fake("sendmail", "cat > $(mktemp {lab}/mails/XXXXXX)");
    let sendmail = lab.path("bin/sendmail").display().to_string();
    let mail =
        format!("[mail]\nto = [\"ops@example.org\"]\nfrom = \"h@example.org\"\nsendmail = \"{sendmail}\"\n");
    lab.config(source, &format!("{}\n{mail}", crate::harness::TREE), "");
    lab.init();
    lab
}

fn mails(lab: &Lab) -> String {
    names(&lab.path("mails")).iter().map(|name| lab.text(format!("mails/{name}"))).collect()
}

fn note(lab: &Lab) -> Value {
    serde_json::from_str(&lab.text("state/source/daemon.json")).unwrap()
}

#[test]
fn two_daemons_bring_generations_over_and_their_health_is_told() {
    let lab = lab();
    lab.run(&["health"]).exits(1).says(&["no daemon was ever started"]);
    let mut source = Daemon::start(&lab, &["source", "daemon", "--every", "1s"], &[]);
    wait_for("a generation waits", || !lab.waiting().is_empty());
    source.says("source run: ok (exit code 0)");
    let out = fs::File::create(lab.path("sink.out")).unwrap();
    let mut command = lab.handover(&["sink", "daemon", "--every", "1s", "--json"]);
    let mut sink = Daemon { lab: &lab, child: command.stdout(out).spawn().unwrap() };
    wait_for("two are stored", || names(&lab.path("sink/store/shop")).len() >= 2);
    let first = lab.text("sink.out");
    let ran = first.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(ran.into_iter().any(|line| line["action"] == "run" && line["exit"] == "ok"), "{first}");
    wait_for("both are healthy", || lab.run(&["health"]).code == 0);
    lab.run(&["health"]).exits(0).says(&["healthy: source: shop: ", "healthy: sink: shop: "]);
    // There is one of each role.
    lab.run(&["sink", "daemon", "--every", "1s"]).exits(11).says(&["handover sink daemon, process"]);
    assert_eq!(sink.stop(), Some(0));
    lab.run(&["health"]).exits(1).says(&["unhealthy: sink: its daemon is not at work"]);
    assert_eq!(source.stop(), Some(0));
    assert!(source.said().contains("source daemon: stopped"), "{}", source.said());
}

#[test]
fn what_was_missed_is_made_up_for_once_after_a_start() {
    let lab = lab();
    let nightly = ["source", "daemon", "--schedule", "0 2 * * *"];
    let mut first = Daemon::start(&lab, &["source", "daemon", "--every", "1h"], &[]);
    first.says("source run: ok");
    first.stop();
    // Two days later: two nights were missed.
    let later = [("HANDOVER_CLOCK", "+50h")];
    let mut second = Daemon::start(&lab, &nightly, &later);
    second.says("makes up for what was missed");
    second.says("source run: ");
    second.stop();
    assert_eq!(lab.waiting().len(), 2, "{:?}", lab.waiting());
    let mut third = Daemon::start(&lab, &nightly, &later);
    third.says("source daemon: next run");
    assert!(third.said().contains("T02:00:00+00:00, next watch"), "{}", third.said());
    third.stop();
    assert_eq!(lab.waiting().len(), 2, "{:?}", lab.waiting());
}

#[test]
fn a_run_is_stopped_with_the_daemon_and_gone_on_with_after_the_next_start() {
    let lab = lab();
    let hangs = "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db\"\n\
                 command = [\"sh\", \"-c\", \"touch {lab}/begun; exec sleep 300\"]";
    lab.config("schedule = \"0 2 * * *\"", hangs, "");
    let mut daemon = Daemon::start(&lab, &["source", "daemon", "--every", "1h"], &[]);
    wait_for("the run has begun", || lab.path("begun").exists());
    assert_eq!(note(&lab)["jobs"]["run"]["ended"], Value::Null);
    assert_eq!(daemon.stop(), Some(0));
    daemon.says("source run: interrupted (exit code 130)");
    assert_eq!(processes_with(&lab.path("begun").display().to_string()), Vec::<String>::new());
    assert_eq!(note(&lab)["jobs"]["run"]["code"], 130);
    lab.config("schedule = \"0 2 * * *\"", crate::harness::TREE, "");
    let mut next = Daemon::start(&lab, &["source", "daemon"], &[]);
    next.says("was cut: it is gone on with");
    next.says("source run: ok");
    next.stop();
    assert_eq!(lab.waiting().len(), 1);
}

#[test]
fn a_broken_configuration_is_refused_and_the_last_good_one_stays_in_force() {
    let lab = lab_with_mail("every = \"1s\"");
    let good = lab.text("handover.toml");
    let mut daemon = Daemon::start(&lab, &["source", "daemon"], &[]);
    daemon.says("source run: ok");
    lab.config_text(&good.replace("every =", "evry ="));
    daemon.signal("-HUP");
    daemon.says("the configuration that was read last stays in force");
    daemon.says("[source] evry: unknown key");
    let before = lab.waiting().len();
    wait_for("it goes on", || lab.waiting().len() > before + 1);
    wait_for("a mail was sent", || mails(&lab).contains("evry"));
    lab.run(&["health"]).exits(1).says(&["the configuration is wrong"]);
    // The new one holds from now on.
    lab.config_text(&good.replace("every = \"1s\"", "schedule = \"0 2 29 2 *\""));
    daemon.signal("-HUP");
    daemon.says("-02-29T02:00:00");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_run_that_is_killed_does_not_end_the_daemon_and_is_mailed() {
    let lab = lab_with_mail("every = \"2s\"");
    let slow = lab.text("handover.toml")
        + "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db\"\n\
         command = [\"sh\", \"-c\", \"test -e {lab}/killed || { touch {lab}/begun; sleep 300; }; echo x\"]\n";
    lab.config_text(&slow);
    let mut daemon = Daemon::start(&lab, &["source", "daemon"], &[]);
    wait_for("the run has begun", || lab.path("begun").exists());
    fs::write(lab.path("killed"), "").unwrap();
    let children = format!("/proc/{0}/task/{0}/children", daemon.child.id());
    let run = fs::read_to_string(children).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-KILL", &run]).status().unwrap().success(), "{run}");
    daemon.says("source run: crashed (exit code 137)");
    daemon.says("ended with signal 9 and could tell nobody");
    wait_for("a mail was sent", || mails(&lab).contains("signal 9"));
    wait_for("the next run is well", || daemon.said().contains("source run: ok"));
    wait_for("that is mailed too", || mails(&lab).contains("source run: well again: internal error"));
    assert_eq!(daemon.stop(), Some(0));
    for left in processes_with(&lab.path("begun").display().to_string()) {
        let pid = left.split(' ').next().unwrap().to_owned();
        Command::new("kill").arg(pid).status().unwrap();
    }
}

#[test]
fn while_a_run_by_hand_is_at_work_the_daemon_waits() {
    let lab = lab();
    let hangs = "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db\"\n\
                 command = [\"sh\", \"-c\", \"touch {lab}/begun; exec sleep 300\"]";
    lab.config("", hangs, "");
    let mut by_hand = lab.handover(&["source"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the run has begun", || lab.path("begun").exists());
    let mut daemon = Daemon::start(&lab, &["source", "daemon", "--every", "1h"], &[]);
    daemon.says("source run: busy (exit code 11)");
    daemon.says("another run is at work, it is tried again from");
    daemon.stop();
    assert!(Command::new("kill").arg(by_hand.id().to_string()).status().unwrap().success());
    by_hand.wait().unwrap();
}

#[test]
fn systemd_is_told_when_it_is_ready_lives_reads_anew_and_stops() {
    let lab = lab();
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = lab.path("notify").display().to_string();
    let environment = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "400000")];
    let mut daemon = Daemon::start(&lab, &["source", "daemon", "--schedule", "0 2 * * *"], &environment);
    let mut told = String::new();
    let mut hear = |wanted: &str| {
        while !told.contains(wanted) {
            let mut bytes = [0; 4096];
            let count = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("{wanted}: {e}"));
            told.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        told.clear();
    };
    hear("READY=1");
    hear("STATUS=next run ");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    daemon.signal("-HUP");
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    daemon.signal("-TERM");
    hear("STOPPING=1");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn the_next_times_are_shown_without_a_run() {
    let lab = lab();
    let summer = [("HANDOVER_CLOCK", "2026-10-24T12:00:00Z")];
    let schedule = "30 2 * * * Europe/Vienna";
    let args = ["source", "daemon", "--dry-run", "--count", "2", "--json", "--schedule", schedule];
    let output = lab.handover(&args).envs(summer).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown[0]["times"], serde_json::json!(["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]));
    assert_eq!(shown[1]["action"], "watch");
    assert!(!lab.path("state/source/daemon-lock").exists() && lab.waiting().is_empty());
}

#[test]
fn a_daemon_without_times_or_with_wrong_ones_says_what_to_write() {
    let lab = lab();
    lab.run(&["sink", "daemon"]).exits(10).says(&["when is it to run?", "[sink]", "--schedule"]);
    lab.run(&["source", "daemon", "--schedule", "0 25 * * *"]).exits(2).says(&["in range 0..=23"]);
    lab.run(&["source", "daemon", "--every", "1h", "--jitter", "2h"]).exits(10).says(&["shorter"]);
    lab.run(&["logsink", "daemon"]).exits(10).says(&["[logsink]"]);
}

#[test]
fn with_json_every_line_is_json_also_what_a_run_says() {
    let lab = lab();
    fs::remove_dir_all(lab.path("tree")).unwrap();
    let mut daemon = Daemon::start(&lab, &["source", "daemon", "--every", "1h", "--json"], &[]);
    daemon.says("\"from\":\"source run\"");
    daemon.says("\"exit\":\"some-failed\"");
    // A configuration that is refused while it runs.
    fs::write(lab.path("handover.toml"), "[source\n").unwrap();
    daemon.signal("-HUP");
    daemon.says("stays in force");
    assert_eq!(daemon.stop(), Some(0));
    let said = daemon.said();
    let mut runs = 0;
    for line in said.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{said}"));
        assert!(value["at"].is_string(), "{line}");
        runs += usize::from(value["from"] == "source run" && value["text"].as_str().unwrap().contains("www"));
    }
    assert!(runs > 0, "{said}");
    assert_eq!(lab.text("err"), "");
}
