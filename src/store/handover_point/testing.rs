//! Homes with generations in them, for the tests of this module and of the gate.

use std::{collections::BTreeSet, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use jiff::{SignedDuration, Timestamp};

use super::{HandoverPoint, Sealed};
use crate::{
    manifest::{
        Channel, Digest, Generation, GenerationId, Receipt, Seal,
        generation::{Element, Sums},
        names,
        receipt::Verify,
    },
    sys::{Dir, users},
};

/// The transport user of the tests: another one if the tests run as root.
pub(crate) fn owner() -> Option<(u32, u32)> {
    users::is_root().then_some((65_534, 65_534))
}

/// A home in a temporary folder, open.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) point: HandoverPoint,
    pub(crate) channel: Channel,
}

pub(crate) fn at(hour: i64) -> Timestamp {
    "2026-11-23T03:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hour)
}

pub(crate) fn id(hour: i64) -> GenerationId {
    GenerationId::at(at(hour), 1)
}

pub(crate) fn home(channel: Channel) -> Home {
    let folder = tempfile::tempdir().unwrap();
    // The transport user must be able to reach it.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("home");
    HandoverPoint::create(&path, channel, owner()).unwrap();
    let point = HandoverPoint::open(&path, channel).unwrap();
    Home { folder, point, channel }
}

pub(crate) fn element(name: &str, ok: bool) -> Element {
    Element {
        name: name.parse().unwrap(),
        kind: "tree".into(),
        ok,
        reason: None,
        files: 1,
        bytes: 5,
        failed: 0,
        unstable: 0,
    }
}

pub(crate) fn generation(hour: i64, channel: Channel, elements: &[(&str, bool)]) -> Generation {
    let none = Digest::of(b"");
    Generation {
        format: 1,
        id: id(hour),
        sequence: 100 + hour as u64,
        lineage: "0123456789abcdef".into(),
        source: "shop".parse().unwrap(),
        channel,
        host: "shop.example.org".into(),
        started: at(hour),
        finished: at(hour),
        version: "0.1.0".into(),
        previous: None,
        entries: 2,
        files: 1,
        bytes: 5,
        sha256: Sums { manifest: none, xattrs: none, sha256sums: none, readme: none },
        elements: elements.iter().map(|(name, ok)| element(name, *ok)).collect(),
        drill: None,
        config: String::new(),
    }
}

pub(crate) fn receipt(id: &GenerationId, seal: &Seal) -> Vec<u8> {
    let receipt = Receipt {
        format: 1,
        id: id.clone(),
        seal: *seal,
        sequence: 7,
        stored: at(1),
        sink: "vault".into(),
        store: "0a0b".into(),
        verify: Verify::Transferred,
        hashed: 1,
        reread: 0,
        linked: 0,
    };
    receipt.to_text().unwrap().into_bytes()
}

pub(crate) fn put(dir: &Dir, name: &str, bytes: &[u8], owner: Option<(u32, u32)>) {
    let mut file = dir.create_file(name, 0o600).unwrap();
    file.write_all(bytes).unwrap();
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).unwrap();
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o440)).unwrap();
}

impl Home {
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    /// A second view, as another process has it.
    pub(crate) fn reopened(&self) -> HandoverPoint {
        HandoverPoint::open(&self.path(), self.channel).unwrap()
    }

    /// A sealed generation of that hour, with one good element.
    pub(crate) fn seal(&self, hour: i64) -> Sealed {
        self.seal_with(hour, &[("www", true)])
    }

    pub(crate) fn seal_with(&self, hour: i64, elements: &[(&str, bool)]) -> Sealed {
        let draft = self.point.begin(&id(hour)).unwrap();
        let owner = draft.new_file_owner();
        let www = draft.data().create_dir("www", 0o700).unwrap();
        put(&www, "index", b"hello", owner);
        for name in [names::MANIFEST, names::XATTRS, names::README, names::SUMS] {
            put(draft.dir(), name, b"text\n", owner);
        }
        draft.seal(&generation(hour, self.channel, elements)).unwrap()
    }

    pub(crate) fn seal_and_accept(&self, hour: i64) -> Sealed {
        let sealed = self.seal(hour);
        let text = receipt(sealed.id(), &sealed.seal());
        let answer = self.point.accept(sealed.id(), &sealed.seal(), &text, at(hour)).unwrap();
        assert!(matches!(answer, super::Acceptance::Accepted(_)), "{answer:?}");
        sealed
    }

    /// All names below a folder of the home.
    pub(crate) fn names(&self, place: &str) -> Vec<String> {
        let names = Dir::open(self.path().join(place)).unwrap().names().unwrap();
        names.into_iter().map(|n| n.into_string().unwrap()).collect()
    }

    /// How many places hold this generation whole: `generation.toml` and the content.
    pub(crate) fn copies(&self, id: &GenerationId) -> usize {
        let whole = |place: &str| {
            let dir = self.path().join(place).join(id.as_str());
            dir.join("generation.toml").is_file() && dir.join("data/www/index").is_file()
        };
        ["transport-outgoing", "store", "condemned"].into_iter().filter(|p| whole(p)).count()
    }
}

/// Every file below a folder with owner, group and mode.
pub(crate) fn owners(path: &Path) -> BTreeSet<(bool, u32, u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(path).unwrap();
    let mut all = BTreeSet::from([(meta.is_dir(), meta.uid(), meta.gid(), meta.mode() & 0o7777)]);
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            all.extend(owners(&entry.unwrap().path()));
        }
    }
    all
}

/// Runs something as the transport user, if the tests are root's; credentials are a thread's own on Linux.
pub(crate) fn as_transport_user<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let Some((uid, gid)) = owner() else {
        println!("not root: there is no other user to act as");
        return act();
    };
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                act()
            })
            .join()
            .unwrap()
    })
}
