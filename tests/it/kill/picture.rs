//! What a lab looks like apart from ids and times: every file of both homes, and what `status` says.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use handover::manifest::Digest;
use serde_json::Value;

use crate::harness::{Lab, names};

/// Folders that hold generations.
const PLACES: [&str; 5] =
    ["home/transport-outgoing", "home/store", "home/condemned", "sink/store/shop", "sink/condemned/shop"];

/// Path to what is there, or `status …` to a line of what it says.
pub struct Picture(BTreeMap<String, String>);

impl Picture {
    pub fn of(lab: &Lab) -> Self {
        let plain = Plain::of(lab);
        let mut seen = BTreeMap::new();
        for home in ["home", "sink"] {
            let mut inodes = BTreeMap::new();
            plain.folder(&lab.path(home), &lab.path(""), &mut inodes, &mut seen);
        }
        for role in ["source", "sink"] {
            let status = lab.run(&[role, "status", "--json"]).exits(0).json();
            let text = serde_json::to_string_pretty(&plain.json(status)).unwrap();
            for (n, line) in text.lines().enumerate() {
                seen.insert(format!("{role} status, line {n:03}"), line.to_owned());
            }
        }
        assert!(seen.len() > 300, "{seen:#?}");
        Self(seen)
    }
}

/// Fails the test unless both are the same.
pub fn compare(expected: &Picture, found: &Picture, when: &str) {
    let mut wrong = Vec::new();
    for (path, what) in &expected.0 {
        match found.0.get(path) {
            None => wrong.push(format!("missing: {path}: {what}")),
            Some(other) if other != what => wrong.push(format!("{path}: {other}\n   instead of {what}")),
            Some(_) => {}
        }
    }
    let extra = found.0.iter().filter(|(path, _)| !expected.0.contains_key(*path));
    wrong.extend(extra.map(|(path, what)| format!("too much: {path}: {what}")));
    wrong.truncate(20);
    assert!(wrong.is_empty(), "cut in {when}, run again, and other than uncut:\n{}", wrong.join("\n"));
}

/// Takes away what may differ: ids and seals become their place in the order, times and random ids go.
struct Plain {
    replace: Vec<(String, String)>,
}

impl Plain {
    fn of(lab: &Lab) -> Self {
        let mut sequences = BTreeMap::new();
        let mut replace = Vec::new();
        for place in PLACES {
            for id in names(&lab.path(place)) {
                let Ok(text) = fs::read_to_string(lab.path(place).join(&id).join("generation.toml")) else {
                    continue;
                };
                let table: toml::Table = text.parse().unwrap();
                sequences.insert(table["sequence"].as_integer().unwrap(), id);
                replace.push((Digest::of(text.as_bytes()).to_string(), "<seal>".to_owned()));
                replace.push((table["lineage"].as_str().unwrap().to_owned(), "<lineage>".to_owned()));
            }
        }
        let root = lab.path("");
        replace.push((root.to_str().unwrap().trim_end_matches('/').to_owned(), "<lab>".to_owned()));
        // `…Z-2` before `…Z`, which is the beginning of it.
        let mut ids: Vec<(String, String)> =
            sequences.into_iter().map(|(sequence, id)| (id, format!("<generation {sequence}>"))).collect();
        ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        replace.extend(ids);
        Self { replace }
    }

    fn text(&self, text: &str) -> String {
        self.replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn folder(
        &self,
        folder: &Path,
        root: &Path,
        inodes: &mut BTreeMap<u64, String>,
        seen: &mut BTreeMap<String, String>,
    ) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort_by_key(|path| self.text(path.to_str().unwrap()));
        for path in entries {
            let meta = fs::symlink_metadata(&path).unwrap();
            let shown = self.text(path.strip_prefix(root).unwrap().to_str().unwrap());
            let rights = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_dir() {
                seen.insert(shown, rights);
                self.folder(&path, root, inodes, seen);
                continue;
            }
            let first = inodes.entry(meta.ino()).or_insert_with(|| shown.clone()).clone();
            let content = if first == shown { self.content(&path) } else { format!("is {first}") };
            seen.insert(shown, format!("{rights} {content}"));
        }
    }

    fn content(&self, path: &Path) -> String {
        let bytes = fs::read(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let own = match name {
            ".handover-store" => return "marker".to_owned(),
            "generation.toml" | "receipt.toml" | "README.txt" | "SHA256SUMS" | "manifest.mtree"
            | "gate.toml" => String::from_utf8(bytes).unwrap(),
            _ if path.to_str().unwrap().contains("/data/") => return Digest::of(&bytes).to_string(),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        };
        self.text(&own).lines().map(|line| plain_line(name, line)).collect::<Vec<_>>().join("\n")
    }

    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => {
                // An id alone can be read as a time, too: ids first.
                let words = self.text(&text);
                let plain =
                    words.split(' ').map(|w| if w.parse::<jiff::Timestamp>().is_ok() { "<time>" } else { w });
                plain.collect::<Vec<_>>().join(" ").into()
            }
            Value::Array(all) => all.into_iter().map(|v| self.json(v)).collect(),
            // A run that goes on where a cut one ended has less to do: that is no other state. Nor is the room on the disk.
            Value::Object(all) => all
                .into_iter()
                .filter(|(k, v)| {
                    !["wire_bytes", "timings", "room"].contains(&k.as_str()) && (k != "stored" || !v.is_u64())
                })
                .map(|(k, v)| if k == "seconds" { (k, 0.into()) } else { (k, self.json(v)) })
                .collect(),
            other => other,
        }
    }
}

/// A line without its times, and without the hashes of files that hold times.
fn plain_line(file: &str, line: &str) -> String {
    let key = line.split([' ', '=']).next().unwrap_or_default();
    let times = ["started", "finished", "stored", "store", "at", "condemned"];
    let sums = ["manifest", "sha256sums", "readme"];
    match file {
        "SHA256SUMS" if line.ends_with("  manifest.mtree") || line.ends_with("  README.txt") => {
            line[64..].to_owned()
        }
        // Folders above the trees belong to nobody here and change as they like.
        "manifest.mtree" if line.contains(" type=dir ") => {
            line.split(' ').filter(|word| !word.starts_with("time=")).collect::<Vec<_>>().join(" ")
        }
        "SHA256SUMS" | "manifest.mtree" => line.to_owned(),
        _ if times.contains(&key) || sums.contains(&key) => key.to_owned(),
        _ => line.to_owned(),
    }
}
