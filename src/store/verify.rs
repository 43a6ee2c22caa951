//! Reading a whole generation again: what is here is what was sealed, or it is said what is not.

use std::path::Path;

use jiff::Timestamp;

use super::{
    Result, SourceStore,
    meta::items,
    note::CONDEMNED_NOTE,
    prove::{Bad, Effort, Job, Readers, Rule, Wrong, fault_of_file},
    walk::walk,
    wanted::key,
};
use crate::{
    manifest::{
        Digest, Generation, GenerationId, Item, Kind, Receipt, Seal, entry::stored_path, generation, names,
        receipt,
    },
    sys::{
        Dir,
        copy::{CopyError, hash_and_copy},
        signals,
    },
};

/// What may lie in a generation's folder.
const KNOWN: [&str; 10] = [
    names::DATA,
    names::MANIFEST,
    names::XATTRS,
    names::SUMS,
    names::README,
    names::GENERATION,
    names::RECEIPT,
    names::MARKS,
    names::REJECTED,
    CONDEMNED_NOTE,
];

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Content files that are good.
    pub files: u64,
    /// Bytes of content that were read of them: shared content is read once.
    pub bytes: u64,
    /// The generation's own files that are missing or wrong, by their names. Without a good manifest the content cannot
    /// be judged.
    pub own: Vec<Bad>,
    /// Content that is missing or wrong, by its stored path below `data/`.
    pub content: Vec<Bad>,
    /// What is there and belongs to no generation, by its path in the folder. Nothing is lost by it.
    pub extra: Vec<Vec<u8>>,
}

impl VerifyReport {
    /// Whether all that was sealed is here.
    pub fn is_whole(&self) -> bool {
        self.own.is_empty() && self.content.is_empty()
    }
}

impl SourceStore {
    /// Reads a stored generation again, all of it, and notes the outcome in its marks (and, of shared content that is
    /// damaged, in the marks of those that share it). Damaged content is never linked again.
    pub fn verify(&self, id: &GenerationId, now: Timestamp, effort: &Effort) -> Result<VerifyReport> {
        Ok(self.verify_naming(id, now, effort)?.0)
    }

    /// The same, with what each damaged content file should be.
    pub(super) fn verify_naming(
        &self,
        id: &GenerationId,
        now: Timestamp,
        effort: &Effort,
    ) -> Result<(VerifyReport, Vec<Wrong>)> {
        let (report, wrong) = self.examine(id, now, effort)?;
        self.mark(id, &mut |marks| {
            marks.damage = None;
            report.own.iter().for_each(|bad| marks.add_damage(&bad.path, now));
            if report.is_whole() {
                marks.verified = Some(now);
            }
        })?;
        self.blame(id, &wrong, now)?;
        Ok((report, wrong))
    }

    /// The same, and nothing is written.
    pub(super) fn examine(
        &self,
        id: &GenerationId,
        now: Timestamp,
        effort: &Effort,
    ) -> Result<(VerifyReport, Vec<Wrong>)> {
        let dir = self.open(id)?;
        let seal =
            dir.read(names::RECEIPT, receipt::LIMIT).ok().and_then(|bytes| Receipt::parse(&bytes).ok());
        let examining = Examining { dir: &dir, rule: Rule::Own, now, effort };
        let (mut report, wrong) = examining.run(seal.as_ref().map(|receipt| receipt.seal))?;
        if seal.is_none() {
            let why = "it is missing or cannot be read".to_owned();
            report.own.push(Bad { path: names::RECEIPT.into(), why });
        }
        Ok((report, wrong))
    }
}

/// Reads a generation anywhere, as one that a provider's backup brought back, and writes nothing.
pub fn verify_path(path: &Path, effort: &Effort) -> Result<VerifyReport> {
    let dir = Dir::open(path)?;
    let examining = Examining { dir: &dir, rule: Rule::Foreign, now: Timestamp::UNIX_EPOCH, effort };
    Ok(examining.run(None)?.0)
}

/// Reads a generation in an open folder against the seal that it must have, and writes nothing.
pub fn verify_sealed(dir: &Dir, seal: Seal, effort: &Effort) -> Result<VerifyReport> {
    let examining = Examining { dir, rule: Rule::Foreign, now: Timestamp::UNIX_EPOCH, effort };
    Ok(examining.run(Some(seal))?.0)
}

struct Examining<'a> {
    dir: &'a Dir,
    rule: Rule,
    now: Timestamp,
    effort: &'a Effort,
}

impl Examining<'_> {
    fn run(&self, seal: Option<Seal>) -> Result<(VerifyReport, Vec<Wrong>)> {
        let mut report = VerifyReport::default();
        let Some(generation) = self.generation(seal, &mut report)? else { return Ok((report, Vec::new())) };
        let sums = &generation.sha256;
        for (name, expected) in
            [(names::XATTRS, sums.xattrs), (names::SUMS, sums.sha256sums), (names::README, sums.readme)]
        {
            self.own(name, expected, &mut report)?;
        }
        let mut wrong = Vec::new();
        if self.own(names::MANIFEST, sums.manifest, &mut report)? {
            wrong = self.content(&mut report)?;
        }
        for name in self.dir.names()? {
            if !KNOWN.iter().any(|known| name == *known) {
                report.extra.push(name.as_encoded_bytes().to_vec());
            }
        }
        Ok((report, wrong))
    }

    fn generation(&self, seal: Option<Seal>, report: &mut VerifyReport) -> Result<Option<Generation>> {
        let mut bad = |why: String| report.own.push(Bad { path: names::GENERATION.into(), why });
        let bytes = match self.dir.read(names::GENERATION, generation::LIMIT) {
            Ok(bytes) => bytes,
            Err(e) => {
                bad(fault_of_file(e)?);
                return Ok(None);
            }
        };
        if seal.is_some_and(|seal| seal != Digest::of(&bytes)) {
            bad("it is not the one that was sealed".to_owned());
            return Ok(None);
        }
        Ok(Generation::parse(&bytes).map_err(|e| bad(e.to_string())).ok())
    }

    /// Hashes one of the generation's own files; whether it is good.
    fn own(&self, name: &str, expected: Digest, report: &mut VerifyReport) -> Result<bool> {
        let mut seen = |_| signals::check();
        let hashed = match self.dir.open_file(name) {
            Ok(file) => hash_and_copy(&file, None, &self.dir.join(name), &mut seen),
            Err(e) => Err(CopyError::Read(e)),
        };
        let why = match hashed {
            Ok(content) if content.sha256 == expected.0 => return Ok(true),
            Ok(_) => "it is not the one that was sealed".to_owned(),
            Err(CopyError::Interrupted(e)) => return Err(e.into()),
            Err(CopyError::Read(e) | CopyError::Write(e)) => fault_of_file(e)?,
        };
        report.own.push(Bad { path: name.into(), why });
        Ok(false)
    }

    fn content(&self, report: &mut VerifyReport) -> Result<Vec<Wrong>> {
        let Some(data) = self.dir.open_dir_if_any(names::DATA)? else {
            report.own.push(Bad { path: names::DATA.into(), why: "it is missing".to_owned() });
            return Ok(Vec::new());
        };
        let readers = Readers::start(&data, &self.rule, self.now, self.effort)?;
        let mut stored = Vec::new();
        for item in items(self.dir)? {
            signals::check()?;
            let Item::Entry(entry) = item? else { continue };
            let Kind::File { size, digest, .. } = entry.kind else { continue };
            let path = stored_path(&entry.path);
            stored.push(key(&path));
            readers.read(Job { asked: path.clone(), path, size, digest });
        }
        let tally = readers.finish()?;
        (report.files, report.bytes) = (tally.files, tally.bytes);
        report.content = tally.bad.iter().map(Wrong::to_bad).collect();
        report.content.sort_by(|a, b| a.path.cmp(&b.path));
        stored.sort_unstable();
        walk(&data, &mut |seen| {
            if !seen.kind().is_dir() && stored.binary_search(&key(seen.path)).is_err() {
                report.extra.push([names::DATA.as_bytes(), b"/", seen.path].concat());
            }
            Ok(())
        })?;
        Ok(tally.bad)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::{
        store::sample::{Sample, Sink, at, id},
        sys::durable,
    };

    const ONE: &str = "20261123T030000Z";
    const TWO: &str = "20261124T030000Z";

    fn now() -> Timestamp {
        at("2026-11-25T00:00:00Z")
    }

    fn overwrite(path: &Path, content: &[u8]) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
    }

    #[test]
    fn each_stored_inode_is_read_once_and_proven_for_all_that_share_it() {
        let sink = Sink::new();
        let one = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"twin", b"aaa"), (b"void", b"")]);
        sink.store(&one);
        let report = sink.shop.verify(&one.id, now(), &Effort::quiet(1)).unwrap();
        assert!(report.is_whole() && report.extra.is_empty());
        assert_eq!((report.files, report.bytes), (3, 3));
        assert_eq!(std::fs::metadata(sink.data(&one.id, "twin")).unwrap().mtime(), now().as_second());
        assert_eq!(sink.shop.get(&one.id).unwrap().unwrap().marks.verified, Some(now()));
    }

    #[test]
    fn damage_is_named_and_marked_and_a_repaired_generation_is_whole_again() {
        let sink = Sink::new();
        let files: crate::store::sample::Files<'_> = &[(b"a", b"aaa"), (b"b", b"bbb"), (b"c", b"ccc")];
        let (one, two) = (Sample::new(ONE, 1, files), Sample::new(TWO, 2, files));
        sink.store(&one);
        sink.store(&two);
        overwrite(&sink.data(&one.id, "a"), b"AAA");
        let e = Dir::open(sink.data(&one.id, "")).unwrap();
        durable::remove_file(&e, "b").unwrap();
        e.create_file("extra", 0o600).unwrap();
        sink.shop.open(&one.id).unwrap().create_file("note", 0o600).unwrap();
        let report = sink.shop.verify(&one.id, now(), &Effort::quiet(2)).unwrap();
        let shown: Vec<String> = report.content.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["e/a: its content is not the one in the manifest", "e/b: it is missing"]);
        assert_eq!(report.extra, [b"data/e/extra".to_vec(), b"note".to_vec()]);
        let marks = |of| sink.shop.get(&id(of)).unwrap().unwrap().marks;
        assert_eq!(marks(ONE).damage.unwrap().count, 2);
        assert_eq!(
            (marks(ONE).verified, marks(TWO).damage.unwrap().paths),
            (None, vec!["data/e/a".to_owned()])
        );
        overwrite(&sink.data(&one.id, "a"), b"aaa");
        Dir::open(sink.data(&two.id, "")).unwrap().link("b", &e, "b").unwrap();
        assert!(sink.shop.verify(&one.id, now(), &Effort::quiet(2)).unwrap().is_whole());
        assert_eq!((marks(ONE).damage, marks(ONE).verified), (None, Some(now())));
    }

    #[test]
    fn a_generation_whose_own_files_are_wrong_is_not_whole() {
        let sink = Sink::new();
        let one = Sample::new(ONE, 1, &[(b"a", b"aaa")]);
        for name in
            [names::GENERATION, names::MANIFEST, names::XATTRS, names::SUMS, names::README, names::RECEIPT]
        {
            sink.store(&one);
            let dir = sink.shop.open(&one.id).unwrap();
            overwrite(&sink.shop.path(&one.id).join(name), b"?");
            let report = sink.shop.verify(&one.id, now(), &Effort::quiet(1)).unwrap();
            assert_eq!(
                report.own.iter().map(|bad| bad.path.as_slice()).collect::<Vec<_>>(),
                [name.as_bytes()]
            );
            drop(dir);
            durable::remove_tree(&Dir::open(sink.path("store/shop")).unwrap(), ONE).unwrap();
        }
    }

    #[test]
    fn a_foreign_generation_is_read_and_not_touched() {
        let sample = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb")]);
        let a = sample.path().join("data/e/a");
        let before = std::fs::metadata(&a).unwrap();
        let report = verify_path(sample.path(), &Effort::quiet(1)).unwrap();
        assert!(report.is_whole() && report.extra.is_empty());
        assert_eq!((report.files, report.bytes), (2, 6));
        overwrite(&sample.path().join("data/e/b"), b"BBB");
        let report = verify_path(sample.path(), &Effort::quiet(1)).unwrap();
        assert_eq!(report.content.len(), 1);
        let after = std::fs::metadata(&a).unwrap();
        assert_eq!((before.ctime_nsec(), before.mtime_nsec()), (after.ctime_nsec(), after.mtime_nsec()));
        assert!(verify_path(&sample.path().join("nowhere"), &Effort::quiet(1)).is_err());
    }
}
