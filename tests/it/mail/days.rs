//! Days that go by without a sink, or without a source, by a clock that the test sets.

use serde_json::Value;

use super::server::{Server, Speaks, configure};
use crate::harness::{Lab, Ran};

/// A lab in which time goes by.
struct Days {
    lab: Lab,
    server: Server,
}

impl Days {
    fn new(source: &str, sink: &str) -> Self {
        let lab = Lab::new();
        let server = Server::start(&lab, Speaks::Plain);
        configure(&lab, source, sink, &format!("smtp+plain://127.0.0.1:{}", server.port), "");
        lab.write("file", "x");
        lab.init();
        Self { lab, server }
    }

    /// Runs a command so many hours after now.
    fn at(&self, hour: u32, args: &[&str]) -> Ran {
        let mut command = self.lab.handover(args);
        let output = command.env("HANDOVER_CLOCK", format!("+{hour}h")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a command at each of these hours; gives the subjects of the mails with the hour of each.
    fn watch(&self, hours: impl Iterator<Item = u32>, run: impl Fn(&Self, u32)) -> Vec<(u32, String)> {
        let mut told = Vec::new();
        for hour in hours {
            let before = self.server.mails().len();
            run(self, hour);
            told.extend(self.server.subjects().into_iter().skip(before).map(|subject| (hour, subject)));
        }
        told
    }
}

fn body(mail: &Value) -> &str {
    mail["body"].as_str().unwrap()
}

fn is(told: &[(u32, String)], expected: &[(u32, &str)]) {
    let told: Vec<(u32, &str)> = told.iter().map(|(hour, subject)| (*hour, subject.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_sink_that_stays_away_for_days_is_one_mail_a_reminder_each_day_and_one_mail_when_it_is_back() {
    let days = Days::new("max_waiting = 3", "");
    // Every night a run, every second hour a watch.
    let night = |days: &Days, hour: u32| {
        if hour.is_multiple_of(24) {
            let code = if hour == 0 { 0 } else { 4 };
            days.at(hour, &["source", "run"]).exits(code);
        }
        days.at(hour, &["source", "watch"]);
        assert!(days.lab.waiting().len() <= 3, "the Handover Point grows");
    };
    let told = days.watch((0..=98).step_by(2), night);
    is(
        &told,
        &[
            (24, "[handover] shop: not fetched"),
            (46, "[handover] shop: still not fetched"),
            (70, "[handover] shop: still not fetched"),
            (72, "[handover] shop: Handover Point full"),
            (94, "[handover] shop: still not fetched (and 1 more)"),
        ],
    );
    assert_eq!(days.lab.waiting().len(), 3);
    days.at(100, &["sink", "run"]).exits(0);
    let told = days.watch((100..=130).step_by(2), |days, hour| {
        days.at(hour, &["source", "watch"]);
    });
    is(&told[..1], &[(100, "[handover] shop: well again: Handover Point full (and 1 more)")]);
    // Then it is the source that does not run.
    is(&told[1..], &[(122, "[handover] shop: overdue")]);
    days.at(132, &["source", "run"]).exits(0);
    let told = days.watch([132, 134].into_iter(), |days, hour| {
        days.at(hour, &["source", "watch"]).exits(0);
    });
    is(&told, &[(132, "[handover] shop: well again: overdue")]);
}

#[test]
fn the_sink_sees_that_nothing_new_came_whether_it_ran_or_not() {
    let days = Days::new("", "alarm_after = \"30h\"");
    // Never a backup, from the first look on.
    let look = |days: &Days, hour: u32| {
        days.at(hour, &["sink", "watch"]);
    };
    is(&days.watch((0..=32).step_by(4), look), &[(32, "[handover] shop: overdue")]);
    assert!(body(&days.server.mails()[0]).contains("no verified generation of it is here"));
    days.at(33, &["source", "run"]).exits(0);
    // The sink runs, but nothing new is offered for long.
    days.at(33, &["sink", "run"]).exits(0);
    is(&days.watch([34].into_iter(), look), &[(34, "[handover] shop: well again: overdue")]);
    let told = days.watch((36..=112).step_by(4), |days, hour| {
        if hour.is_multiple_of(12) {
            days.at(hour, &["sink", "run"]).exits(0);
        }
        look(days, hour);
    });
    is(
        &told,
        &[
            (64, "[handover] shop: overdue"),
            (88, "[handover] shop: still overdue"),
            (112, "[handover] shop: still overdue"),
        ],
    );
    let failed = days.at(113, &["--json", "sink", "watch"]).exits(3).json();
    assert_eq!((&failed["exit"], &failed["findings"][0]["kind"]), (&"some-failed".into(), &"overdue".into()));
    assert!(failed["findings"][0]["text"].as_str().unwrap().contains("(80h"), "{failed:#}");
    days.at(114, &["source", "run"]).exits(0);
    days.at(114, &["sink", "run"]).exits(0);
    is(&days.watch([114].into_iter(), look), &[(114, "[handover] shop: well again: overdue")]);
}

#[test]
fn what_is_only_stored_counts_where_nothing_is_verified() {
    let days = Days::new("", "alarm_after = \"30h\"\nverify = \"none\"");
    days.at(0, &["source", "run"]).exits(0);
    days.at(1, &["sink", "run"]).exits(0);
    days.at(29, &["sink", "watch"]).exits(0);
    days.at(32, &["sink", "watch"]).exits(3).says(&["the newest stored generation"]);
}

#[test]
fn a_disk_that_is_nearly_full_is_told_in_time() {
    let days = Days::new("", "");
    let text = days.lab.text("handover.toml");
    // So much of it that half of that is still free, and it is not.
    let room = rustix::fs::statvfs(days.lab.path("home")).unwrap();
    let reserve = room.f_bavail * room.f_frsize / 10 * 7;
    days.lab.config_text(&text.replace("reserve = \"0B\"", &format!("reserve = {reserve}")));
    days.at(0, &["source", "run"]).exits(0).says(&["MiB are free"]);
    days.at(0, &["sink", "run"]).exits(0);
    days.at(1, &["source", "watch"]).exits(0);
    assert_eq!(
        days.server.subjects(),
        ["[handover] shop: home: disk nearly full", "[handover] store: disk nearly full"]
    );
    days.lab.config_text(&text);
    days.at(2, &["source", "watch"]).exits(0);
    days.at(2, &["sink", "watch"]).exits(0);
    assert_eq!(days.server.subjects()[2], "[handover] shop: home: well again: disk nearly full");
    assert_eq!(days.server.mails().len(), 4);
}

#[test]
fn a_release_has_no_clock_but_that_of_the_host() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let clock = std::fs::read_to_string(src.join("sys/clock.rs")).unwrap();
    let (before, after) = clock.split_once("HANDOVER_CLOCK").unwrap();
    // The only module that reads it is compiled with debug assertions alone, and so is its only use.
    assert!(before.contains("#[cfg(debug_assertions)]\nmod shift {"), "{clock}");
    assert!(after.trim_end().ends_with("\n}"), "{clock}");
    assert_eq!(clock.matches("#[cfg(debug_assertions)]\n").count(), 2, "{clock}");
    let elsewhere =
        std::process::Command::new("grep").args(["-rl", "HANDOVER_CLOCK"]).arg(&src).output().unwrap();
    let files = String::from_utf8(elsewhere.stdout).unwrap();
    assert_eq!(files.lines().collect::<Vec<_>>(), [src.join("sys/clock.rs").to_str().unwrap()]);
    let manifest = std::fs::read_to_string(src.join("../Cargo.toml")).unwrap();
    assert!(!manifest.contains("debug-assertions"), "a release must not be built with them");
}
