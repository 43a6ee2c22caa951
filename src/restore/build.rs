//! Making the new beside the old: every unit whole, with all metadata, every byte proven, before anything is touched.

use std::{
    collections::BTreeMap,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    beside,
    error::{Error, Result},
    exchange::{self, NEW},
    journal::UnitRecord,
    need::Need,
    proven::Proven,
    selection::{Places, Selection},
    units::{How, Unit},
};
use crate::{
    config::Reserve,
    manifest::Generation,
    report::{Finding, Kind},
    store::places::TEMPORARY,
    sys::{Dir, durable::SyncHandle, mounts::Mounts, name::Name, progress::Progress, random, show},
};

/// The record of a unit, with the name of its staging folder; nothing is made yet. It lies beside the outermost unit that holds
/// this one, so that exchanging that one leaves it where it is.
pub fn record(unit: &Unit, all: &[Unit], id: &str, mounts: &Mounts) -> Result<UnitRecord> {
    let name = format!("{TEMPORARY}restore-{id}-{}", random::hex(6)?);
    let in_it = unit.how == How::InPlace && mounts.is_point(&unit.root);
    let outer = all
        .iter()
        .map(|other| other.root.as_path())
        .filter(|root| !in_it && unit.root.starts_with(root))
        .min_by_key(|root| root.iter().count())
        .unwrap_or(&unit.root);
    if in_it && Dir::open(&unit.root).is_err() {
        let shown = show(unit.root.as_os_str().as_bytes());
        return Err(Error::refused(
            format!("{shown} is a file that is mounted by itself, which nothing can replace"),
            "restore with --to DIR, and copy its content into the file",
        ));
    }
    Ok(UnitRecord {
        element: names(unit),
        root: unit.root.clone(),
        how: unit.how,
        staging: exchange::staging_place(outer, in_it, &name),
        folder: None,
        old: None,
        new: None,
        copied: false,
        rules: unit.rules.clone(),
    })
}

fn selection(unit: &Unit) -> Selection {
    let paths = unit.targets.iter().map(|t| relative(t)).collect();
    Selection { elements: unit.elements.clone(), paths }
}

fn places<'a>(unit: &Unit, generation: &'a Generation, selection: &'a Selection) -> Result<Places<'a>> {
    let places = Places::new(generation, selection)
        .map_err(|_| Error::Internal("an element of the plan is not in the generation"))?;
    Ok(places.below(&unit.root.parent().map(relative).unwrap_or_default()))
}

/// Refuses if the new does not fit beside the old, on each file system for all units that lie there.
pub fn check_room(units: &[Unit], proven: &Proven, generation: &Generation) -> Result<()> {
    let mut needs: BTreeMap<u64, (Dir, Need)> = BTreeMap::new();
    for unit in units {
        let selection = selection(unit);
        let need = proven.need(&places(unit, generation, &selection)?)?;
        let beside = unit.root.parent().unwrap_or(&unit.root);
        let dir = Dir::open("/")?.descend(beside.as_os_str().as_bytes())?;
        needs.entry(dir.stat_self()?.st_dev).or_insert((dir, Need::default())).1.and(need);
    }
    needs
        .values()
        .try_for_each(|(dir, need)| need.check(dir, Reserve::Bytes(0), "the new state beside the old"))
}

/// Makes the new; false if the generation does not hold the unit.
pub fn build(
    unit: &Unit,
    record: &UnitRecord,
    (proven, generation): (&Proven, &Generation),
    progress: &Progress,
    findings: &mut Vec<Finding>,
) -> Result<bool> {
    let (_, _, staging) = beside::held(&record.staging, record.folder)?;
    let new = staging.open_dir(NEW)?;
    let sync = SyncHandle::open(&new)?;
    let selection = selection(unit);
    let places = places(unit, generation, &selection)?;
    let wanted = proven.count(&places)?;
    progress.begin(
        format!("building {}", show(unit.root.as_os_str().as_bytes())),
        wanted.files,
        wanted.bytes,
    );
    let written = proven.write_out(&places, &new, progress)?;
    if let Some(first) = written.damaged.first() {
        return Err(Error::Damaged(format!("{first} (and {} more)", written.damaged_count - 1)));
    }
    for (what, count) in &written.unset {
        let text = format!("{}: {what} ({count} times)", show(unit.root.as_os_str().as_bytes()));
        let fix = "the rest is as it was backed up; set this by hand where it matters";
        findings.push(Finding::new(Kind::Warning, names(unit), text).with_fix(fix));
    }
    sync.sync()?;
    Ok(match unit.root.file_name() {
        Some(name) => new.stat_if_any(name)?.is_some(),
        None => true,
    })
}

/// The elements of a unit, for people.
pub fn names(unit: &Unit) -> String {
    unit.elements.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// A path as a manifest has it.
pub fn relative(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    bytes[start..].to_vec()
}

/// Paths of an element in the generation that are in none of its configured paths: their place is not known here.
pub fn foreign(proven: &Proven, element: &str, paths: &[PathBuf]) -> Result<Option<Vec<u8>>> {
    let known: Vec<Vec<u8>> = paths.iter().map(|path| relative(path)).collect();
    let mut found = None;
    proven.each(&mut |entry| {
        let Some(rest) = entry.path.strip_prefix(element.as_bytes()).and_then(|r| r.strip_prefix(b"/"))
        else {
            return Ok(());
        };
        let is_dir = matches!(entry.kind, crate::manifest::Kind::Dir);
        let within = known.iter().any(|k| {
            k.is_empty() || rest.strip_prefix(k.as_slice()).is_some_and(|r| r.is_empty() || r[0] == b'/')
        });
        if found.is_none() && !is_dir && !within {
            found = Some(rest.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}
