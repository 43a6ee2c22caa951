//! What has to be fetched: the manifest merged with the one of a stored generation.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

pub use super::receive::{Proven, Prover};
use super::{
    Found, Result, Stored,
    meta::proven_items,
    prove::{Bad, Effort, Fresh, Job, Readers, Rule, WRONG, Wrong, fault_of_file, look},
    staging::{Place, WithMeta},
    walk::Cursor,
    wanted::Wanted,
};
use crate::{
    manifest::{
        Digest, Entry, GenerationId, Hashing, Kind,
        entry::stored_path,
        merge::{self, Origin},
        names,
        receipt::Verify,
    },
    sys::{self, Dir, durable, signals, stamp, users},
};

pub(super) const WANTED: &str = "wanted.list";
pub(super) const FETCH: &str = "fetch.list";

/// How content is to be proven.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What is hashed.
    pub verify: Verify,
    /// The time of the run: proofs get it, and are judged by it.
    pub now: Timestamp,
    /// A linked inode whose last proof is older is read again first.
    pub relink_max_age: SignedDuration,
}

/// What is still to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToFetch {
    /// Files.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes of the largest of them.
    pub largest: u64,
}

/// What the merge found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Files that must come from the source, among them those that an earlier attempt brought.
    pub wanted: ToFetch,
    /// Files that are linked.
    pub known: u64,
    /// Files that are made here, because they are empty.
    pub empty: u64,
    /// Files among those whose stored content was read again for this plan.
    pub reread: u64,
    /// Folders.
    pub folders: u64,
}

/// A stored generation that serves as basis.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) id: GenerationId,
    pub(super) dir: Dir,
    pub(super) data: Dir,
}

/// A generation of which it is known what must come from the source and what is linked.
#[derive(Debug)]
#[must_use = "a staging that is neither used nor abandoned stays on the disk"]
pub struct Planned {
    pub(super) place: Place,
    pub(super) found: Found,
    pub(super) generation: Vec<u8>,
    pub(super) basis: Option<Basis>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) origins: Origins,
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    pub(super) to_fetch: ToFetch,
    own_damage: Vec<Bad>,
}

impl WithMeta {
    /// Plans the transfer. The first of `bases` (give the newest first) whose manifest is sound serves as basis: what it
    /// has need not be fetched. Its content is read again first where its last proof is too old, or all of it with
    /// [`Verify::All`]; what fails is marked as damaged wherever it is shared, and fetched instead. What an earlier
    /// attempt brought is hashed; what is there and was not asked for goes.
    pub fn plan(self, bases: &[Stored], policy: Policy, effort: &Effort) -> Result<Planned> {
        let Self { place, found, folders, generation } = self;
        let mut own_damage = Vec::new();
        let basis = choose(&place, bases, policy.now, &mut own_damage)?;
        let mut merging = Merging::start(&place, basis.as_ref(), policy, effort)?;
        let merged = each(&place, basis.as_ref(), &mut |entry, origin| merging.entry(entry, origin));
        let merging = merged.map(|()| merging)?;
        let (wanted, origins, mut plan, bad) = merging.finish()?;
        plan.folders = folders;
        if let Some(basis) = &basis {
            place.store.blame(&basis.id, &bad, policy.now)?;
        }
        own_damage.extend(bad.iter().map(Wrong::to_bad));
        let (wanted, to_fetch) = (Arc::new(wanted), ToFetch::default());
        let mut planned =
            Planned { place, found, generation, basis, wanted, origins, policy, plan, to_fetch, own_damage };
        planned.drop_deltas()?;
        planned.settle(effort)?;
        planned.tidy()?;
        Ok(planned)
    }
}

/// The first basis whose manifest is the one that was sealed; the others are marked.
fn choose(place: &Place, bases: &[Stored], now: Timestamp, damage: &mut Vec<Bad>) -> Result<Option<Basis>> {
    for stored in bases {
        let dir = place.store.open(stored.id())?;
        let mut manifest = Hashing::new(dir.open_file(names::MANIFEST)?);
        let digest = manifest.drain().map_err(|e| sys::Error::new("read", dir.join(names::MANIFEST), e))?;
        if digest == stored.found.generation.sha256.manifest {
            let data = dir.open_dir(names::DATA)?;
            return Ok(Some(Basis { id: stored.id().clone(), dir, data }));
        }
        place.store.mark(stored.id(), &mut |marks| marks.add_damage(names::MANIFEST.as_bytes(), now))?;
        let path = format!("{}/{}", stored.id(), names::MANIFEST).into_bytes();
        damage.push(Bad { path, why: "it is not the one that was sealed".to_owned() });
    }
    Ok(None)
}

/// Where the content of each regular file comes from, in the order of the manifest: so that it is found once. One byte for
/// each file, and the path of what is another file's.
#[derive(Debug, Default)]
pub(super) struct Origins {
    kinds: Vec<u8>,
    paths: HashMap<usize, Box<[u8]>>,
}

impl Origins {
    const FETCH: u8 = 0;
    const FETCH_WITH_BASIS: u8 = 1;
    const SAME: u8 = 2;
    const EMPTY: u8 = 3;
    const KNOWN: u8 = 4;
    const TWIN: u8 = 5;

    fn add(&mut self, origin: Origin<'_>) {
        let (kind, path) = match origin {
            Origin::Fetch { has_basis: false } => (Self::FETCH, None),
            Origin::Fetch { has_basis: true } => (Self::FETCH_WITH_BASIS, None),
            Origin::Same => (Self::SAME, None),
            Origin::Empty => (Self::EMPTY, None),
            Origin::Known { old_stored } => (Self::KNOWN, Some(old_stored)),
            Origin::Twin { first_stored } => (Self::TWIN, Some(first_stored)),
        };
        self.paths.extend(path.map(|path| (self.kinds.len(), path.into())));
        self.kinds.push(kind);
    }

    /// Whether the content of a file is that of another which is fetched.
    pub(super) fn has_twins(&self) -> bool {
        self.kinds.contains(&Self::TWIN)
    }

    /// That of the file of this number, from 0; `None` beyond the last.
    pub(super) fn get(&self, file: usize) -> Option<Origin<'_>> {
        let path = || self.paths.get(&file).map(|path| &**path);
        match *self.kinds.get(file)? {
            Self::FETCH => Some(Origin::Fetch { has_basis: false }),
            Self::FETCH_WITH_BASIS => Some(Origin::Fetch { has_basis: true }),
            Self::SAME => Some(Origin::Same),
            Self::EMPTY => Some(Origin::Empty),
            Self::KNOWN => path().map(|old_stored| Origin::Known { old_stored }),
            _ => path().map(|first_stored| Origin::Twin { first_stored }),
        }
    }
}

/// Calls `visit` with every regular file of the staged manifest and where its content comes from.
fn each(
    place: &Place,
    basis: Option<&Basis>,
    visit: &mut dyn FnMut(&Entry, Origin<'_>) -> Result<()>,
) -> Result<()> {
    let mut new = || proven_items(&place.tree);
    let mut visit = |entry: &Entry, origin: Origin<'_>| {
        signals::check()?;
        visit(entry, origin)
    };
    match basis {
        Some(basis) => merge::plan(Some(&mut || proven_items(&basis.dir)), &mut new, &mut visit)?,
        None => merge::plan(None, &mut new, &mut visit)?,
    };
    Ok(())
}

/// The merge as it goes on.
struct Merging {
    basis: Option<(Cursor, Readers)>,
    policy: Policy,
    list: BufWriter<durable::Writer<File>>,
    list_path: PathBuf,
    wanted: Wanted,
    origins: Origins,
    plan: Plan,
    bad: Vec<Wrong>,
}

impl Merging {
    fn start(place: &Place, basis: Option<&Basis>, policy: Policy, effort: &Effort) -> Result<Self> {
        let start = |basis: &Basis| -> Result<_> {
            Ok((Cursor::new(&basis.data)?, Readers::start(&basis.data, &Rule::Own, policy.now, effort)?))
        };
        Ok(Self {
            basis: basis.map(start).transpose()?,
            policy,
            list: BufWriter::new(durable::Writer::new(place.draft(WANTED)?, place.dir.join(WANTED))),
            list_path: place.dir.join(WANTED),
            wanted: Wanted::default(),
            origins: Origins::default(),
            plan: Plan::default(),
            bad: Vec::new(),
        })
    }

    fn entry(&mut self, entry: &Entry, origin: Origin<'_>) -> Result<()> {
        let Kind::File { size, digest, .. } = entry.kind else { return Ok(()) };
        let asked = stored_path(&entry.path);
        self.origins.add(origin);
        match origin {
            Origin::Fetch { .. } => self.want(&asked, size, digest),
            Origin::Same => self.link(Job { path: asked.clone(), asked, size, digest }),
            Origin::Known { old_stored } => self.link(Job { path: old_stored.to_vec(), asked, size, digest }),
            Origin::Twin { .. } => {
                self.plan.known += 1;
                Ok(())
            }
            Origin::Empty => {
                self.plan.empty += 1;
                Ok(())
            }
        }
    }

    fn want(&mut self, asked: &[u8], size: u64, digest: Digest) -> Result<()> {
        self.wanted.add(asked, size, digest);
        self.list
            .write_all(asked)
            .and_then(|()| self.list.write_all(b"\0"))
            .map_err(|e| sys::Error::new("write", &self.list_path, e).into())
    }

    /// Decides whether what the basis has can be linked, as far as a look tells; the threads decide the rest.
    fn link(&mut self, job: Job) -> Result<()> {
        let Some((cursor, readers)) = &mut self.basis else {
            return self.want(&job.asked, job.size, job.digest);
        };
        let stat = match cursor.parent(&job.path).and_then(|(dir, name)| dir.stat(name)) {
            Ok(stat) => stat,
            Err(e) => {
                let why = fault_of_file(e)?;
                return self.damaged(Wrong { job, why, inode: None });
            }
        };
        if let Err(why) = look(&stat, job.size) {
            return self.damaged(Wrong { job, why, inode: Some(stat.st_ino) });
        }
        if stat.st_uid != users::euid() || stamp::mtime(&stat) == WRONG {
            return self.want(&job.asked, job.size, job.digest);
        }
        let fresh = Fresh { now: self.policy.now, max_age: self.policy.relink_max_age };
        let read = match self.policy.verify {
            Verify::None => false,
            Verify::Transferred => !fresh.is(&stat),
            Verify::All => true,
        };
        self.plan.known += 1;
        if read {
            self.plan.reread += 1;
            readers.read(job);
        }
        Ok(())
    }

    fn damaged(&mut self, wrong: Wrong) -> Result<()> {
        self.want(&wrong.job.asked, wrong.job.size, wrong.job.digest)?;
        self.bad.push(wrong);
        Ok(())
    }

    fn finish(mut self) -> Result<(Wanted, Origins, Plan, Vec<Wrong>)> {
        if let Some((_, readers)) = self.basis.take() {
            for wrong in readers.finish()?.bad {
                self.plan.known -= 1;
                self.plan.reread -= 1;
                self.damaged(wrong)?;
            }
        }
        self.list.flush().map_err(|e| sys::Error::new("write", &self.list_path, e))?;
        self.wanted.seal();
        self.plan.wanted = ToFetch {
            files: self.wanted.files(),
            bytes: self.wanted.bytes(),
            largest: self.wanted.largest(),
        };
        Ok((self.wanted, self.origins, self.plan, self.bad))
    }
}

impl Planned {
    /// What the generation says of itself.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// What the merge found.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// What is still to be fetched; nothing: no transfer is needed.
    pub fn to_fetch(&self) -> ToFetch {
        self.to_fetch
    }

    /// What room the rest of the transfer needs: bytes and inodes.
    pub fn room_needed(&self) -> (u64, u64) {
        let folders = self.plan.folders.saturating_mul(2);
        (
            self.to_fetch.bytes,
            self.to_fetch.files.saturating_add(folders).saturating_add(self.plan.empty + 16),
        )
    }

    /// The list for rsync: what is still to be fetched, as paths below `data/`, each ended by a NUL.
    pub fn list(&self) -> Result<File> {
        Ok(self.place.dir.open_file(FETCH)?)
    }

    /// Where that list lies.
    pub fn list_path(&self) -> PathBuf {
        self.place.dir.join(FETCH)
    }

    /// Where rsync puts the content.
    pub fn recv_path(&self) -> PathBuf {
        self.place.recv.path().to_path_buf()
    }

    /// The content of the basis, for rsync to compare with and copy from, never to link.
    pub fn basis_path(&self) -> Option<PathBuf> {
        self.basis.as_ref().map(|basis| basis.data.path().to_path_buf())
    }

    /// The stored generation that serves as basis.
    pub fn basis(&self) -> Option<&GenerationId> {
        self.basis.as_ref().map(|basis| &basis.id)
    }

    /// What was found damaged in our own store while planning; it is marked there, and fetched.
    pub fn own_damage(&self) -> &[Bad] {
        &self.own_damage
    }

    /// Throws it away.
    pub fn abandon(self) -> Result<()> {
        self.place.abandon()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_origin_is_found_again_under_its_number() {
        let all = [
            Origin::Fetch { has_basis: false },
            Origin::Known { old_stored: b"e/old" },
            Origin::Same,
            Origin::Twin { first_stored: b"e/first" },
            Origin::Empty,
            Origin::Fetch { has_basis: true },
        ];
        let mut origins = Origins::default();
        all.iter().for_each(|origin| origins.add(*origin));
        for (number, origin) in all.iter().enumerate() {
            assert_eq!(origins.get(number), Some(*origin));
        }
        assert_eq!(origins.get(all.len()), None);
    }
}
