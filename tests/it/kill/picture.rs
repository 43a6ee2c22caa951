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

/// Folders of a home that hold generations.
const PLACES: [&str; 5] = ["transport-outgoing", "store", "condemned", "store/shop", "condemned/shop"];

/// Path to what is there, or `status …` to a line of what it says.
pub struct Picture(BTreeMap<String, String>);

impl Picture {
    pub fn of(lab: &Lab) -> Self {
        let picture = Self::of_homes(lab, &["home", "sink"], &["source", "sink"]);
        assert!(picture.0.len() > 300, "{:#?}", picture.0);
        picture
    }

    /// The same without the times that stand in manifests, where each world has its own: of what has been changed there.
    pub fn without_times(lab: &Lab, homes: &[&str], roles: &[&str]) -> Self {
        let mut picture = Self::of_homes(lab, homes, roles);
        // What was noted for people decides nothing, and is dated.
        picture.0.retain(|path, _| !path.ends_with("gate/history"));
        for (path, what) in &mut picture.0 {
            // The list of a log's pieces holds the time at which they were taken.
            if path.ends_with(".pieces.jsonl") {
                *what = "pieces".to_owned();
            }
            let is_plain = |word: &&str| !word.starts_with("time=");
            let holds_pieces = path.starts_with("log");
            let plain = |line: &str| match line.contains(".pieces.jsonl")
                || (holds_pieces && line.starts_with("bytes = "))
            {
                true => "pieces".to_owned(),
                false => line.split(' ').filter(is_plain).collect::<Vec<_>>().join(" "),
            };
            *what = what.lines().map(plain).collect::<Vec<_>>().join("\n");
        }
        picture
    }

    /// The application in a folder as it sees itself, and what a restore must not leave: of what it keeps, nothing.
    pub fn of_application(lab: &Lab, folder: &str, state: &str) -> Self {
        let mut seen = BTreeMap::new();
        let mut folders = vec![lab.path(folder)];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name.starts_with(".handover-replaced-") {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).unwrap();
                let what =
                    if meta.is_dir() { "folder".to_owned() } else { fs::read_to_string(&path).unwrap() };
                let links = if meta.is_dir() { 0 } else { meta.nlink() };
                // The cache is shared with what is kept for as long as that is kept.
                let links = if path.to_str().unwrap().contains("/cache/") { 0 } else { links };
                let rights = format!("{:o} {}:{} {links}", meta.mode(), meta.uid(), meta.gid());
                seen.insert(
                    path.strip_prefix(lab.path("")).unwrap().to_str().unwrap().to_owned(),
                    format!("{rights} {what}"),
                );
                if meta.is_dir() {
                    folders.push(path);
                }
            }
        }
        for left in ["journal.json", "services-stopped.json"] {
            if lab.path(state).join(left).exists() {
                seen.insert(left.to_owned(), "a restore is not finished".to_owned());
            }
        }
        Self(seen)
    }

    /// The same of these homes, and of what these roles say.
    fn of_homes(lab: &Lab, homes: &[&str], roles: &[&str]) -> Self {
        let plain = Plain::of(lab, homes);
        let mut seen = BTreeMap::new();
        for home in homes {
            let mut inodes = BTreeMap::new();
            plain.folder(&lab.path(home), &lab.path(""), &mut inodes, &mut seen);
        }
        for role in roles {
            let status = lab.run(&[role, "status", "--json"]).exits(0).json();
            let text = serde_json::to_string_pretty(&plain.json(status)).unwrap();
            for (n, line) in text.lines().enumerate() {
                seen.insert(format!("{role} status, line {n:03}"), line.to_owned());
            }
        }
        assert!(seen.len() > 30, "{seen:#?}");
        Self(seen)
    }

    /// What is other in another picture, a line for each.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, what) in &self.0 {
            match found.0.get(path) {
                None => wrong.push(format!("missing: {path}: {what}")),
                Some(other) if other != what => {
                    let lines =
                        other.lines().filter(|line| !what.contains(line)).collect::<Vec<_>>().join("\n");
                    let instead =
                        what.lines().filter(|line| !other.contains(line)).collect::<Vec<_>>().join("\n");
                    wrong.push(format!("{path}: {lines}\n   instead of {instead}"));
                }
                Some(_) => {}
            }
        }
        let extra = found.0.iter().filter(|(path, _)| !self.0.contains_key(*path));
        wrong.extend(extra.map(|(path, what)| format!("too much: {path}: {what}")));
        wrong
    }
}

/// Fails the test unless both are the same.
pub fn compare(expected: &Picture, found: &Picture, when: &str) {
    let mut wrong = expected.differences(found);
    wrong.truncate(20);
    assert!(wrong.is_empty(), "cut in {when}, run again, and other than uncut:\n{}", wrong.join("\n"));
}

/// Takes away what may differ: ids and seals become their place in the order, times and random ids go.
struct Plain {
    replace: Vec<(String, String)>,
}

impl Plain {
    fn of(lab: &Lab, homes: &[&str]) -> Self {
        let mut sequences = BTreeMap::new();
        let mut replace = Vec::new();
        let places = homes.iter().flat_map(|home| PLACES.map(|place| lab.path(home).join(place)));
        for place in places {
            for id in names(&place) {
                let Ok(text) = fs::read_to_string(place.join(&id).join("generation.toml")) else {
                    continue;
                };
                let table: toml::Table = text.parse().unwrap();
                sequences.insert(id, table["sequence"].as_integer().unwrap());
                replace.push((Digest::of(text.as_bytes()).to_string(), "<seal>".to_owned()));
                replace.push((table["lineage"].as_str().unwrap().to_owned(), "<lineage>".to_owned()));
            }
        }
        let root = lab.path("");
        replace.push((root.to_str().unwrap().trim_end_matches('/').to_owned(), "<lab>".to_owned()));
        // `…Z-2` before `…Z`, which is the beginning of it.
        let mut ids: Vec<(String, String)> =
            sequences.into_iter().map(|(id, sequence)| (id, format!("<generation {sequence}>"))).collect();
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
            _ if path.iter().any(|part| part == "data" || part == "delta") => {
                return Digest::of(&bytes).to_string();
            }
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
    let times = ["started", "finished", "stored", "store", "at", "condemned", "verified"];
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
