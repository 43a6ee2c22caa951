//! R1.a: a stored generation goes back to a host, into its `restore/`: proven here, sent, proven there, published there.
//!
//! It can be cut anywhere and done again: what has arrived stays, and is proven before anybody sees it.

use std::{num::NonZeroU64, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    fetch::store_finding,
    query::{self, each},
};
use crate::{
    config::SinkRole,
    gate::{
        delivery::{OWN_FILES, Outcome, Published},
        protocol::{Part, RSYNC_TIMEOUT},
    },
    manifest::{GenerationId, Kind as EntryKind, Seal, entry::stored_path, names},
    remote::{self, Deadlines, Delivery, Sending, Tools},
    report::{Exit, Finding, Kind},
    store::{self, SourceStore, Stored, prove::Effort},
    sys::{Dir, progress::Progress, signals, words},
};

/// What is wrong there is sent so often in all.
const ATTEMPTS: u32 = 2;
/// Pauses before what may pass by itself is tried again: a host that boots, a line that breaks.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// Pause before it is asked again whether a session that lost its line has ended there, and how often: as long as an
/// rsync that hears nothing lives.
const HELD: (Duration, u32) = (Duration::from_secs(5), RSYNC_TIMEOUT / 5 + 6);
/// How many damaged files are named.
const NAMED: usize = 10;
/// What a name takes on a disk beside its content.
const OF_NAME: u64 = 4096;

/// Opens the way to the restore gate.
pub type Connect<'a> = &'a dyn Fn() -> remote::Result<Box<dyn Delivery>>;

/// What is delivered, and how.
pub struct Setup<'a> {
    /// What the sink keeps of the source; nobody else changes it meanwhile.
    pub store: &'a SourceStore,
    /// Which generation; without an id the newest.
    pub id: Option<&'a GenerationId>,
    /// The programs that do it.
    pub tools: &'a Tools,
    /// The way there.
    pub connect: Connect<'a>,
    /// Bytes per second.
    pub bandwidth: Option<NonZeroU64>,
    /// Compress on the line.
    pub compress: bool,
    /// When to give up.
    pub deadlines: Deadlines,
    /// Whether every hash is compared here before anything is sent. There it is, in any case.
    pub verify: bool,
    /// Whether it is sent without `verify` although damage is known in it.
    pub allow_damaged: bool,
    /// Only ask, send nothing.
    pub dry_run: bool,
    /// The time now.
    pub clock: &'a dyn Fn() -> Timestamp,
    /// Counted along the way.
    pub progress: &'a Arc<Progress>,
}

/// What was delivered, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// The generation.
    pub id: GenerationId,
    /// Its seal.
    pub seal: Seal,
    /// Files of content.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// `published`, `already` (it was there, and is whole), or in a dry run `would send`.
    pub outcome: &'static str,
    /// Bytes that had come there before, by an earlier attempt.
    pub had: u64,
    /// Files that were sent.
    pub sent: u64,
    /// Bytes over the line, both ways.
    pub wire: u64,
    /// Bytes that may be written there; asked in a dry run.
    pub free: Option<u64>,
    /// What went wrong on the way and was mended.
    pub notes: Vec<String>,
    /// Files of it that are known to be damaged here, and are sent as they are (`--allow-damaged`).
    pub known_damage: u64,
}

/// Why nothing was delivered.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The far end, or the way to it.
    #[error(transparent)]
    Remote(#[from] remote::Error),
    /// Our own store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A stored manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] query::Error),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
    /// There is no such generation.
    #[error("there is no generation to deliver: {0}")]
    NotHere(String),
    /// It is damaged in our own store.
    #[error("generation {id} is damaged here, and was not sent: {}, {}", words::files(*.wrong as u64), .named.join("; "))]
    Damaged {
        /// Which.
        id: GenerationId,
        /// How many files.
        wrong: usize,
        /// The first of them, and why.
        named: Vec<String>,
        /// The next older one that is not known to be damaged.
        older: Option<GenerationId>,
    },
    /// It did not arrive whole.
    #[error("generation {id} was sent {ATTEMPTS} times and is not whole there, so it was not published: {}, {}", words::files(*.wrong), .named.join("; "))]
    Unpublished {
        /// Which.
        id: GenerationId,
        /// How many files.
        wrong: u64,
        /// The first of them, and why.
        named: Vec<String>,
    },
    /// Another session holds it there.
    #[error("generation {0} is being delivered by another session there")]
    Held(GenerationId),
}

impl From<crate::sys::Error> for Failed {
    fn from(e: crate::sys::Error) -> Self {
        Self::Store(e.into())
    }
}

impl Failed {
    /// The exit code: a generation that is not here was named wrongly.
    pub fn exit(&self, name: &str) -> Exit {
        match self {
            Self::NotHere(_) => Exit::Usage,
            _ => self.finding(name).kind.exit(),
        }
    }

    /// The finding that tells it.
    pub fn finding(&self, name: &str) -> Finding {
        let finding = |kind| Finding::new(kind, name, self.to_string());
        let again = "run it again: what has arrived is kept, and it goes on from there";
        match self {
            Self::Remote(remote::Error::Interrupted(_)) | Self::Interrupted(_) => {
                finding(Kind::Interrupted).with_fix(again)
            }
            Self::Remote(e) if e.is_storage() => finding(Kind::Storage).with_fix("repair the disk here"),
            Self::Remote(e) if e.is_unreachable() => {
                finding(Kind::Unreachable).with_fix(e.fix().unwrap_or(again))
            }
            Self::Remote(_) => finding(Kind::Failed).with_fix(format!("mend what it names, then {again}")),
            Self::Store(e) => store_finding(SinkRole::Data, name, e),
            Self::Manifest(_) => finding(Kind::Verification).with_fix(format!("handover sink verify {name}")),
            Self::NotHere(_) => finding(Kind::Configuration).with_fix(format!("handover sink list {name}")),
            Self::Damaged { older: Some(older), .. } => finding(Kind::Verification)
                .with_fix(format!("deliver the one before it: handover sink deliver {name} {older}")),
            Self::Damaged { older: None, .. } => finding(Kind::Verification).with_fix(
                "there is none before it: `handover sink undo`, or the provider's backup, may have one",
            ),
            Self::Unpublished { .. } => finding(Kind::Verification)
                .with_fix("look at the disk and the memory there, then run it again"),
            Self::Held(_) => finding(Kind::Busy).with_fix("wait for its end, then run it again"),
        }
    }
}

/// Delivers.
pub fn run(setup: &Setup<'_>) -> Result<Delivered, Failed> {
    let (stored, older) = choose(setup)?;
    let generation = &stored.found.generation;
    let mut delivered = Delivered {
        id: generation.id.clone(),
        seal: stored.found.seal,
        files: generation.files,
        bytes: generation.bytes,
        outcome: "would send",
        had: 0,
        sent: 0,
        wire: 0,
        free: None,
        notes: Vec::new(),
        known_damage: stored.marks.damage.as_ref().map_or(0, |damage| damage.count),
    };
    // What is read before it is sent is judged by that; a dry run reads nothing, and says what is known.
    if (!setup.verify || setup.dry_run) && !setup.allow_damaged {
        refuse_known_damage(&stored, older.as_ref())?;
    }
    // Before anything takes long: whether we are let in at all.
    setup.progress.begin("connecting", 0, 0);
    let mut first = Some((setup.connect)()?);
    if setup.dry_run {
        delivered.free = first.map_or(Ok(None), |far| far.status().map(|status| Some(status.free)))?;
        return Ok(delivered);
    }
    if setup.verify {
        verify(setup, &stored, older)?;
    }
    let parts = Parts::of(setup, &stored)?;
    for pause in PAUSES {
        let far = first.take().map_or_else(|| (setup.connect)(), Ok);
        match far.map_err(Failed::from).and_then(|far| parts.deliver(&*far, &mut delivered)) {
            Err(Failed::Remote(e)) if e.is_transient() => {
                delivered.notes.push(format!("tried again in {} s: {e}", pause.as_secs()));
                setup.progress.begin("waiting to try again", 0, 0);
                signals::pause(pause)?;
            }
            Err(e) => return Err(e),
            Ok(()) => return Ok(delivered),
        }
    }
    parts.deliver(&*(setup.connect)()?, &mut delivered)?;
    Ok(delivered)
}

/// The generation that was asked for, or the newest; and the next older one that is not known to be damaged.
fn choose(setup: &Setup<'_>) -> Result<(Stored, Option<GenerationId>), Failed> {
    let (mut all, _) = setup.store.stored()?;
    let at = match setup.id {
        Some(id) => all.iter().position(|one| one.id() == id),
        None => all.len().checked_sub(1),
    };
    let Some(at) = at else {
        let there: Vec<String> = all.iter().map(|one| one.id().to_string()).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let asked = setup.id.map_or_else(String::new, |id| format!("not {id}; "));
        return Err(Failed::NotHere(format!("{asked}stored here: {there}")));
    };
    let older = all[..at].iter().rfind(|one| one.marks.damage.is_none()).map(|one| one.id().clone());
    Ok((all.swap_remove(at), older))
}

/// What is not read again is at least not known to be damaged.
fn refuse_known_damage(stored: &Stored, older: Option<&GenerationId>) -> Result<(), Failed> {
    let Some(damage) = &stored.marks.damage else { return Ok(()) };
    Err(Failed::Damaged {
        id: stored.id().clone(),
        wrong: usize::try_from(damage.count).unwrap_or(usize::MAX),
        named: damage.paths.iter().take(NAMED).cloned().collect(),
        older: older.cloned(),
    })
}

fn verify(setup: &Setup<'_>, stored: &Stored, older: Option<GenerationId>) -> Result<(), Failed> {
    let (id, generation) = (stored.id(), &stored.found.generation);
    setup.progress.begin(format!("checking {id} here"), generation.files, generation.bytes);
    let progress = Arc::clone(setup.progress);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    let effort = Effort { threads, progress: Arc::new(move |bytes| progress.add_bytes(bytes)) };
    let report = setup.store.verify(id, (setup.clock)(), &effort)?;
    if report.is_whole() {
        return Ok(());
    }
    let wrong = report.own.iter().chain(&report.content);
    let named = wrong.take(NAMED).map(ToString::to_string).collect();
    Err(Failed::Damaged { id: id.clone(), wrong: report.own.len() + report.content.len(), named, older })
}

/// What is sent of a generation.
struct Parts<'a> {
    setup: &'a Setup<'a>,
    own: Vec<Vec<u8>>,
    content: Vec<Vec<u8>>,
    own_bytes: u64,
    entries: u64,
    id: GenerationId,
    seal: Seal,
    bytes: u64,
}

impl<'a> Parts<'a> {
    fn of(setup: &'a Setup<'a>, stored: &Stored) -> Result<Self, Failed> {
        let (id, generation) = (stored.id().clone(), &stored.found.generation);
        let dir = setup.store.open(&id)?;
        let mut content = Vec::new();
        each(setup.store, &id, &mut |entry| {
            if matches!(entry.kind, EntryKind::File { .. }) {
                content.push(stored_path(&entry.path));
            }
        })?;
        Ok(Self {
            setup,
            own: OWN_FILES.iter().map(|name| name.as_bytes().to_vec()).collect(),
            content,
            own_bytes: own_bytes(&dir)?,
            entries: generation.entries + OWN_FILES.len() as u64 + 2,
            seal: stored.found.seal,
            bytes: generation.bytes,
            id,
        })
    }

    /// Announces, sends what is not there, has it proven; what was wrong is sent once more.
    fn deliver(&self, far: &dyn Delivery, delivered: &mut Delivered) -> Result<(), Failed> {
        let progress = self.setup.progress;
        progress.begin(format!("asking for room for {}", self.id), 0, 0);
        let there = self.begin(far, delivered)?;
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            if !there {
                self.send(far, Part::Meta, delivered)?;
                self.send(far, Part::Data, delivered)?;
            }
            progress.begin(format!("proving {} there", self.id), 0, 0);
            let published = far.publish(&self.id, self.seal)?;
            match published.outcome {
                Outcome::Published => delivered.outcome = "published",
                Outcome::Already => delivered.outcome = "already",
                Outcome::Damaged => {
                    let text = format!(
                        "attempt {attempt}: missing or wrong there: {}",
                        words::files(published.wrong)
                    );
                    delivered.notes.push(text);
                    last = Some(published);
                    continue;
                }
            }
            return Ok(());
        }
        let (wrong, named) =
            last.map_or_else(Default::default, |Published { wrong, damaged, .. }| (wrong, damaged));
        let named = named.into_iter().take(NAMED).collect();
        Err(Failed::Unpublished { id: self.id.clone(), wrong, named })
    }

    fn begin(&self, far: &dyn Delivery, delivered: &mut Delivered) -> Result<bool, Failed> {
        // With what names take, so that there is room for a million empty files too.
        let bytes = self.bytes.saturating_add(self.own_bytes).saturating_add(self.entries * OF_NAME);
        for _ in 0..HELD.1 {
            let begun = far.begin(&self.id, self.seal, bytes, self.entries)?;
            if !begun.busy {
                delivered.had = delivered.had.max(begun.had);
                return Ok(begun.there);
            }
            self.setup.progress.begin("waiting for an earlier session there to end", 0, 0);
            signals::pause(HELD.0)?;
        }
        Err(Failed::Held(self.id.clone()))
    }

    fn send(&self, far: &dyn Delivery, part: Part, delivered: &mut Delivered) -> Result<(), Failed> {
        let (setup, here) = (self.setup, self.setup.store.path(&self.id));
        let (files, folder, limit) = match part {
            Part::Meta => (&self.own, here, self.own_bytes),
            Part::Data => (&self.content, here.join(names::DATA), self.bytes),
            Part::Delta => return Ok(()), // A stored generation has none.
        };
        setup.progress.begin(format!("sending {}", self.id), files.len() as u64, limit);
        let what = Sending {
            tools: setup.tools,
            id: &self.id,
            part,
            files,
            folder: Path::new(&folder),
            limit,
            bandwidth: setup.bandwidth,
            compress: setup.compress,
            deadlines: setup.deadlines,
        };
        let sent = far.send(&what, &mut Watch(setup.progress))?;
        delivered.sent += if part == Part::Data { sent.files } else { 0 };
        delivered.wire += sent.wire;
        Ok(())
    }
}

fn own_bytes(dir: &Dir) -> Result<u64, Failed> {
    let mut bytes = 0;
    for name in OWN_FILES {
        bytes += dir.stat(name)?.st_size.unsigned_abs();
    }
    Ok(bytes)
}

struct Watch<'a>(&'a Progress);

impl remote::Progress for Watch<'_> {
    fn received(&mut self, _stored: &[u8]) {
        self.0.add_files(1);
    }

    fn bytes(&mut self, more: u64) {
        self.0.add_bytes(more);
    }
}
