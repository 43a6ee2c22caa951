//! `docs/threat-model.md` names a test for what it says, and each of them is there.

use std::{collections::BTreeSet, fs, path::Path};

/// Everybody who must be in it, each by the heading of his own.
const ACTORS: &[&str] = &[
    "Root on a source",
    "rsync that has been taken over",
    "A stolen sink key",
    "A stolen key of the way back",
    "The transport user of a source",
    "Whoever stands on the line",
    "The provider",
    "Somebody at the sink's console",
    "The mail server",
];

/// The tests in a file: what follows `#[test]`, and what the conformance suite of remotes lists.
fn tests_in(text: &str, into: &mut BTreeSet<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (n, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
        let named = lines[n..].iter().find_map(|line| line.strip_prefix("fn ")?.split('(').next());
        into.extend(named.map(str::to_owned));
    }
    if let Some((_, listed)) = text.split_once("\non_every_remote! {") {
        let listed = listed.split('}').next().unwrap();
        into.extend(listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
}

fn all_tests(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_tests(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            tests_in(&fs::read_to_string(&path).unwrap(), into);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there_and_every_actor_has_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = BTreeSet::new();
    ["src", "tests"].iter().for_each(|top| all_tests(&root.join(top), &mut there));
    assert!(there.len() > 500, "{}", there.len());
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let sections: Vec<(&str, &str)> =
        text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    for actor in ACTORS {
        let (_, section) = sections
            .iter()
            .find(|(heading, _)| heading == actor)
            .unwrap_or_else(|| panic!("{actor} is missing"));
        let rows = section.lines().filter(|line| line.starts_with("| ") && !line.contains("| shown by |"));
        let shown: Vec<&str> =
            rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next()).collect();
        let named: Vec<&str> = shown.iter().flat_map(|column| column.split('`').skip(1).step_by(2)).collect();
        assert!(!named.is_empty(), "{actor} has no test");
        for name in named {
            assert!(there.contains(name), "{actor}: there is no test {name}");
        }
    }
    // Nobody is told of without being looked for here.
    let told: Vec<&str> = sections.iter().map(|(heading, _)| *heading).skip(1).collect();
    assert_eq!(told, ACTORS);
}
