//! A program that writes all the time, while its log is rotated and collected: every line once, in order.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::Logs;

const LINES: u64 = 200_000;

/// Numbered lines of 16 bytes, one write each, so that none lies across two pages of memory: a copy that is made while a
/// line is written could hold a part of it; it opens its log again when it gets SIGHUP, and touches `end` at the end.
const WRITER: &str = "
trap 'exec 3>>\"$0\"' HUP
exec 3>>\"$0\"
for ((i = 1; i <= LINES; i++)); do printf 'line %010d\\n' $i >&3; done
> \"$1\"";

struct Writer(Child);

impl Writer {
    fn start(logs: &Logs) -> Self {
        let script = WRITER.replace("LINES", &LINES.to_string());
        let child = Command::new("bash")
            .args(["-c", &script])
            .arg(logs.path("app.log"))
            .arg(logs.0.path("end"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| logs.path("app.log").exists());
        Self(child)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn is_done(logs: &Logs) -> bool {
        logs.0.path("end").exists()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Collects again and again until it is told to stop, and then once more.
fn collect_while(logs: &Logs, work: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let collecting = scope.spawn(|| {
            let mut runs = 0;
            while !stop.load(Ordering::Relaxed) {
                logs.collect();
                runs += 1;
            }
            logs.collect();
            runs
        });
        work();
        stop.store(true, Ordering::Relaxed);
        collecting.join().unwrap()
    })
}

/// Moves all rotated files one up, as logrotate does, packed ones too.
fn shift(logs: &Logs, upto: u32) {
    for n in (1..=upto).rev() {
        for end in ["", ".gz"] {
            let from = format!("app.log.{n}{end}");
            if logs.path(&from).exists() {
                logs.rename(&from, &format!("app.log.{}{end}", n + 1));
            }
        }
    }
}

fn numbers(text: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix("line ").filter(|n| n.len() == 10)?.parse().ok();
    text.lines().map(|line| number(line).unwrap_or_else(|| panic!("a torn line: {line}"))).collect()
}

#[test]
fn every_line_of_a_log_that_is_renamed_comes_out_once_and_in_order() {
    let logs = Logs::with("max_waiting = 100000");
    let mut rotations = 0;
    let runs = collect_while(&logs, || {
        let writer = Writer::start(&logs);
        while !Writer::is_done(&logs) {
            shift(&logs, rotations);
            logs.rename("app.log", "app.log.1");
            rotations += 1;
            writer.signal("-HUP");
            wait_for(|| logs.path("app.log").exists() || Writer::is_done(&logs));
            if Writer::is_done(&logs) {
                break;
            }
            // The elder one is written to no more.
            if logs.path("app.log.2").exists() {
                logs.pack("gzip", "app.log.2");
            }
            thread::sleep(Duration::from_millis(60));
        }
    });
    assert!(rotations > 3 && runs > 2, "{rotations} rotations, {runs} runs");
    let found = numbers(&logs.cat("app.log"));
    let wrong = found.iter().zip(1..).position(|(found, expected)| *found != expected);
    assert_eq!((wrong, found.len() as u64), (None, LINES), "{rotations} rotations, {runs} runs");
}

#[test]
fn of_a_log_that_is_copied_and_truncated_all_comes_out_that_was_still_in_a_file() {
    let logs = Logs::with("max_waiting = 100000");
    let mut rotations = 0;
    let runs = collect_while(&logs, || {
        let _writer = Writer::start(&logs);
        while !Writer::is_done(&logs) {
            shift(&logs, rotations);
            logs.copy_truncate("app.log", "app.log.1");
            rotations += 1;
            if logs.path("app.log.2").exists() {
                logs.pack("gzip", "app.log.2");
            }
            thread::sleep(Duration::from_millis(60));
        }
    });
    assert!(rotations > 3 && runs > 2, "{rotations} rotations, {runs} runs");
    let found = numbers(&logs.cat("app.log"));
    let wrong = found.windows(2).position(|two| two[0] >= two[1]);
    let around = wrong.map(|at| &found[at.saturating_sub(2)..(at + 4).min(found.len())]);
    assert_eq!(around, None, "twice, or out of order");
    let found: BTreeSet<u64> = found.into_iter().collect();
    let mut still = BTreeSet::new();
    for entry in fs::read_dir(logs.path("")).unwrap() {
        still.extend(numbers(&content(&entry.unwrap().path())));
    }
    let missed: Vec<&u64> = still.difference(&found).collect();
    assert_eq!(missed, Vec::<&u64>::new(), "{rotations} rotations, {runs} runs");
    println!(
        "{rotations} rotations, {runs} runs, {} lines lost between copy and truncation",
        LINES - found.len() as u64
    );
}

fn content(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap();
    match path.extension().is_some_and(|end| end == "gz") {
        true => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap(),
        false => std::io::BufReader::new(file).read_to_string(&mut text).unwrap(),
    };
    text
}
