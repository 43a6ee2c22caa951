//! The steps that a run told (`src/sys/step.rs`), and the names that they bear in `points.txt`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::Lab;

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub call: String,
    /// The line of the code that asked for it, and how often it had.
    pub line: String,
    pub count: u64,
    /// `+` done, `-` refused by the system, `!` the fault of the test.
    pub result: String,
    pub paths: Vec<PathBuf>,
}

impl Step {
    /// Its name: the call and what it is about, without what differs from run to run. The steps of a loop have one name.
    pub fn name(&self, root: &Path) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| plain(path, root)).collect();
        format!("{} {}", self.call, paths.join(" -> "))
    }

    /// What has the fault happen at this step.
    pub fn fault(&self, action: &str) -> String {
        format!("{action} {} {} {}", self.call, self.line, self.count)
    }
}

/// A path in the lab, with ids, temporary names and the content of generations made alike.
pub fn plain(path: &Path, root: &Path) -> String {
    let Ok(inside) = path.strip_prefix(root) else { return path.display().to_string() };
    let mut parts = Vec::new();
    for part in inside.components().map(|c| c.as_os_str().to_string_lossy().into_owned()) {
        if part == "." {
            continue;
        }
        let is_content = ["data", "recv", "meta", "www"].contains(&part.as_str());
        parts.push(plain_name(&part));
        if is_content && parts.len() < inside.components().count() {
            parts.push("…".to_owned());
            break;
        }
    }
    parts.join("/")
}

pub fn plain_name(name: &str) -> String {
    let is_hex = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some((start, end)) = name.rsplit_once(['.', '-'])
        && is_hex(end)
        && start.starts_with('.')
    {
        return format!("{}.*", plain_ids(start));
    }
    plain_ids(name)
}

/// `20261123T030000Z` and `20261123T030000Z-2` are `ID`.
fn plain_ids(text: &str) -> String {
    let is_id = |t: &str| {
        t.len() == 16
            && t.bytes().enumerate().all(|(i, b)| match i {
                8 => b == b'T',
                15 => b == b'Z',
                _ => b.is_ascii_digit(),
            })
    };
    for at in 0..text.len().saturating_sub(15) {
        if text.is_char_boundary(at) && text.get(at..at + 16).is_some_and(is_id) {
            let rest = &text[at + 16..];
            let digits =
                rest.strip_prefix('-').map_or(0, |r| 1 + r.bytes().take_while(u8::is_ascii_digit).count());
            let rest = if digits > 1 { &rest[digits..] } else { rest };
            return format!("{}ID{}", &text[..at], plain_ids(rest));
        }
    }
    text.to_owned()
}

/// Has a command tell its steps; the file is emptied first.
pub fn traced<'c>(lab: &Lab, command: &'c mut Command) -> &'c mut Command {
    let file = lab.path("steps");
    fs::write(&file, "").unwrap();
    command.env("HANDOVER_STEPS", file)
}

/// The steps that were told.
pub fn told(lab: &Lab) -> Vec<Step> {
    let text = fs::read(lab.path("steps")).unwrap();
    let text = String::from_utf8_lossy(&text);
    let steps = text.lines().map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_else(|| panic!("{line}")).to_owned();
        let (call, at, count, result) = (next(), next(), next(), next());
        Step {
            call,
            line: at,
            count: count.parse().unwrap(),
            result,
            paths: fields.map(PathBuf::from).collect(),
        }
    });
    steps.collect()
}

/// The steps of each name, in the order in which the names came.
pub fn by_name(steps: &[Step], root: &Path) -> Vec<(String, Vec<Step>)> {
    let mut order: Vec<(String, Vec<Step>)> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for step in steps {
        let name = step.name(root);
        let index = *at.entry(name.clone()).or_insert_with(|| {
            order.push((name, Vec::new()));
            order.len() - 1
        });
        order[index].1.push(step.clone());
    }
    order
}

/// Of the steps of one name: the first, one in the middle and the last; with `all`, every one.
pub fn chosen(steps: &[Step], all: bool) -> Vec<Step> {
    let mut at: Vec<usize> =
        if all { (0..steps.len()).collect() } else { vec![0, steps.len() / 2, steps.len() - 1] };
    at.dedup();
    at.into_iter().map(|i| steps[i].clone()).collect()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/points.txt")
}

/// Compares the names of a verb with the committed ones, in any order: threads take turns as they like.
/// `HANDOVER_UPDATE=1` writes them down instead.
pub fn compare(verb: &str, found: &[(String, Vec<Step>)]) {
    let text = fs::read_to_string(file()).unwrap();
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => sections.entry(section.clone()).or_default().push(line.to_owned()),
        }
    }
    let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    if std::env::var_os("HANDOVER_UPDATE").is_some() {
        sections.insert(verb.to_owned(), names);
        let head: String =
            text.lines().take_while(|line| line.starts_with('#')).map(|l| format!("{l}\n")).collect();
        let body: String =
            sections.iter().map(|(verb, names)| format!("\n[{verb}]\n{}\n", names.join("\n"))).collect();
        fs::write(file(), head + &body).unwrap();
        return;
    }
    let committed = sections.remove(verb).unwrap_or_default();
    let missing: Vec<_> = committed.iter().filter(|name| !names.contains(name)).collect();
    let new: Vec<_> = names.iter().filter(|name| !committed.contains(name)).collect();
    assert!(
        missing.is_empty() && new.is_empty(),
        "{verb}: the steps are not those of tests/it/crash/points.txt (HANDOVER_UPDATE=1 writes it anew)\n\
         missing: {missing:#?}\nnew: {new:#?}"
    );
    assert!(committed.len() >= 10, "{verb} has only {} points", committed.len());
}
