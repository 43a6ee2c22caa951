//! Text for people: tables, sizes, ages. Printing happens here and nowhere else.

use std::io::{self, IsTerminal as _, Write as _};

pub use crate::sys::{
    room::human as size,
    words::{count, files},
};
use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    notify,
    report::{Exit, Finding, Kind, Timing},
};

/// Prints a line of data; a reader that has gone is no error.
pub fn data(text: &str) {
    finish(io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().write_all(b"\n")));
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            data(&text);
            Exit::Ok
        }
        Err(e) => {
            talk(&format!("handover: internal: {e}"));
            Exit::Internal
        }
    }
}

/// Says a line to the operator.
pub fn talk(text: &str) {
    finish(io::stderr().write_all(text.as_bytes()).and_then(|()| io::stderr().write_all(b"\n")));
}

fn finish(result: io::Result<()>) {
    if result.is_err() {
        // Whoever read it has gone; the exit code still tells.
    }
}

/// Whether somebody watches.
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Says the findings. Notes are for those who watch; under cron only what needs somebody is said.
pub fn findings(name: &str, findings: &[Finding], quiet: bool) {
    for finding in findings {
        match finding.kind {
            Kind::Note if quiet || !is_terminal() => {}
            Kind::Note => talk(&format!("note: {}", notify::body(finding))),
            Kind::Warning => talk(&format!("warning: {}", notify::body(finding))),
            kind if !kind.is_alarm() => talk(&format!("error: {}", notify::body(finding))),
            _ => {}
        }
    }
    // One for each trouble; under cron it becomes a mail where no other is configured.
    for alarm in notify::alarms(name, findings) {
        let word = if alarm.kind.exit() == Exit::Ok { "warning" } else { "error" };
        talk(&format!("{word}: {}", alarm.body));
    }
}

/// Says where the time of a source's run went.
pub fn timings(source: &str, timings: &[Timing]) {
    let sum: f64 = timings.iter().map(|t| t.seconds).sum();
    let row = |phase: &str, seconds: f64| {
        let share = if sum > 0.0 { seconds / sum * 100.0 } else { 0.0 };
        vec![source.to_owned(), phase.to_owned(), format!("{seconds:.3}"), format!("{share:.0} %")]
    };
    let mut rows: Vec<_> = timings.iter().map(|t| row(&t.phase, t.seconds)).collect();
    rows.push(row("all of these", sum));
    talk(&table(&["source", "phase", "seconds#", "share#"], rows));
}

/// A plain table; columns whose head ends in `#` are numbers and stand to the right.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|h| h.trim_end_matches('#')));
    table.add_rows(rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if head.get(i).is_some_and(|h| h.ends_with('#')) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// How long ago something was, for people.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    match seconds {
        i64::MIN..=-1 => "in the future".to_owned(),
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_one_digit_where_it_says_something() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 104_857_600, u64::MAX].map(size).to_vec();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "16383 PiB"]);
    }

    #[test]
    fn a_time_that_has_not_come_is_not_an_age() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        assert_eq!(age(now, now), "0 s");
        assert_eq!(age("2026-11-23T04:00:00Z".parse().unwrap(), now), "in the future");
        assert_eq!(age("2026-11-20T03:00:00Z".parse().unwrap(), now), "3 days");
    }
}
