//! Generations as a hostile source makes them: sealed as they should be, and wrong where a lie says so.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use handover::manifest::{
    Channel, Digest, Entry, Generation, GenerationId, Item, Kind,
    entry::{Links, order},
    generation::{Element, FORMAT, Sums},
    mtree, names, sums,
};
use serde_json::{Value, json};

/// A file in a forged generation, below `data/`.
pub type File = (&'static [u8], &'static [u8]);

/// What a hostile gate does, and what the sink must say about it.
pub struct Lie {
    /// Of the source, too.
    pub name: &'static str,
    /// The id of what it offers.
    pub id: &'static str,
    files: Vec<File>,
    manifest: fn(String) -> Vec<u8>,
    generation: fn(&mut Generation),
    offers: fn(&mut Value),
    after: fn(&Path),
    scripts: Vec<(&'static str, &'static str)>,
    /// The kind of the finding; none: it is stored as it is.
    pub kind: Option<&'static str>,
    /// What the finding says.
    pub says: &'static str,
}

impl Lie {
    /// One that is none, until something is changed.
    pub fn new(name: &'static str, kind: &'static str, says: &'static str) -> Self {
        Self {
            name,
            id: "20261101T000000Z",
            files: vec![(b"www/a", b"harmless\n")],
            manifest: String::into_bytes,
            generation: |_| {},
            offers: |_| {},
            after: |_| {},
            scripts: Vec::new(),
            kind: Some(kind),
            says,
        }
    }

    /// What is not refused.
    pub fn taken(name: &'static str) -> Self {
        Self { kind: None, ..Self::new(name, "", "") }
    }

    pub fn id(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    pub fn files(self, files: &[File]) -> Self {
        Self { files: files.to_vec(), ..self }
    }

    /// Changes the text of the manifest before it is sealed.
    pub fn manifest(self, manifest: fn(String) -> Vec<u8>) -> Self {
        Self { manifest, ..self }
    }

    /// Changes what the generation says of itself before it is sealed.
    pub fn generation(self, generation: fn(&mut Generation)) -> Self {
        Self { generation, ..self }
    }

    /// Changes the answer to `offers`.
    pub fn offers(self, offers: fn(&mut Value)) -> Self {
        Self { offers, ..self }
    }

    /// Changes the generation's folder after it is sealed.
    pub fn after(self, after: fn(&Path)) -> Self {
        Self { after, ..self }
    }

    /// What the gate does instead for a request: `offers`, `send-META`, `send-DATA`, `accept` or `reject`.
    pub fn script(mut self, request: &'static str, script: &'static str) -> Self {
        self.scripts.push((request, script));
        self
    }

    /// Puts all of it where the gate finds it.
    pub fn forge(&self, root: &Path) {
        let folder = root.join(self.name);
        drop(fs::remove_dir_all(&folder));
        let generation = folder.join("gen");
        fs::create_dir_all(generation.join(names::DATA)).unwrap();
        let items = items(&self.files);
        for (path, content) in &self.files {
            let to = generation.join(names::DATA).join(OsStr::from_bytes(path));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, content).unwrap();
        }
        let seal = self.seal(&generation, &items);
        (self.after)(&generation);
        let bytes: usize = self.files.iter().map(|(_, content)| content.len()).sum();
        let mut offers = json!({
            "name": self.name, "lineage": "ab12", "channel": "data", "version": "0.1.0", "clock": jiff::Timestamp::now(),
            "offers": [{"id": self.id, "sequence": 1, "seal": seal, "files": self.files.len(), "entries": items.len(),
                "bytes": bytes, "manifest_bytes": 1000, "rejected": false, "reading": false}],
        });
        (self.offers)(&mut offers);
        fs::write(folder.join("offers.json"), serde_json::to_vec(&offers).unwrap()).unwrap();
        for (request, script) in &self.scripts {
            fs::write(folder.join(format!("lie-{request}")), script).unwrap();
        }
    }

    fn seal(&self, folder: &Path, items: &[Item]) -> Digest {
        let mut writer = mtree::Writer::new(Vec::new()).unwrap();
        items.iter().for_each(|item| writer.item(item).unwrap());
        let totals = writer.totals();
        let (text, _) = writer.finish().unwrap();
        let text = (self.manifest)(String::from_utf8(text).unwrap());
        let manifest = Digest::of(&text);
        let (xattrs, readme) = (Digest::of(b""), Digest::of(b"read me\n"));
        let others = [(names::MANIFEST, manifest), (names::XATTRS, xattrs), (names::README, readme)];
        let all = items.iter().cloned().map(Ok::<_, std::io::Error>);
        let sha256sums = sums::write(all, &others, &mut Vec::new()).unwrap();
        let now = jiff::Timestamp::now();
        let mut generation = Generation {
            format: FORMAT,
            id: self.id.parse::<GenerationId>().unwrap(),
            sequence: 1,
            lineage: "ab12".to_owned(),
            source: self.name.parse().unwrap(),
            channel: Channel::Data,
            host: "evil.example.org".to_owned(),
            started: now,
            finished: now,
            version: "0.1.0".to_owned(),
            previous: None,
            entries: totals.entries,
            files: totals.files,
            bytes: totals.bytes,
            sha256: Sums { manifest, xattrs, sha256sums, readme },
            elements: vec![Element {
                name: "www".parse().unwrap(),
                kind: "tree".to_owned(),
                ok: true,
                reason: None,
                files: totals.files,
                bytes: totals.bytes,
                failed: 0,
                unstable: 0,
            }],
            drill: None,
            config: String::new(),
        };
        (self.generation)(&mut generation);
        let (sealed, seal) = generation.to_text().unwrap();
        let written = [
            (names::GENERATION, sealed.as_bytes()),
            (names::MANIFEST, &text),
            (names::XATTRS, b""),
            (names::README, b"read me\n"),
        ];
        written.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        seal
    }
}

/// The manifest of files, with the folders on the way.
fn items(files: &[File]) -> Vec<Item> {
    let mut all: Vec<(Vec<u8>, Kind)> = Vec::new();
    for (path, content) in files {
        let (size, digest) = (content.len() as u64, Digest::of(content));
        all.push((path.to_vec(), Kind::File { size, digest, links: Links::One }));
        for folder in PathBuf::from(OsStr::from_bytes(path)).ancestors().skip(1) {
            let folder = folder.as_os_str().as_bytes().to_vec();
            if !folder.is_empty() && !all.iter().any(|(path, _)| *path == folder) {
                all.push((folder, Kind::Dir));
            }
        }
    }
    all.sort_by(|a, b| order(&a.0, &b.0));
    let entry = |(path, kind)| {
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        let mtime = Default::default();
        Item::Entry(Entry { path, mode, uid: 0, gid: 0, uname: None, gname: None, mtime, kind })
    };
    all.into_iter().map(entry).collect()
}
