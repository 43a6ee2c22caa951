//! For tests: generations as a source makes them, and a transport that copies files as rsync would.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    SinkStore, SourceStore, Stored,
    meta::Expect,
    place::Committed,
    plan::{Planned, Policy},
    prove::Effort,
    staging::{Staging, WithMeta},
    walk::Cursor,
};
use crate::{
    manifest::{
        Channel, Digest, Entry, Generation, GenerationId, Item, Kind, Limits, Seal,
        entry::{Links, order, stored_path},
        generation::{Element, Sums},
        mtree, names,
        receipt::Verify,
        sums,
    },
    sys::Dir,
};

/// A generation in a folder of its own.
pub(crate) struct Sample {
    folder: tempfile::TempDir,
    pub(crate) id: GenerationId,
    pub(crate) seal: Seal,
    pub(crate) generation: Generation,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn id(text: &str) -> GenerationId {
    text.parse().unwrap()
}

/// All contents of one element `e`, by path below it.
pub(crate) type Files<'a> = &'a [(&'a [u8], &'a [u8])];

impl Sample {
    /// Makes a generation of the element `e` with these files.
    pub(crate) fn new(name: &str, sequence: u64, files: Files<'_>) -> Self {
        Self::altered(name, sequence, files, &mut |_| {})
    }

    /// The same with a last change to `generation.toml` before it is sealed.
    pub(crate) fn altered(
        name: &str,
        sequence: u64,
        files: Files<'_>,
        change: &mut dyn FnMut(&mut Generation),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let data = dir.create_dir(names::DATA, 0o750).unwrap();
        let mut tree = Cursor::making(&data, 0o750).unwrap();
        let mut items: BTreeMap<Vec<u8>, Kind> = BTreeMap::from([(b"e".to_vec(), Kind::Dir)]);
        for (path, content) in files {
            let path = [b"e/", *path].concat();
            for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
                items.insert(path[..at].to_vec(), Kind::Dir);
            }
            let stored = stored_path(&path);
            let (parent, name) = tree.parent(&stored).unwrap();
            parent.create_file(name, 0o440).unwrap().write_all(content).unwrap();
            let digest = Digest::of(content);
            items.insert(path, Kind::File { size: content.len() as u64, digest, links: Links::One });
        }
        let mut items: Vec<Item> = items.into_iter().map(entry).collect();
        items.sort_by(|a, b| order(a.path(), b.path()));
        let mut writer = mtree::Writer::new(Vec::new()).unwrap();
        items.iter().for_each(|item| writer.item(item).unwrap());
        let totals = writer.totals();
        let (manifest_text, manifest) = writer.finish().unwrap();
        let (xattrs, readme) = (Digest::of(b""), Digest::of(b"read me\n"));
        let others = [(names::MANIFEST, manifest), (names::XATTRS, xattrs), (names::README, readme)];
        let mut sums_text = Vec::new();
        let all = items.iter().cloned().map(Ok::<_, std::io::Error>);
        let sha256sums = sums::write(all, &others, &mut sums_text).unwrap();
        let mut generation = Generation {
            format: 1,
            id: id(name),
            sequence,
            lineage: "l".to_owned(),
            source: "shop".parse().unwrap(),
            channel: Channel::Data,
            host: "shop.example.org".to_owned(),
            started: at("2026-11-23T03:00:00Z"),
            finished: at("2026-11-23T03:00:10Z"),
            version: "0.1.0".to_owned(),
            previous: None,
            entries: totals.entries,
            files: totals.files,
            bytes: totals.bytes,
            sha256: Sums { manifest, xattrs, sha256sums, readme },
            elements: vec![Element {
                name: "e".parse().unwrap(),
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
        change(&mut generation);
        let (text, seal) = generation.to_text().unwrap();
        for (name, bytes) in [
            (names::MANIFEST, manifest_text.as_slice()),
            (names::XATTRS, b""),
            (names::README, b"read me\n"),
            (names::SUMS, &sums_text),
            (names::GENERATION, text.as_bytes()),
        ] {
            dir.create_file(name, 0o440).unwrap().write_all(bytes).unwrap();
        }
        Self { folder, id: id(name), seal, generation }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn expect(&self) -> Expect {
        Expect {
            seal: self.seal,
            source: "shop".parse().unwrap(),
            channel: Channel::Data,
            lineage: Some("l".to_owned()),
            sequence: Some(self.generation.sequence),
            limits: Limits { entries: 1000, bytes: 1_000_000 },
        }
    }

    /// As rsync brings the generation's own files.
    pub(crate) fn send_meta(&self, staging: &Staging) {
        let to = Dir::open(staging.meta_path()).unwrap();
        for name in [names::GENERATION, names::MANIFEST, names::XATTRS, names::README] {
            put(&to, name.as_bytes(), &std::fs::read(self.path().join(name)).unwrap());
        }
    }

    /// As rsync brings what is on the list; gives the stored paths in order.
    pub(crate) fn send_data(&self, planned: &Planned) -> Vec<Vec<u8>> {
        let to = Dir::open(planned.recv_path()).unwrap();
        let mut sent = Vec::new();
        for path in BufReader::new(planned.list().unwrap()).split(0) {
            let path = path.unwrap();
            let from = self.path().join(names::DATA).join(OsStr::from_bytes(&path));
            put(&to, &path, &std::fs::read(from).unwrap());
            sent.push(path);
        }
        sent
    }
}

fn entry((path, kind): (Vec<u8>, Kind)) -> Item {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    Item::Entry(Entry {
        path,
        mode,
        uid: 0,
        gid: 0,
        uname: None,
        gname: None,
        mtime: Default::default(),
        kind,
    })
}

/// Puts a file below a folder as rsync does: under a temporary name, then renamed over what is there.
pub(crate) fn put(root: &Dir, path: &[u8], content: &[u8]) {
    let mut cursor = Cursor::making(root, 0o700).unwrap();
    let (dir, name) = cursor.parent(path).unwrap();
    dir.create_file(".temporary", 0o600).unwrap().write_all(content).unwrap();
    rustix::fs::renameat(dir, ".temporary", dir, name).unwrap();
}

/// A sink's store with the part of the source `shop`.
pub(crate) struct Sink {
    home: tempfile::TempDir,
    pub(crate) shop: Arc<SourceStore>,
    pub(crate) policy: Policy,
}

impl Sink {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let shop = SinkStore::create(home.path()).unwrap().source(&"shop".parse().unwrap()).unwrap();
        let policy = Policy {
            verify: Verify::Transferred,
            now: at("2026-11-23T04:00:00Z"),
            relink_max_age: SignedDuration::from_hours(24 * 30),
        };
        Self { home, shop, policy }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    /// The content file of a stored generation.
    pub(crate) fn data(&self, of: &GenerationId, path: &str) -> PathBuf {
        self.shop.path(of).join("data/e").join(path)
    }

    pub(crate) fn staged(&self, sample: &Sample) -> WithMeta {
        let staging = self.shop.stage(&sample.id).unwrap();
        sample.send_meta(&staging);
        staging.meta(&sample.expect()).unwrap()
    }

    pub(crate) fn planned(&self, sample: &Sample) -> Planned {
        let mut bases = self.shop.stored().unwrap().0;
        bases.reverse();
        self.staged(sample).plan(&bases, self.policy, &Effort::quiet(2)).unwrap()
    }

    pub(crate) fn store(&self, sample: &Sample) -> Stored {
        let planned = self.planned(sample);
        let prover = planned.prover(&Effort::quiet(2)).unwrap();
        sample.send_data(&planned).iter().for_each(|path| prover.received(path));
        assert!(prover.finish().unwrap().wrong.is_empty());
        let checked = planned.check(None, &Effort::quiet(2)).unwrap();
        match checked.commit("sink", self.policy.now, Default::default()).unwrap() {
            Committed::New(stored) => stored,
            Committed::Already(_) => panic!("it was there already"),
        }
    }
}
