//! Nagios and Prometheus.

use std::{collections::BTreeSet, fs, path::Path};

use handover::cli::metrics::METRICS;
use openmetrics_parser::{PrometheusType, prometheus::parse_prometheus};

use crate::harness::{Lab, Ran, TREE, names};

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("a", "one");
    lab.init();
    lab
}

/// A line of Nagios's: one, with the word, and numbers of the right form.
#[track_caller]
fn nagios(lab: &Lab, role: &str, code: i32, words: &[&str]) -> String {
    let ran = lab.run(&[role, "status", "--nagios"]).exits(code);
    let line = ran.out.trim_end().to_owned();
    assert_eq!(ran.out, format!("{line}\n"), "more than one line");
    let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(code).unwrap()];
    assert!(line.starts_with(&format!("HANDOVER {word} - ")), "{line}");
    for word in words {
        assert!(line.contains(word), "`{word}` is missing in {line}");
    }
    if let Some((_, numbers)) = line.split_once(" | ") {
        for number in numbers.split(' ') {
            let (label, rest) = number.split_once('=').unwrap();
            assert!(label.starts_with('\'') && label.ends_with('\''), "{number}");
            let fields: Vec<&str> = rest.split(';').collect();
            assert_eq!(fields.len(), 4, "{number}: value, warning, critical, least");
            let value = fields[0].trim_end_matches(['s', 'B']);
            assert!(value.parse::<u64>().is_ok(), "{number}");
        }
    }
    line
}

#[test]
fn nagios_gets_each_of_its_codes_with_what_to_do_next() {
    let lab = lab();
    nagios(&lab, "sink", 2, &["shop: nothing of it is stored", "handover sink run shop"]);
    nagios(&lab, "source", 2, &["nothing was ever handed over"]);
    lab.both();
    nagios(&lab, "sink", 0, &["shop: newest verified data", "1 generation", "'shop_age'="]);
    nagios(&lab, "source", 0, &["0 waiting", "'shop_waiting'=0;;;0"]);
    // The last run failed, and what is stored is still young.
    let home = (lab.path("home/gate"), lab.path("home/gone"));
    fs::rename(&home.0, &home.1).unwrap();
    lab.sink(12);
    nagios(&lab, "sink", 1, &["the last run ended with unreachable"]);
    fs::rename(&home.1, &home.0).unwrap();
    // Too old.
    lab.sink(0);
    lab.config("", TREE, "alarm_after = \"1s\"");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    nagios(&lab, "sink", 2, &["older than alarm_after", ";;1;0"]);
    // The configuration is wrong: Nagios shows stdout alone.
    fs::write(lab.path("handover.toml"), "[sink]\nkeeep = 1\n").unwrap();
    nagios(&lab, "sink", 3, &["configuration", "by hand"]);
}

#[test]
fn waiting_longer_than_alarm_after_and_a_full_handover_point_are_critical() {
    let lab = lab();
    lab.config("max_waiting = 2", TREE, "");
    lab.source(0);
    nagios(&lab, "source", 0, &["1 waiting"]);
    lab.source(4);
    nagios(&lab, "source", 2, &["is full: 2 wait"]);
    lab.config("alarm_after = \"1s\"", TREE, "");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    nagios(&lab, "source", 2, &["(alarm_after)"]);
    lab.run(&["source", "status"]).exits(0).says(&["a generation waits since", "handover sink status"]);
}

#[test]
fn a_store_that_is_not_mounted_is_critical_and_in_the_metrics() {
    let lab = lab();
    lab.both();
    fs::rename(lab.path("sink/store"), lab.path("sink/away")).unwrap();
    nagios(&lab, "sink", 2, &["store"]);
    let file = lab.path("handover.prom");
    lab.run(&["sink", "status", "--prometheus", file.to_str().unwrap()]).exits(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("handover_health{role=\"sink\",channel=\"data\",source=\"shop\"} 2\n"), "{text}");
}

#[test]
fn a_source_that_cannot_be_looked_at_hides_no_other() {
    let lab = lab();
    lab.both();
    let text = lab.text("handover.toml");
    lab.config_text(&format!("{text}[[sink.source]]\nname = \"other\"\npath = \"{{lab}}/home\"\n"));
    fs::write(lab.path("sink/store/other"), "not a folder").unwrap();
    let line = nagios(&lab, "sink", 3, &["other: "]);
    assert!(line.contains("'shop_generations'=1"), "{line}");
}

/// A metric as a strict parser reads it: name, type, labels with their values, value.
type Parsed = (String, PrometheusType, Vec<(String, String)>, String);

fn parsed(text: &str) -> Vec<Parsed> {
    let exposition = parse_prometheus(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut all = Vec::new();
    for family in exposition.families.values() {
        assert!(!family.help.is_empty(), "{}", family.family_name);
        for sample in family.iter_samples() {
            let labels = sample.get_labelset().unwrap();
            let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let value = format!("{:?}", sample.value);
            all.push((family.family_name.clone(), family.family_type.clone(), labels, value));
        }
    }
    all
}

fn metrics(ran: &Ran) -> BTreeSet<String> {
    parsed(&ran.out).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn the_metrics_are_read_by_a_strict_parser_and_are_those_of_the_list() {
    let lab = lab();
    lab.both();
    lab.source(0);
    let sink = lab.run(&["sink", "status", "--prometheus", "-"]).exits(0);
    let source = lab.run(&["source", "status", "--prometheus", "-"]).exits(0);
    for (name, kind, labels, value) in parsed(&sink.out).into_iter().chain(parsed(&source.out)) {
        let metric = METRICS.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("{name}"));
        let expected = match metric.kind {
            handover::cli::prometheus::Kind::Gauge => PrometheusType::Gauge,
            handover::cli::prometheus::Kind::Counter => PrometheusType::Counter,
        };
        assert_eq!(format!("{kind:?}"), format!("{expected:?}"), "{name}");
        let source = labels.iter().find(|(label, _)| label == "source");
        assert!(
            name == "handover_build_info" || source.is_some_and(|(_, v)| v == "shop"),
            "{name} {labels:?}"
        );
        assert!(!value.is_empty());
    }
    let told: BTreeSet<String> = metrics(&sink).union(&metrics(&source)).cloned().collect();
    let never: Vec<&str> = METRICS.iter().map(|m| m.name).filter(|name| !told.contains(*name)).collect();
    assert_eq!(
        never,
        ["handover_drill_timestamp_seconds", "handover_drill_duration_seconds", "handover_drill_ok"],
        "nothing was drilled; all others have a value"
    );
    let has = |ran: &Ran, line: &str| assert!(ran.out.contains(line), "{line} is missing in\n{}", ran.out);
    has(&sink, "handover_health{role=\"sink\",channel=\"data\",source=\"shop\"} 0\n");
    has(&sink, "handover_generations{role=\"sink\",channel=\"data\",source=\"shop\"} 1\n");
    has(&sink, "handover_verify_failures_total{role=\"sink\",channel=\"data\",source=\"shop\"} 0\n");
    has(&source, "handover_waiting_generations{role=\"source\",channel=\"data\",source=\"shop\"} 1\n");
    has(&source, "handover_sequence{role=\"source\",channel=\"data\",source=\"shop\"} 2\n");
}

#[test]
fn before_the_first_backup_exposure_is_endless_and_success_never_was() {
    let lab = lab();
    let ran = lab.run(&["sink", "status", "--prometheus", "-"]).exits(0);
    let labels = "{role=\"sink\",channel=\"data\",source=\"shop\"}";
    for line in [
        format!("handover_exposure_seconds{labels} +Inf"),
        format!("handover_last_success_timestamp_seconds{labels} 0"),
        format!("handover_health{labels} 2"),
    ] {
        assert!(ran.out.lines().any(|l| l == line), "{line}:\n{}", ran.out);
    }
    parsed(&ran.out);
}

#[test]
fn a_failed_check_is_counted_and_the_count_stays() {
    let lab = lab();
    let id = lab.source(0)["generation"]["id"].as_str().unwrap().to_owned();
    let file = lab.stored(format!("home/transport-outgoing/{id}"), "a");
    fs::write(&file, "0ne").unwrap();
    lab.sink(13);
    let count = || {
        let out = lab.run(&["sink", "status", "--prometheus", "-"]).exits(0).out;
        let line = out.lines().find(|l| l.starts_with("handover_verify_failures_total{")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(count(), 1);
    lab.sink(13);
    assert_eq!(count(), 1, "it was skipped, not checked again");
    nagios(&lab, "sink", 2, &["put aside", "quarantine list"]);
    nagios(&lab, "source", 2, &["damaged here"]);
}

#[test]
fn the_file_is_replaced_whole_and_nothing_else_is_left_in_its_folder() {
    let lab = lab();
    fs::create_dir(lab.path("textfile")).unwrap();
    let file = lab.path("textfile/handover.prom");
    fs::write(&file, "old").unwrap();
    let args = ["sink", "status", "--prometheus", file.to_str().unwrap()];
    lab.run(&args).exits(0);
    assert_eq!(names(&lab.path("textfile")), ["handover.prom"]);
    assert_eq!(fs::read_dir(lab.path("textfile")).unwrap().count(), 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644, "the collector is another user");
    parsed(&fs::read_to_string(&file).unwrap());
    let nowhere = lab.path("nowhere/handover.prom");
    lab.run(&["sink", "status", "--prometheus", nowhere.to_str().unwrap()]).exits(10).says(&["nowhere"]);
}

#[test]
fn every_metric_is_documented_with_its_type_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `handover_"));
    let documented: Vec<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (format!("handover_{}", cells[0].trim_end_matches('`')), cells[1].to_owned())
        })
        .collect();
    let built: Vec<(String, String)> =
        METRICS.iter().map(|m| (m.name.to_owned(), m.kind.word().to_owned())).collect();
    assert_eq!(documented, built);
}
