//! Sample configurations: the valid ones load, and each invalid one is refused with exactly the text beside it.

mod reference;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use handover::config::{
    self, Config, ElementKind, Errors, Keep, Limits, Output, Place, Reserve, Role, SinkRole, Surroundings,
    Verify,
};

fn samples(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/config").join(folder);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut samples: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "toml")).collect();
    samples.sort();
    samples
}

fn surroundings() -> Surroundings {
    Surroundings { state_directory: None, processors: 4 }
}

fn load(file: &Path) -> Result<Config, Errors> {
    config::load(file, &surroundings(), Role::All)
}

fn parse(text: &str, role: Role) -> Result<Config, Errors> {
    config::parse(text, Path::new("handover.toml"), &surroundings(), role)
}

fn valid(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/config/valid").join(name)
}

fn sample(name: &str) -> Config {
    load(&valid(name)).unwrap()
}

#[test]
fn every_valid_sample_loads() {
    let samples = samples("valid");
    assert!(samples.len() >= 4, "{samples:?}");
    for file in samples {
        let config = load(&file).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.source.is_some() || config.sinks().next().is_some(), "{}", file.display());
    }
}

#[test]
fn every_invalid_sample_is_refused_with_the_text_beside_it() {
    let samples = samples("invalid");
    assert!(samples.len() >= 25, "{samples:?}");
    let mut different = Vec::new();
    for file in samples {
        let errors = load(&file).expect_err(&file.display().to_string());
        let redacted = format!("{errors}\n").replace(&format!("{}", file.display()), "FILE");
        let expected = std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default();
        if redacted != expected {
            different.push(format!("--- {}\n{redacted}", file.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_text_of_an_error_has_its_sample() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/config/invalid");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let other = if path.extension().is_some_and(|e| e == "txt") { "toml" } else { "txt" };
        assert!(path.with_extension(other).exists(), "{} stands alone", path.display());
    }
}

#[test]
fn the_example_means_what_it_says() {
    let config = sample("example.toml");
    let source = config.source().unwrap();
    assert_eq!((source.name.as_str(), source.keep, source.max_waiting), ("shop", 3, 7));
    assert_eq!(source.reserve, Reserve::Percent(5.0));
    assert!(source.quiet.unwrap().contains(jiff::civil::time(2, 30, 0, 0)));
    let [www, db] = source.elements.as_slice() else { panic!("{:?}", source.elements) };
    let ElementKind::Tree(files) = &www.kind else { panic!("{www:?}") };
    assert_eq!(
        (files.paths.as_slice(), files.exclude.as_slice()),
        (&["/var/www/shop".into()][..], &["cache/".to_owned()][..])
    );
    assert_eq!(www.services, ["tomcat"]);
    let ElementKind::Dump(dump) = &db.kind else { panic!("{db:?}") };
    assert_eq!((dump.min_size, dump.output, db.user.as_deref()), (1024, Output::Stdout, Some("postgres")));
    assert_eq!(db.steps.prepare.as_deref().unwrap(), ["createdb", "{target}"]);
    let sink = config.sink().unwrap();
    assert_eq!((sink.keep, sink.keep_for), (Keep::last(14), Duration::from_secs(7 * 24 * 3600)));
    assert_eq!(sink.sources[0].keep, Keep::last(30));
    let Place::Host(host) = &sink.sources[0].place else { panic!("{sink:?}") };
    assert_eq!((host.port, host.user.as_str()), (22, "dataBackupSource"));
    assert_eq!(host.identity, Path::new("/etc/handover/sink_ed25519"));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = sample("source-minimal.toml");
    let source = config.source().unwrap();
    assert_eq!(config.state, Path::new("/var/lib/handover"));
    assert_eq!(source.home, Path::new("/home/dataBackupSource"));
    assert_eq!((source.keep, source.max_waiting, source.jobs), (3, 7, 4));
    assert_eq!(source.undo_for, Duration::from_secs(24 * 3600));
    assert_eq!(source.alarm_after, Duration::from_secs(26 * 3600));
    assert_eq!(source.hook_timeout, Duration::from_secs(600));
    assert_eq!(source.elements[0].timeout, Duration::from_secs(6 * 3600));
    let ElementKind::Tree(files) = &source.elements[0].kind else { panic!("{source:?}") };
    assert!(files.one_file_system && !files.exclude_caches && !files.allow_empty);
    let config = sample("sink-minimal.toml");
    let sink = config.sink().unwrap();
    assert_eq!(sink.home, Path::new("/home/dataBackupSink"));
    assert_eq!((sink.keep, sink.max_per_day, sink.concurrency), (Keep::last(14), 48, 4));
    assert_eq!(
        (sink.verify, sink.reserve, sink.limits),
        (Verify::Transferred, Reserve::Percent(1.0), Limits::default())
    );
    assert_eq!(sink.connect_timeout, Duration::from_secs(30));
    assert_eq!(sink.relink_max_age, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(sink.sources[0].alarm_after, Duration::from_secs(26 * 3600));
}

#[test]
fn a_source_may_have_only_logs() {
    let config = sample("source-logs-only.toml");
    let source = config.source().unwrap();
    let logs = source.logs.as_ref().unwrap();
    assert!(source.elements.is_empty() && logs.journald && logs.paths.is_empty());
    assert_eq!((logs.home.as_path(), logs.max_waiting), (Path::new("/home/logBackupSource"), 7));
    assert_eq!(logs.alarm_after, Duration::from_secs(26 * 3600));
    let logs = sample("source-every-key.toml").source().unwrap().logs.clone().unwrap();
    assert_eq!((logs.paths.len(), logs.exclude.len(), logs.max_waiting), (3, 2, 48));
}

#[test]
fn jobs_follow_the_processors_within_reason() {
    let text = std::fs::read_to_string(valid("source-minimal.toml")).unwrap();
    for (processors, jobs) in [(0, 1), (1, 1), (6, 6), (64, 8)] {
        let surroundings = Surroundings { state_directory: None, processors };
        let config = config::parse(&text, Path::new("x"), &surroundings, Role::All).unwrap();
        assert_eq!(config.source().unwrap().jobs, jobs);
    }
}

#[test]
fn a_source_of_a_sink_inherits_what_it_does_not_say() {
    let config = sample("sink-every-key.toml");
    let sink = config.sink().unwrap();
    let [shop, far, here] = sink.sources.as_slice() else { panic!("{:?}", sink.sources) };
    assert_eq!((shop.keep, shop.bandwidth, shop.limits), (sink.keep, Some(10 << 20), sink.limits));
    assert_eq!((here.alarm_after, here.keep), (sink.alarm_after, Keep::last(1)));
    assert_eq!(far.keep, Keep { monthly: 12, ..Keep::last(0) });
    assert_eq!(far.limits, Limits { max_bytes: Some(1_000_000_000), ..sink.limits });
    let Place::Host(host) = &far.place else { panic!("{far:?}") };
    assert_eq!(host.known_hosts, Path::new("/etc/handover/far_hosts"));
    assert_eq!(here.place, Place::Path("/home/dataBackupSource".into()));
}

#[test]
fn a_logsink_is_a_sink_with_names_and_places_of_its_own() {
    let config = sample("logsink-minimal.toml");
    assert!(config.sink().is_err());
    let logsink = config.sink_of(SinkRole::Logs).unwrap();
    assert_eq!((logsink.role, logsink.home.as_path()), (SinkRole::Logs, Path::new("/home/logBackupSink")));
    assert_eq!((logsink.keep, logsink.max_per_day), (Keep::last(90), 288));
    let Place::Host(host) = &logsink.sources[0].place else { panic!("{logsink:?}") };
    assert_eq!(host.user, "logBackupSource");
    let sink = sample("sink-minimal.toml");
    let defaults = sink.sink().unwrap();
    assert_eq!(
        (logsink.verify, logsink.reserve, logsink.limits),
        (defaults.verify, defaults.reserve, defaults.limits)
    );
    let config = sample("logsink-every-key.toml");
    let logsink = config.sink_of(SinkRole::Logs).unwrap();
    assert_eq!((logsink.sources[0].keep, logsink.sources[1].keep), (Keep::last(1000), Keep::last(400)));
    assert_eq!(config.sinks().map(|sink| sink.role).collect::<Vec<_>>(), SinkRole::ALL);
    assert_eq!(config.own, ["/var/lib/handover", "/home/dataBackupSink", "/srv/logs"].map(PathBuf::from));
}

#[test]
fn a_dump_with_a_place_for_the_file_writes_it_itself() {
    let config = sample("source-every-key.toml");
    let ElementKind::Dump(dump) = &config.source().unwrap().elements[1].kind else { panic!("{config:?}") };
    assert_eq!(dump.output, Output::File);
}

#[test]
fn homes_and_state_are_known_as_our_own() {
    let own = |name| sample(name).own;
    let expected = ["/var/lib/handover", "/home/dataBackupSink", "/home/dataBackupSource"].map(PathBuf::from);
    assert_eq!(own("example.toml"), expected);
    let expected = ["/srv/handover", "/home/dataBackupSource", "/home/logBackupSource"].map(PathBuf::from);
    assert_eq!(own("source-every-key.toml"), expected);
}

#[test]
fn a_mistake_in_one_role_stops_only_that_role() {
    let good = std::fs::read_to_string(valid("example.toml")).unwrap();
    let text = good.replace("verify = \"transferred\"", "verify = \"sometimes\"");
    let config = parse(&text, Role::Source).unwrap();
    assert!(config.source().is_ok() && config.own.contains(&PathBuf::from("/home/dataBackupSink")));
    assert!(config.sink.is_none(), "what is not checked is not handed out");
    assert!(parse(&text, Role::Sink).is_err() && parse(&text, Role::All).is_err());
    assert!(parse(&text, Role::Logsink).is_ok());
    let logs = std::fs::read_to_string(valid("logsink-every-key.toml")).unwrap();
    let text = logs.replace("\"12h\"", "\"soon\"");
    assert!(parse(&text, Role::Logsink).is_err() && parse(&text, Role::Sink).is_ok());
    assert!(
        parse(&logs, Role::Sink).unwrap().logsink.is_none()
            && parse(&logs, Role::Logsink).unwrap().sink.is_none()
    );
    let text = good.replace("kind = \"tree\"", "kind = \"bush\"");
    assert!(parse(&text, Role::Sink).is_ok() && parse(&text, Role::Source).is_err());
    let text = format!("weather = \"fine\"\n{good}");
    assert!(parse(&text, Role::Sink).is_err() && parse(&text, Role::Source).is_err());
}

#[test]
fn a_missing_section_is_named_with_what_to_add() {
    let text = sample("sink-minimal.toml").source().unwrap_err().to_string();
    assert!(text.contains("sink-minimal.toml: there is no [source] section; add it with a name"), "{text}");
    let text = sample("source-minimal.toml").sink().unwrap_err().to_string();
    assert!(text.contains("there is no [sink] section; add it, and [[sink.source]]"), "{text}");
    assert!(parse("", Role::All).unwrap().source().is_err());
}

#[test]
fn the_state_directory_of_the_service_wins() {
    let text = "state = \"/srv/handover\"\n";
    let state = |directory: &str| {
        let surroundings = Surroundings { state_directory: Some(directory.into()), processors: 1 };
        config::parse(text, Path::new("x.toml"), &surroundings, Role::All).map(|config| config.state)
    };
    assert_eq!(state("/var/lib/private/handover/"), Ok("/var/lib/private/handover".into()));
    assert_eq!(state("/var/lib/a:/var/lib/b"), Ok("/var/lib/a".into()));
    assert_eq!(state(""), Ok("/srv/handover".into()));
    let error = state("handover").unwrap_err().to_string();
    assert!(error.starts_with("x.toml: $STATE_DIRECTORY must be an absolute path"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml: cannot be read: ") && error.contains("--config"), "{error}");
    let file = folder.path().join("odd.toml");
    write(&file, b"state = \"/srv/x\"\n# \xff\n");
    let error = load(&file).unwrap_err().to_string();
    assert!(error.contains("odd.toml:2: this line is not UTF-8"), "{error}");
    write(&file, &b"# much\n".repeat(200_000));
    assert!(load(&file).unwrap_err().to_string().contains("larger than 1 MiB"));
}

fn write(file: &Path, bytes: &[u8]) {
    let dir = handover::sys::Dir::open(file.parent().unwrap()).unwrap();
    handover::sys::durable::write_file(&dir, file.file_name().unwrap(), bytes, 0o600).unwrap();
}

#[test]
fn no_error_shows_a_secret_and_no_copy_holds_one() {
    for file in samples("invalid") {
        assert!(!load(&file).unwrap_err().to_string().contains("hunter2"), "{}", file.display());
    }
    for file in samples("valid") {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(load(&file).unwrap().without_secrets, text, "there is none in the samples");
    }
    let text = "[source]\nname = \"shop\"\nbefore = [[\"x\", \"--token=hunter2\"]]\n\
        [[source.element]]\nname = \"a\"\nkind = \"tree\"\npaths = [\"/a\"]\n";
    let config = parse(text, Role::All).unwrap();
    assert_eq!(config.without_secrets, text.replace("--token=hunter2", "***"));
}

fn documentation() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let text = documentation();
    for (table, keys) in config::TABLES {
        let is_its = |part: &&str| {
            let heading = part.lines().next().unwrap_or_default().trim_start_matches('#').replace('`', "");
            heading.trim().eq_ignore_ascii_case(table)
        };
        let part = text.split("\n##").find(is_its).unwrap_or_else(|| panic!("no heading for {table}"));
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut documented: Vec<_> = rows.map(|(key, _)| key).collect();
        let mut known = keys.to_vec();
        known.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, known, "{table}");
    }
}

#[test]
fn the_examples_of_the_documentation_load() {
    let text = documentation();
    let examples: Vec<_> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        parse(example, Role::All).unwrap_or_else(|e| panic!("{e}\n{example}"));
    }
    let rows =
        text.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.rsplit(" | ").next());
    for row in rows {
        let written = row.trim_end_matches(" |").trim_matches('`').replace("\\|", "|");
        toml::from_str::<toml::Table>(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
    }
}

#[test]
fn a_torn_file_is_an_error_or_a_smaller_file_and_never_a_panic() {
    let text = std::fs::read_to_string(valid("example.toml")).unwrap();
    let mut refused = 0;
    for (end, _) in text.char_indices() {
        let torn = &text[..end];
        config::without_secrets(torn);
        if let Err(Errors(problems)) = parse(torn, Role::All) {
            assert!(!problems.is_empty());
            refused += 1;
        }
    }
    assert!(refused > text.len() / 10);
}

#[test]
fn the_nearest_key_is_the_one_that_was_meant() {
    let error = parse("[sink]\nkepp_for = \"7d\"\n", Role::All).unwrap_err().to_string();
    assert!(
        error.contains("handover.toml:2: [sink] kepp_for: unknown key; the nearest known one is `keep_for`"),
        "{error}"
    );
}
