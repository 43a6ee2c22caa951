//! `handover restore --to`: a generation below a folder, as if that were `/`; nothing else is touched.
//!
//! What is taken is chosen as for the running application, but nothing is copied and proven first: every file is proven as it
//! is written, and what proves damaged is named and not written.

use std::path::{Path, PathBuf};

use super::{
    error::{Error, Result},
    find::{Candidate, Catch, Place},
    held::look,
    need::Need,
    pick::{self, Trust, Wish},
    proven::{Proven, Wanted},
    selection::{Places, Selection},
    sought,
    write_out::Written,
};
use crate::{
    config::Reserve,
    manifest::{Channel, Generation, GenerationId, Seal},
    report::{Finding, Kind},
    store::Found,
    sys::{self, Dir, durable, name::Name, progress::Progress, random, show, words},
};

/// What is asked for.
pub struct Ask<'a> {
    /// Which generation, of what.
    pub wish: Wish,
    /// Whether the wish's source was given by whoever asks, and not only by the configuration.
    pub is_named: bool,
    /// Where to look: the place that was named, or the home's, of which the first that has anything counts.
    pub places: Vec<PathBuf>,
    /// The home, if there is one.
    pub home: Option<PathBuf>,
    /// This host's name as a source, if it is one.
    pub here: Option<Name>,
    /// The ledger of this host, if it can be read.
    pub ledger: std::collections::BTreeMap<GenerationId, Seal>,
    /// Only these paths on the source, without the leading slash; all if empty.
    pub paths: Vec<Vec<u8>>,
    /// The folder: new or empty.
    pub to: &'a Path,
    /// Only says what would be written.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, serde::Serialize)]
pub struct Below {
    /// The generation.
    pub id: String,
    /// Of which source.
    pub source: String,
    /// Its seal.
    pub seal: String,
    /// Where it was found.
    pub place: String,
    /// Why this one.
    pub why: String,
    /// The folder.
    pub to: String,
    /// What of it is wanted.
    pub wanted: Wanted,
    /// What was written; nothing yet where it was only asked.
    pub written: Option<Written>,
}

/// Runs all steps. What is worth saying goes to `findings`, also where it fails.
pub fn run(ask: &mut Ask<'_>, progress: &Progress, findings: &mut Vec<Finding>) -> Result<Below> {
    let target = Target::look(ask.to)?;
    let (catch, place) = found(ask)?;
    let shown = show(place.as_os_str().as_encoded_bytes());
    for foreign in &catch.foreign {
        findings.push(Finding::new(Kind::Note, "passed over", foreign.clone()));
    }
    if let Some(said) = ask.wish.settle(&catch.candidates, &shown, ask.is_named)? {
        findings.push(Finding::new(Kind::Warning, "source", said));
    }
    let home = ask.home.as_deref().unwrap_or(&place);
    let (at, why) = ask.wish.pick(&catch.candidates, &shown, home)?;
    let chosen = &catch.candidates[at];
    let found = chosen.found.as_ref().ok_or(Error::Internal("what was chosen says nothing of itself"))?;
    judge(ask, found, &target, findings)?;
    let mut below = Below {
        id: found.id().to_string(),
        source: found.generation.source.to_string(),
        seal: found.seal.to_string(),
        place: show(chosen.shown.as_os_str().as_encoded_bytes()),
        why,
        to: show(ask.to.as_os_str().as_encoded_bytes()),
        wanted: Wanted::default(),
        written: None,
    };
    let selection = Selection { elements: ask.wish.elements.clone(), paths: ask.paths.clone() };
    ask.wish.check_elements(&found.generation)?;
    let part = Part::of(&found.generation, &selection)?;
    findings.extend(ask.wish.torn_twin(&catch.candidates, at));
    let is_tar = matches!(chosen.place, Place::Tar(_));
    if ask.dry_run || is_tar && !ask.paths.is_empty() {
        // A path that is in nothing is found out before all of a tar is unpacked.
        below.wanted = described(chosen, &part, progress)?;
    }
    if ask.dry_run {
        return Ok(below);
    }
    let (wanted, written) = write(chosen, &part, &target, progress)?;
    (below.wanted, below.written) = (wanted, Some(written));
    if let Some(torn) = below.written.as_ref().filter(|w| w.damaged_count > 0) {
        findings.push(damaged(torn, &catch.candidates, at, found));
    }
    Ok(below)
}

/// What lies in the first of the places that has anything of what is wanted; in the first that has anything, if none has.
fn found(ask: &Ask<'_>) -> Result<(Catch, PathBuf)> {
    let mut last = None;
    for place in &ask.places {
        let looked = match look(Some(place), &Dir::open("/")?) {
            Err(Error::Sys(e)) if e.is_not_found() && ask.places.len() > 1 => continue,
            looked => looked?,
        };
        let (mut catch, place) = looked;
        catch.candidates.iter_mut().try_for_each(Candidate::look)?;
        if ask.wish.is_in(&catch.candidates) {
            return Ok((catch, place));
        }
        if last.as_ref().is_none_or(|(last, _): &(Catch, PathBuf)| last.candidates.is_empty()) {
            last = Some((catch, place));
        }
    }
    let all =
        ask.places.iter().map(|p| show(p.as_os_str().as_encoded_bytes())).collect::<Vec<_>>().join(" and ");
    match last {
        Some((catch, _)) if !catch.candidates.is_empty() || ask.places.len() == 1 => {
            Ok((catch, PathBuf::from(all)))
        }
        _ => Err(Error::refused(
            format!("no generation of data is in {all}"),
            "name another place with --from DIR: a generation, a tar of one, or a folder that holds some",
        )),
    }
}

/// What is to be said of it before anything is written. Setuid files and devices come back as they were, and whoever made
/// the generation chose them: where others can enter, root writes only what is trusted.
fn judge(ask: &Ask<'_>, found: &Found, target: &Target, findings: &mut Vec<Finding>) -> Result<()> {
    let (id, trust) = (found.id(), pick::trust(found, &ask.ledger, ask.wish.trust));
    let generation = &found.generation;
    let is_of_here = ask.here.as_ref() == Some(&generation.source) && generation.channel == Channel::Data;
    let text = match trust {
        Trust::Ledger | Trust::Given => None,
        Trust::Unknown if !is_of_here => None,
        Trust::Unknown => Some(format!("the ledger of this host does not know {id} with this seal")),
        Trust::Other => Some(format!("the ledger of this host has another seal for {id}: it was changed")),
    };
    let fix = "look at what comes out before you use it";
    findings.extend(text.map(|text| Finding::new(Kind::Warning, id.as_str(), text).with_fix(fix)));
    if !matches!(trust, Trust::Ledger | Trust::Given)
        && !ask.dry_run
        && target.is_open
        && sys::users::is_root()
    {
        return Err(Error::refused(
            format!(
                "others can enter {}, and the seal of {id} is not known here: what it brings may be setuid or a device",
                show(ask.to.as_os_str().as_encoded_bytes())
            ),
            format!(
                "name a new folder, which is made for you alone, or one with mode 0700; or compare the seal and give --trust {}",
                found.seal
            ),
        ));
    }
    for failed in ask.wish.failed(&found.generation) {
        let text = "it had failed when it was collected: only what is there is written";
        findings.push(Finding::new(Kind::Warning, failed, text));
    }
    Ok(())
}

/// What of a generation is wanted.
struct Part<'a> {
    generation: &'a Generation,
    selection: &'a Selection,
    places: Places<'a>,
}

impl<'a> Part<'a> {
    fn of(generation: &'a Generation, selection: &'a Selection) -> Result<Self> {
        let places = Places::new(generation, selection)
            .map_err(|_| Error::Internal("an element that was found is not in the generation"))?;
        Ok(Self { generation, selection, places })
    }

    fn count(&self, proven: &Proven) -> Result<(Wanted, Need)> {
        sought::check(proven, self.generation, &self.selection.elements, &self.selection.paths)?;
        let wanted = proven.count(&self.places)?;
        if wanted.entries == 0 {
            return Err(self.nothing());
        }
        Ok((wanted, proven.need(&self.places)?))
    }

    fn nothing(&self) -> Error {
        let text = format!("nothing in {} is what was asked for", self.generation.id);
        Error::refused(text, "name other elements or paths")
    }
}

/// Counts in what describes the candidate; of a tar only that is taken out, to a folder of ours that goes again.
fn described(chosen: &Candidate, part: &Part<'_>, progress: &Progress) -> Result<Wanted> {
    let tar = match &chosen.place {
        Place::Tar(tar) => tar,
        Place::Folder(dir) => return Ok(part.count(&Proven::new(dir, part.generation)?)?.0),
    };
    let above = Dir::open(std::env::temp_dir())?;
    let name = format!(".handover-{}", random::hex(6)?);
    let to = above.create_private(&name)?;
    progress.begin("reading", 0, 0);
    let counted = tar.describe(&to).and_then(|dir| Ok(part.count(&Proven::new(&dir, part.generation)?)?.0));
    durable::remove_tree(&above, &name)?;
    counted
}

fn write(
    chosen: &Candidate,
    part: &Part<'_>,
    target: &Target,
    progress: &Progress,
) -> Result<(Wanted, Written)> {
    let tar = match &chosen.place {
        Place::Tar(tar) => tar,
        Place::Folder(dir) => return write_out(&Proven::new(dir, part.generation)?, part, target, progress),
    };
    tar.need.check(&target.near, Reserve::Bytes(0), "what is in the tar")?;
    let above = target.open()?;
    let name = format!(".handover-{}", random::hex(6)?);
    let to = above.create_private(&name)?;
    let taken = || {
        progress.begin("unpacking", 0, tar.need.bytes);
        write_out(&Proven::new(&tar.unpack(&to)?, part.generation)?, part, target, progress)
    };
    let written = taken();
    durable::remove_tree(&above, &name)?;
    written
}

fn write_out(
    proven: &Proven,
    part: &Part<'_>,
    target: &Target,
    progress: &Progress,
) -> Result<(Wanted, Written)> {
    let (wanted, need) = part.count(proven)?;
    need.check(&target.near, Reserve::Bytes(0), "what is restored")?;
    progress.begin("writing", wanted.files, wanted.bytes);
    let written = proven.write_out(&part.places, &target.open()?, progress)?;
    if written.entries == 0 && written.damaged_count == 0 {
        return Err(part.nothing());
    }
    Ok((wanted, written))
}

/// What came out damaged, and where a whole one may be.
fn damaged(written: &Written, list: &[Candidate], at: usize, found: &Found) -> Finding {
    let text = format!(
        "of generation {} {} damaged and not written; all else was",
        found.id(),
        words::count(written.damaged_count, "file is", "files are"),
    );
    let older =
        list[at + 1..].iter().find(|c| c.found.is_some() && c.torn(&[]).is_empty() && c.id != *found.id());
    let fix = older.map_or_else(
        || "bring another copy of it, as the sink's".to_owned(),
        |older| format!("bring another copy of it, as the sink's; the next older one here is {}", older.id),
    );
    Finding::new(Kind::Verification, found.id().as_str(), text).with_fix(fix)
}

/// The folder that is written to: new or empty.
struct Target {
    path: PathBuf,
    /// It or the nearest folder above that is there.
    near: Dir,
    /// Whether others can enter it.
    is_open: bool,
}

impl Target {
    fn look(path: &Path) -> Result<Self> {
        let shown = show(path.as_os_str().as_encoded_bytes());
        let path = std::path::absolute(path).map_err(|e| sys::Error::new("find", path, e))?;
        match Dir::open(&path) {
            Ok(dir) if !dir.names()?.is_empty() => {
                Err(Error::refused(format!("{shown} is not empty"), "name an empty or a new folder"))
            }
            Ok(near) => Ok(Self { is_open: near.stat_self()?.st_mode & 0o077 != 0, near, path }),
            Err(e) if e.is_not_found() => {
                let near = path
                    .ancestors()
                    .skip(1)
                    .map(Dir::open)
                    .find(|dir| dir.as_ref().err().is_none_or(|e| !e.is_not_found()));
                let near = near.ok_or(Error::Internal("a path without a root"))??;
                Ok(Self { near, path, is_open: false })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Opens it; it is made for us alone where it is missing.
    fn open(&self) -> Result<Dir> {
        Ok(match Dir::open(&self.path) {
            Err(e) if e.is_not_found() => Dir::create_all(&self.path, 0o700)?,
            other => other?,
        })
    }
}
