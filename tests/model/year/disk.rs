//! The same with the real stores of both sides, on a file system in memory, generation by generation.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use handover::{
    config::{self, Role, Surroundings},
    manifest::{
        Channel, Digest, Entry, Generation, GenerationId, Item, Kind, Limits, Seal,
        entry::{Links, order},
        generation::{Element, FORMAT, Sums},
        mtree, names,
        receipt::Verify,
        sums,
    },
    sink::{brake, prune},
    store::{
        SinkStore, SourceStore,
        handover_point::{Acceptance, HandoverPoint},
        meta::Expect,
        place::Committed,
        plan::Policy,
        prove::Effort,
    },
    sys::{Dir, users},
};
use jiff::{SignedDuration, Timestamp};

use crate::{is_long, parsers::Chance};

const KEEP: u32 = 3;
const MAX_WAITING: u32 = 7;
const UNDO_FOR: Duration = Duration::from_secs(86_400);

struct World {
    point: HandoverPoint,
    shop: Arc<SourceStore>,
    sink: config::Sink,
    source_home: PathBuf,
    time: Timestamp,
    sequence: u64,
    /// What was sealed, in order, and what may be gone of it.
    sealed: Vec<(GenerationId, Seal)>,
    let_go: BTreeSet<GenerationId>,
    /// Something looks suspicious at the sink, and nobody has looked yet.
    frozen: bool,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (source_home, sink_home) = (folder.path().join("source"), folder.path().join("sink"));
        let owner = users::is_root().then_some((65_534, 65_534));
        HandoverPoint::create(&source_home, Channel::Data, owner).unwrap();
        let text = format!(
            "[sink]\nhome = \"{}\"\nkeep = {{ last = 3, daily = 7, weekly = 4, monthly = 6 }}\nreserve = \"0%\"\n\
             [[sink.source]]\nname = \"shop\"\npath = \"{}\"\n",
            sink_home.display(),
            source_home.display()
        );
        let around = Surroundings { state_directory: None, processors: 1 };
        let config = config::parse(&text, Path::new("handover.toml"), &around, Role::Sink).unwrap();
        Self {
            point: HandoverPoint::open(&source_home, Channel::Data).unwrap(),
            shop: SinkStore::create(&sink_home).unwrap().source(&"shop".parse().unwrap()).unwrap(),
            sink: config.sink.unwrap(),
            source_home,
            time: "2026-11-23T03:00:00Z".parse().unwrap(),
            sequence: 0,
            sealed: Vec::new(),
            let_go: BTreeSet::new(),
            frozen: false,
            folder,
        }
    }

    /// A run of the source: as `source/run.rs` orders it.
    fn collect(&mut self, now: Timestamp) {
        self.point.recover(now).unwrap();
        self.point.prune(KEEP, now).unwrap();
        self.point.purge_condemned(UNDO_FOR, now).unwrap();
        let taken = |id: &GenerationId| self.sealed.iter().any(|(there, _)| there == id);
        let id = self.point.free_id(now, taken).unwrap();
        self.sequence += 1;
        let draft = self.point.begin(&id).unwrap();
        let owner = draft.new_file_owner();
        let content = format!("{}\n", self.sequence);
        let digest = Digest::of(content.as_bytes());
        let element = draft.data().create_dir("e", 0o700).unwrap();
        put(&element, "a", content.as_bytes(), owner);
        let size = content.len() as u64;
        let mut items =
            vec![entry(b"e", Kind::Dir), entry(b"e/a", Kind::File { size, digest, links: Links::One })];
        items.sort_by(|a, b| order(a.path(), b.path()));
        let mut writer = mtree::Writer::new(Vec::new()).unwrap();
        items.iter().for_each(|item| writer.item(item).unwrap());
        let totals = writer.totals();
        let (text, manifest) = writer.finish().unwrap();
        let (xattrs, readme) = (Digest::of(b""), Digest::of(b"read me\n"));
        let others = [(names::MANIFEST, manifest), (names::XATTRS, xattrs), (names::README, readme)];
        let mut sums_text = Vec::new();
        let sha256sums =
            sums::write(items.into_iter().map(Ok::<_, std::io::Error>), &others, &mut sums_text).unwrap();
        for (name, bytes) in [
            (names::MANIFEST, &text[..]),
            (names::XATTRS, b""),
            (names::README, b"read me\n"),
            (names::SUMS, &sums_text),
        ] {
            put(draft.dir(), name, bytes, owner);
        }
        let generation = Generation {
            format: FORMAT,
            id: id.clone(),
            sequence: self.sequence,
            lineage: "l".to_owned(),
            source: "shop".parse().unwrap(),
            channel: Channel::Data,
            host: "shop".to_owned(),
            started: now,
            finished: now,
            version: "0".to_owned(),
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
                files: 1,
                bytes: size,
                failed: 0,
                unstable: 0,
            }],
            drill: None,
            config: String::new(),
        };
        let sealed = draft.seal(&generation).unwrap();
        self.sealed.push((id, sealed.seal()));
        for gone in self.point.drop_eldest_waiting(MAX_WAITING, now).unwrap().items {
            self.let_go.insert(gone.id);
        }
    }

    /// A run of the sink; how many generations came.
    fn fetch(&mut self, now: Timestamp) -> usize {
        self.shop.recover().unwrap();
        let mut came = 0;
        for waiting in self.point.waiting().unwrap().items {
            let (id, seal) = (waiting.found.id().clone(), waiting.found.seal);
            let stored = self.shop.get(&id).unwrap().unwrap_or_else(|| {
                came += 1;
                self.store(&id, seal, waiting.found.generation.sequence, now)
            });
            let text = stored.receipt.to_text().unwrap();
            let accepted = self.point.accept(&id, &seal, text.as_bytes(), now).unwrap();
            assert!(matches!(accepted, Acceptance::Accepted(_)), "{accepted:?}");
            self.point.prune(KEEP, now).unwrap();
        }
        let pruned = self.prune(now);
        assert!(came > 0 || pruned == 0, "nothing came, and {pruned} went");
        came
    }

    /// How many generations went.
    fn prune(&mut self, now: Timestamp) -> usize {
        let pruned = prune::prune(&self.shop, &self.sink.sources[0], &self.sink, now).unwrap();
        let nothing = pruned.condemned.is_empty() && pruned.deleted.is_empty();
        assert!(!self.frozen || nothing, "it is frozen, and {pruned:?} went");
        self.let_go.extend(pruned.condemned.iter().map(|(id, _)| id.clone()));
        pruned.condemned.len()
    }

    /// The newest looks suspicious from now on.
    fn freeze(&mut self) {
        if let Some(newest) = self.shop.stored().unwrap().0.last() {
            self.shop
                .mark(newest.id(), &mut |marks| marks.suspicious = Some("it is odd".to_owned()))
                .unwrap();
            self.frozen = true;
        }
    }

    /// A person has looked: what has piled up goes. How many generations those are.
    fn thaw(&mut self, now: Timestamp) -> usize {
        let state = Dir::open(self.folder.path()).unwrap();
        let which = brake::suspicious(&self.shop.stored().unwrap().0, None);
        brake::trust(&self.shop, &state, &which, now).unwrap();
        self.frozen = false;
        self.prune(now)
    }

    fn store(&self, id: &GenerationId, seal: Seal, sequence: u64, now: Timestamp) -> handover::store::Stored {
        let from = self.source_home.join("transport-outgoing").join(id.as_str());
        let staging = self.shop.stage(id).unwrap();
        for name in [names::GENERATION, names::MANIFEST, names::XATTRS, names::README] {
            fs::copy(from.join(name), staging.meta_path().join(name)).unwrap();
        }
        let limits = Limits { entries: 100, bytes: 1000 };
        let source = "shop".parse().unwrap();
        let expect = Expect {
            seal,
            source,
            channel: Channel::Data,
            lineage: Some("l".to_owned()),
            sequence: Some(sequence),
            limits,
        };
        let policy =
            Policy { verify: Verify::Transferred, now, relink_max_age: SignedDuration::from_hours(720) };
        let effort = Effort::quiet(1);
        let mut bases = self.shop.stored().unwrap().0;
        bases.reverse();
        let planned = staging.meta(&expect).unwrap().plan(&bases, policy, &effort).unwrap();
        let prover = planned.prover(&effort).unwrap();
        for path in BufReader::new(planned.list().unwrap()).split(0) {
            let path = path.unwrap();
            let name = Path::new(std::ffi::OsStr::from_bytes(&path));
            let to = planned.recv_path().join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from.join("data").join(name), to).unwrap();
            prover.received(&path);
        }
        prover.finish().unwrap();
        match planned.check(None, &effort).unwrap().commit("vault", now, Default::default()).unwrap() {
            Committed::New(stored) | Committed::Already(stored) => stored,
        }
    }

    /// The promise, the newest, and that nothing grows without end.
    fn look(&self) {
        let in_sink: Vec<_> = self.shop.stored().unwrap().0.iter().map(|s| s.id().clone()).collect();
        let waiting: Vec<_> =
            self.point.waiting().unwrap().items.iter().map(|w| w.found.id().clone()).collect();
        let in_source: Vec<_> =
            self.point.stored().unwrap().items.iter().map(|s| s.found.id().clone()).collect();
        for (id, _) in &self.sealed {
            let somewhere = [&in_sink, &waiting, &in_source].iter().any(|place| place.contains(id));
            assert!(somewhere || self.let_go.contains(id), "{id} is nowhere");
        }
        let newest = self.sealed.last().map(|(id, _)| id);
        assert!(waiting.last() == newest || in_sink.last() == newest, "the newest is gone: {newest:?}");
        assert!(waiting.len() <= MAX_WAITING as usize && in_source.len() <= KEEP as usize + 1);
        assert!(self.point.condemned().unwrap().items.len() <= 20, "the condemned ones pile up");
        assert!(self.frozen || in_sink.len() <= 3 + 7 + 4 + 6 + 2, "{in_sink:?}");
    }
}

fn put(dir: &Dir, name: &str, bytes: &[u8], owner: Option<(u32, u32)>) {
    let mut file = dir.create_file(name, 0o600).unwrap();
    file.write_all(bytes).unwrap();
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).unwrap();
    }
    file.set_permissions(Permissions::from_mode(0o440)).unwrap();
}

fn entry(path: &[u8], kind: Kind) -> Item {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    let (path, mtime) = (path.to_vec(), Default::default());
    Item::Entry(Entry { path, mode, uid: 0, gid: 0, uname: None, gname: None, mtime, kind })
}

#[test]
fn months_on_the_real_stores_lose_nothing_and_stay_bounded() {
    let (mut world, mut chance) = (World::new(), Chance(7));
    let (mut wrong, mut sink_is_out, mut fetched, mut held) = (SignedDuration::ZERO, 0, 0, 0);
    let runs = if is_long() { 2000 } else { 120 };
    for _ in 0..runs {
        world.time += SignedDuration::from_hours(6 + chance.below(30) as i64);
        match chance.below(30) {
            0 => wrong = SignedDuration::from_hours(chance.below(2000) as i64 - 1000),
            1..=3 => wrong = SignedDuration::ZERO,
            4 => sink_is_out = chance.below(15),
            5 => world.freeze(),
            6..=7 if world.frozen => held += world.thaw(world.time),
            _ => {}
        }
        let now = world.time + wrong;
        // The source may be slow or dead as well.
        if chance.below(6) > 0 || world.sealed.is_empty() {
            world.collect(now);
        }
        if sink_is_out > 0 {
            sink_is_out -= 1;
        } else {
            fetched += world.fetch(world.time);
        }
        world.look();
    }
    let (sealed, let_go) = (world.sealed.len(), world.let_go.len());
    println!(
        "{runs} runs: {sealed} sealed, {fetched} fetched, {let_go} let go, {held} of them held for a time"
    );
    crate::proof::proof("a simulated year: runs on real stores", runs, 0);
    assert!(fetched > 40 && let_go > 20 && held > 2, "too little has happened");
}
