//! What the documents say is there and can be run.

use std::path::{Path, PathBuf};

use clap::{Parser as _, error::ErrorKind};
use handover::{
    cli::args::Cli,
    config::{self, Role, Surroundings},
    report::Exit,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The documents that people read, as paths from the root.
fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let all: Vec<PathBuf> = ["README.md", "CHANGELOG.md"]
        .map(PathBuf::from)
        .into_iter()
        .chain(docs.filter(|path| path.extension().is_some_and(|e| e == "md")))
        .collect();
    assert!(all.len() > 5, "{all:?}");
    all
}

/// The blocks of code of a kind, as "sh".
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => open = Some((info == kind, String::new())),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks.into_iter().filter_map(|(wanted, block)| wanted.then_some(block)).collect()
}

/// What stands between backticks outside of blocks.
fn inline_code(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Where the links of a text lead that lead to files here.
fn links(text: &str) -> Vec<&str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    all.filter(|link| !link.contains("://") && !link.starts_with('#')).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split(" #").next().unwrap_or_default().split_whitespace().collect()
}

#[test]
fn every_link_in_the_documents_leads_to_a_file() {
    let mut count = 0;
    for document in documents() {
        let (text, folder) = (read(&document), document.parent().unwrap().to_owned());
        for link in links(&text) {
            let target = root().join(&folder).join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link} is not there", document.display());
            count += 1;
        }
    }
    assert!(count > 10, "only {count} links were found");
}

#[test]
fn every_file_of_the_project_that_the_documents_name_is_there() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let is_ours =
            |code: &&str| ["src/", "tests/", "docs/", "lab/"].iter().any(|top| code.starts_with(top));
        for code in inline_code(&text).into_iter().filter(is_ours) {
            let path = words(code)[0];
            // The one place that is told of before it is there.
            if path == "tests/lab" {
                continue;
            }
            assert!(root().join(path).exists(), "{}: {path} is not there", document.display());
            count += 1;
        }
    }
    assert!(count > 10, "only {count} files are named");
}

#[test]
fn the_readme_begins_with_the_demo_and_the_tests() {
    let readme = read("README.md");
    let commands = blocks(&readme, "sh");
    assert_eq!(commands[..2], ["lab/demo\n", "lab/test\n"]);
    let before = readme.split("```sh").next().unwrap();
    assert!(!before.contains("```"), "another block comes first");
    assert!(read(".ci/run").contains("\nexec lab/test "), "continuous integration runs something else");
}

#[test]
fn every_command_in_the_blocks_of_the_readme_is_one() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "sh");
    let lines: Vec<&str> =
        blocks.iter().flat_map(|b| b.lines()).filter(|l| l.starts_with("handover")).collect();
    for line in &lines {
        if let Err(e) = Cli::try_parse_from(words(line)) {
            panic!("{line}: {e}");
        }
    }
    assert!(lines.len() > 5, "{lines:?}");
}

#[test]
fn every_command_that_the_documents_mention_is_one() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        // `handover 1 …` is a request of the protocol, and `…` stands for something.
        let is_command = |code: &&str| {
            code.starts_with("handover ") && !code.starts_with("handover 1") && !code.contains('…')
        };
        for code in inline_code(&text).into_iter().filter(is_command) {
            let code = code.split(',').next().unwrap();
            let help = words(code).into_iter().chain(["--help"]);
            let parsed = Cli::try_parse_from(help).unwrap_err();
            assert_eq!(parsed.kind(), ErrorKind::DisplayHelp, "{}: {code}: {parsed}", document.display());
            count += 1;
        }
    }
    assert!(count > 10, "only {count} commands are mentioned");
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&read(&document), "toml") {
            let around = Surroundings { state_directory: None, processors: 1 };
            if let Err(e) = config::parse(&block, &document, &around, Role::All) {
                panic!("{e}");
            }
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} configurations were found");
}

#[test]
fn every_exit_code_is_documented_as_it_is() {
    let text = read("docs/exit-codes.md");
    let all = Exit::ALL;
    for exit in all {
        let row = format!("| {} | `{}` | ", exit.code(), exit.name());
        assert_eq!(text.matches(&row).count(), 1, "{row}");
    }
    let rows = text.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| code")).count();
    assert_eq!(rows, all.len());
}

/// Every command that is not hidden, with its words.
fn commands(command: &clap::Command, name: &str, found: &mut Vec<String>) {
    found.push(name.to_owned());
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        commands(inner, &format!("{name}-{}", inner.get_name()), found);
    }
}

#[test]
fn every_command_has_a_man_page_with_its_options_exit_codes_files_and_what_to_see() {
    use clap::CommandFactory as _;
    let dir = tempfile::tempdir().unwrap();
    let mut made = std::process::Command::new(env!("CARGO_BIN_EXE_handover"));
    assert!(made.arg("man").arg(dir.path()).status().unwrap().success());
    let mut command = Cli::command();
    command.build();
    let mut all = Vec::new();
    commands(&command, "handover", &mut all);
    assert!(all.len() > 50, "{all:?}");
    for name in &all {
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "FILES",
            "\"SEE ALSO\"",
            "VERSION",
        ] {
            assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section} is missing in {page}");
        }
        for exit in Exit::ALL {
            assert!(
                page.contains(&format!("\\fB{}\\fR\n{}", exit.code(), exit.meaning())),
                "{name}: {exit:?}"
            );
        }
        assert!(name == "handover" || page.contains("\\fBhandover\\fR(1)"), "{name}");
    }
    // What a page names is a page.
    let page = std::fs::read_to_string(dir.path().join("handover-sink-quarantine.1")).unwrap();
    for other in ["handover-sink", "handover-sink-quarantine-drop"] {
        assert!(page.contains(&format!("\\fB{other}\\fR(1)")) && all.contains(&other.to_owned()), "{other}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), all.len());
}

#[test]
fn the_example_configuration_of_the_package_is_valid_once_the_signs_are_off() {
    let text = read("packaging/debian/handover.toml");
    let around = Surroundings { state_directory: None, processors: 1 };
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    let open: String = lines.map(|line| format!("{line}\n")).collect();
    let config = config::parse(&open, Path::new("handover.toml"), &around, Role::All)
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(config.source.is_some() && config.mail.is_some() && config.sinks().count() == 1);
}

/// What `init` makes so that everything runs by itself: a page that stops or starts something else would stop nothing.
#[test]
fn every_timer_and_cron_file_that_the_documents_name_is_one_that_init_makes() {
    let made = |folder: &str| -> Vec<String> {
        let all = std::fs::read_dir(root().join("packaging").join(folder)).unwrap();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (cron, units) = (made("cron"), made("systemd"));
    let is_of_name = |c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c));
    let mut named = 0;
    for path in documents() {
        for line in read(&path).lines() {
            for rest in line.split("/etc/cron.d/").skip(1) {
                let name = rest.split(is_of_name).next().unwrap_or_default();
                let is_one =
                    name.is_empty() || !name.starts_with("handover") || cron.contains(&name.to_owned());
                assert!(is_one, "{}: {line}", path.display());
                named += 1;
            }
            for name in line.split(is_of_name).filter(|name| name.ends_with(".timer")) {
                assert!(units.contains(&name.to_owned()), "{}: {line}", path.display());
                named += 1;
            }
        }
    }
    assert!(named > 10, "too little was looked at: {named}");
}
