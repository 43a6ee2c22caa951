//! The reference of the configuration says what the reader of the file does.

use std::path::Path;

use assert_cmd::Command;
use handover::config::{
    self, Config, Role,
    reference::{self, Key},
};

use super::surroundings;

/// Files into which a key of a section can be put, at `%`; each key fits into at least one of them.
fn around(section: &str) -> &'static [&'static str] {
    match section {
        "The top of the file" => &[
            "%\n[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n",
            "%\n",
            "%\nurl = 'https://hc.example.org/1'\nfor = 'source'\n",
            "%\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n",
            "%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n",
            "%\n[[logsink.source]]\nname = 's'\npath = '/home/s'\n",
            "%\nto = ['a@example.org']\nfrom = 'b@example.org'\nserver = 'smtp://mail.example.org'\n",
        ],
        "[mail]" => &[
            "[mail]\nto = ['a@example.org']\nfrom = 'b@example.org'\nserver = 'smtp://mail.example.org'\n%\n",
            "[mail]\nto = ['a@example.org']\nfrom = 'b@example.org'\n%\n",
            "[mail]\nto = ['a@example.org']\nserver = 'smtp://mail.example.org'\n%\n",
            "[mail]\nfrom = 'b@example.org'\nserver = 'smtp://mail.example.org'\n%\n",
            "[mail]\nto = ['a@example.org']\nfrom = 'b@example.org'\nserver = 'smtp://mail.example.org'\nusername = 'u'\n%\n",
            "[mail]\nto = ['a@example.org']\nfrom = 'b@example.org'\nserver = 'smtp://mail.example.org'\npassword_file = '/p'\n%\n",
        ],
        "[[ping]]" => &[
            "[[ping]]\nurl = 'https://hc.example.org/1'\nfor = 'source'\n%\n",
            "[[ping]]\nfor = 'source'\n%\n",
            "[[ping]]\nurl = 'https://hc.example.org/1'\n%\n",
        ],
        "[source]" => &[
            "[source]\nname = 's'\n%\n[[source.element]]\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n",
            "[source]\n%\n[[source.element]]\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n",
            "[source]\nname = 's'\n%\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n",
            "[source]\nname = 's'\n%\npaths = ['/var/log/x']\n",
        ],
        "[[source.element]]" => &[
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'tree'\npaths = ['/srv/e']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nkind = 'tree'\npaths = ['/srv/e']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\npaths = ['/srv/e']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'tree'\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\nfile = 'f'\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\nfile = 'f'\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\nfile = 'f'\ntarget = 't'\nrestore = ['true', '{target}']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\nfile = 'f'\ntarget = 't'\nprepare = ['true', '{target}']\nrestore = ['true', '{target}']\nprobe = ['true', '{target}']\ndiscard = ['true', '{target}']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\nfile = 'f'\nrestore = ['true', '{target}']\n%\n",
            "[source]\nname = 's'\n[[source.element]]\nname = 'e'\nkind = 'dump'\ncommand = ['true']\nfile = 'f'\ntarget = 't'\n%\n",
        ],
        "[source.logs]" => &[
            "[source]\nname = 's'\n[source.logs]\npaths = ['/var/log/x']\n%\n",
            "[source]\nname = 's'\n[source.logs]\n%\n",
            "[source]\nname = 's'\n[source.logs]\njournald = true\n%\n",
        ],
        "[restore]" => &["[restore]\n%\n"],
        "[sink]" => &[
            "[sink]\n%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n",
            "[sink]\n%\nname = 's'\npath = '/home/s'\n",
        ],
        "keep = { .. }" => &[
            "[sink]\nkeep.%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n",
            "[sink]\nkeep.daily = 3\nkeep.%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n",
            "[sink]\nkeep.last = 3\nkeep.%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n",
        ],
        "anomaly = { .. }" => &["[sink]\nanomaly.%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n"],
        "limits = { .. }" => &["[sink]\nlimits.%\n[[sink.source]]\nname = 's'\npath = '/home/s'\n"],
        "[[sink.source]]" => &[
            "[sink]\nidentity = '/i'\nknown_hosts = '/k'\n[[sink.source]]\nname = 's'\nhost = 'h'\n%\n",
            "[sink]\nidentity = '/i'\nknown_hosts = '/k'\n[[sink.source]]\nhost = 'h'\n%\n",
            "[sink]\nidentity = '/i'\nknown_hosts = '/k'\n[[sink.source]]\nname = 's'\n%\n",
        ],
        "[logsink]" => &[
            "[logsink]\n%\n[[logsink.source]]\nname = 's'\npath = '/home/s'\n",
            "[logsink]\n%\nname = 's'\npath = '/home/s'\n",
        ],
        "[[logsink.source]]" => &[
            "[logsink]\nidentity = '/i'\nknown_hosts = '/k'\n[[logsink.source]]\nname = 's'\nhost = 'h'\n%\n",
            "[logsink]\nidentity = '/i'\nknown_hosts = '/k'\n[[logsink.source]]\nhost = 'h'\n%\n",
            "[logsink]\nidentity = '/i'\nknown_hosts = '/k'\n[[logsink.source]]\nname = 's'\n%\n",
        ],
        other => panic!("no file for {other}"),
    }
}

/// What the file means with this line in it, without the text itself.
fn meaning(file: &str, line: &str) -> Result<Config, String> {
    let text = file.replace('%', line);
    let config = config::parse(&text, Path::new("handover.toml"), &surroundings(), Role::All);
    config
        .map(|config| Config { without_secrets: String::new(), ..config })
        .map_err(|e| format!("{text}\n{e}"))
}

/// The file without the line of the key.
fn without(file: &str) -> String {
    file.lines().filter(|line| !line.contains('%')).map(|line| format!("{line}\n")).collect()
}

/// The value of a default that stands there as in the file; none for words as `required`.
fn literal(key: &Key) -> Option<String> {
    let value = key.default.strip_prefix('`')?.strip_suffix('`')?;
    let line = format!("{} = {value}", key.key);
    toml::from_str::<toml::Table>(&line).is_ok().then_some(line)
}

#[test]
fn every_example_of_the_reference_is_accepted_where_it_belongs() {
    let keys = reference::keys();
    assert!(keys.len() > 100, "{}", keys.len());
    for key in &keys {
        let tried: Vec<_> = around(&key.section).iter().map(|file| meaning(file, &key.example)).collect();
        assert!(tried.iter().any(Result::is_ok), "{} {}: {tried:#?}", key.section, key.key);
    }
}

#[test]
fn every_default_of_the_reference_means_what_leaving_it_out_means() {
    let mut compared = 0;
    for key in reference::keys() {
        let Some(line) = literal(&key) else { continue };
        let both = around(&key.section)
            .iter()
            .filter_map(|file| Some((meaning(&without(file), "").ok()?, meaning(file, &line).ok()?)));
        let both: Vec<_> = both.collect();
        assert!(!both.is_empty(), "{} {line}: no file takes it", key.section);
        for (without, with) in both {
            assert_eq!(without, with, "{} {line} is not the default", key.section);
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} defaults were compared");
}

#[test]
fn the_reference_is_there_on_the_host_where_it_is_needed() {
    let run = |args: &[&str]| {
        Command::cargo_bin("handover").unwrap().arg("configuration").args(args).output().unwrap()
    };
    let text = |output: &[u8]| String::from_utf8(output.to_vec()).unwrap();
    let keep = text(&run(&["sink.keep"]).stdout);
    assert!(keep.starts_with("[sink] keep: number, 1 or more, or table; default: 14\n"), "{keep}");
    assert!(keep.ends_with("\n    keep = 30\n"), "{keep}");
    let everywhere = run(&["keep", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&everywhere.stdout).unwrap();
    let sections: Vec<_> =
        rows.iter().filter(|row| row["key"] == "keep").map(|row| row["section"].clone()).collect();
    assert_eq!(sections, ["[source]", "[sink]", "[[sink.source]]", "[logsink]", "[[logsink.source]]"]);
    let unknown = run(&["kepp"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("the nearest one is `keep`"), "{}", text(&unknown.stderr));
    assert_eq!(text(&run(&[]).stdout).matches("\n\n").count() + 1, reference::keys().len());
}
