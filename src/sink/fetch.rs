//! One generation: transport, check, commit.

use std::{cell::Cell, num::NonZeroU64, path::PathBuf, sync::Arc};

use jiff::SignedDuration;

use super::{brake, candidates::is_frozen, channel, one::One, patch, prune};
use crate::{
    config::{self, SinkRole},
    gate::protocol::{Offer, Part},
    manifest::{self, Channel, Limits, names},
    remote::{self, Deadlines, Fetch, Fetched},
    report::{self, Condemned, Finding, Kind},
    store::{
        self, Stored,
        meta::{Expect, MetaError},
        place::{CheckError, Checked, Committed},
        plan::{Planned, Policy, Prover},
        prove::{Bad, Effort},
        staging::WithMeta,
    },
    sys::{self, name::BadName, progress::Progress, room::human, signals::Interrupted, words},
};

/// Content that is wrong is fetched so often in all.
const ATTEMPTS: u32 = 2;

/// Why a source was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The far end, or the way to it.
    #[error(transparent)]
    Remote(#[from] remote::Error),
    /// Our own store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The source has another name than it should.
    #[error("it calls itself {said}, and is {expected} here")]
    Name {
        /// What it said.
        said: String,
        /// What is configured.
        expected: String,
    },
    /// It hands over what is not fetched here.
    #[error("it hands over {said} there, and {expected} is fetched here: nothing was taken")]
    Channel {
        /// What it hands over.
        said: Channel,
        /// What is fetched here.
        expected: Channel,
    },
    /// The generation failed its check twice.
    #[error("{id} failed its check {ATTEMPTS} times and was put aside: {why}")]
    Quarantined {
        /// Which.
        id: manifest::GenerationId,
        /// Why.
        why: String,
    },
    /// It is larger than what is taken.
    #[error(
        "{id} has {} of content, and no more than {} is taken (limits.max_bytes): it was not fetched, and nothing was deleted for it",
        human(*.bytes), human(*.limit)
    )]
    TooLarge {
        /// Which.
        id: manifest::GenerationId,
        /// Bytes that are offered.
        bytes: u64,
        /// Bytes that are taken.
        limit: u64,
    },
    /// It is larger than the disk of the store.
    #[error(
        "{id} can never fit: it is {} large, and the disk of the store has {} in all, of which {} stay free (`reserve`). It was not fetched, and nothing was deleted for it",
        human(*.needed), human(*.total), human(*.floor)
    )]
    NeverFits {
        /// Which.
        id: manifest::GenerationId,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes of the whole disk.
        total: u64,
        /// Bytes that stay free.
        floor: u64,
    },
    /// There is no room.
    #[error(
        "{id} needs {} and {inodes} inodes, and there is no room for it{}",
        human(*.needed),
        if *.frozen { "; nothing goes for it, since its source is frozen" } else { "" }
    )]
    NoRoom {
        /// Which.
        id: manifest::GenerationId,
        /// Bytes.
        needed: u64,
        /// Inodes.
        inodes: u64,
        /// Whether nothing may go because something looks suspicious.
        frozen: bool,
    },
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl From<BadName> for Failed {
    fn from(_: BadName) -> Self {
        Self::Internal("a name that was checked is none")
    }
}

impl Failed {
    /// Whether only one generation is concerned: the next offers can be taken all the same.
    pub fn is_of_one_generation(&self) -> bool {
        match self {
            Self::Quarantined { .. }
            | Self::NoRoom { .. }
            | Self::NeverFits { .. }
            | Self::TooLarge { .. }
            | Self::Store(store::Error::Damaged { .. } | store::Error::OtherSeal { .. }) => true,
            Self::Remote(_)
            | Self::Store(_)
            | Self::Interrupted(_)
            | Self::Name { .. }
            | Self::Channel { .. }
            | Self::Internal(_) => false,
        }
    }

    /// The finding that tells it, of a source of a sink.
    pub fn finding(&self, role: SinkRole, name: &str) -> Finding {
        let text = self.to_string();
        let finding = |kind| Finding::new(kind, name, text.clone());
        match self {
            Self::Remote(remote::Error::Interrupted(_)) | Self::Interrupted(_) => {
                finding(Kind::Interrupted).with_fix("run again: what has arrived is kept and the transfer goes on from there")
            }
            Self::Remote(e) if e.is_storage() => finding(Kind::Storage).with_fix("make room or repair the disk, then run again"),
            Self::Remote(e @ remote::Error::HostKey { fix, .. }) => {
                Finding::new(Kind::HostKey, name, e.to_string()).with_fix(fix)
            }
            Self::Remote(e) if e.is_unreachable() => finding(Kind::Unreachable)
                .with_fix(e.fix().unwrap_or("look at the source and the line to it; the next run goes on where this one ended")),
            Self::Remote(_) => finding(Kind::Failed).with_fix("mend what it names; the next run goes on where this one ended"),
            Self::Store(e) => store_finding(role, name, e),
            Self::Name { expected, said } => finding(Kind::Configuration).with_fix(format!(
                "write name = \"{expected}\" in [source] there, or name = \"{said}\" in {} here, whichever is right",
                role.source_header()
            )),
            Self::Channel { said, .. } => {
                let right = SinkRole::ALL.into_iter().find(|role| channel(*role) == *said).unwrap_or(role);
                finding(Kind::Configuration).with_fix(format!(
                    "name the home, or the user, of {} in {}; what is there now belongs into {}",
                    channel(role),
                    role.source_header(),
                    right.source_header()
                ))
            }
            Self::Quarantined { .. } => finding(Kind::Quarantined).with_fix(format!(
                "the source was told and collects the damaged files afresh; look with `handover {role} quarantine list`, end it with `quarantine drop {name}`"
            )),
            Self::TooLarge { .. } => finding(Kind::Failed).with_fix(format!(
                "look at the source: should it have so much? If so, write limits = {{ max_bytes = \"…\" }} in {} here",
                role.source_header()
            )),
            Self::NeverFits { .. } => finding(Kind::Storage).with_fix(
                "give the store a larger disk (docs/disks.md), or lower `reserve`; or leave out on the source what need not be \
                 backed up. Smaller generations are fetched as before. Where its files are mostly holes, `limits = { max_bytes = … }` has \
                 it tried",
            ),
            Self::NoRoom { frozen: true, .. } => finding(Kind::Storage).with_fix(format!(
                "make room on the sink, or look at what is suspicious: `handover {role} list {name}`, then `handover {role} trust {name}`"
            )),
            Self::NoRoom { .. } => finding(Kind::Storage)
                .with_fix("make room on the sink, or keep fewer generations (`keep`); nothing was deleted that retention protects"),
            Self::Internal(_) => finding(Kind::Internal).with_fix("report it; what is stored is whole"),
        }
    }
}

/// The finding for an error of the store of a sink.
pub fn store_finding(role: SinkRole, name: &str, error: &store::Error) -> Finding {
    let finding = |kind| Finding::new(kind, name, error.to_string());
    match error {
        store::Error::Interrupted(_) => finding(Kind::Interrupted).with_fix("run again"),
        store::Error::NotMounted { .. } => finding(Kind::Storage)
            .with_fix(format!(
                "mount it; a store that was never set up is made by `handover {role} init`, and one that is gone for good begins anew by `handover {role} init --new-home`"
            )),
        store::Error::HomeGone { .. } => finding(Kind::Storage).with_fix(store::Error::HOME_GONE),
        e if e.is_storage() => {
            finding(Kind::Storage).with_fix("make room or repair the disk, then run again")
        }
        store::Error::Layout { .. } => finding(Kind::Configuration)
            .with_fix(format!("mend what it names; `handover {role} init` makes what is missing")),
        store::Error::Damaged { .. } | store::Error::OtherSeal { .. } => finding(Kind::Verification)
            .with_fix(format!("look at the disk of the store, and run `handover {role} verify`")),
        store::Error::Sys(_) => finding(Kind::Failed).with_fix("mend what it names, then run again"),
    }
}

/// Fetches, checks and stores an offer.
pub fn fetch(one: &mut One<'_>, offer: &Offer) -> Result<Stored, Failed> {
    let (room, floor) = room(one)?;
    let limit = one.source.limits.max_bytes.unwrap_or(room.bytes_total.saturating_sub(floor));
    if offer.bytes > limit {
        let (id, needed, total) = (offer.id.clone(), offer.bytes, room.bytes_total);
        return Err(match one.source.limits.max_bytes {
            Some(limit) => Failed::TooLarge { id, bytes: needed, limit },
            None => Failed::NeverFits { id, needed, total, floor },
        });
    }
    let (bases, _) = one.store.stored()?;
    // A damaged one serves too: what is wrong in it is fetched, and one bad file makes nobody fetch all the others.
    let bases: Vec<Stored> = bases.into_iter().rev().collect();
    let mut wire = 0;
    let bounds = Bounds { bytes: limit, floor };
    one.journal(
        &offer.id,
        "fetching",
        format!("{}, {} bytes are offered", words::files(offer.files), offer.bytes),
    );
    let meta = one.timed("manifests", |one| take_meta(one, offer, bases.first(), bounds, &mut wire))?;
    let policy = Policy {
        verify: verify(one.setup.config.verify),
        now: one.now(),
        relink_max_age: SignedDuration::try_from(one.setup.config.relink_max_age)
            .unwrap_or(SignedDuration::MAX),
    };
    let effort = effort(one.progress);
    one.progress.begin(format!("comparing {}", offer.id), 0, 0);
    let mut planned = one.timed("compare", |_| meta.plan(&bases, policy, &effort))?;
    for bad in planned.own_damage() {
        let text = format!("damaged in our own store, so it is fetched: {bad}");
        one.find(
            Finding::new(Kind::Verification, one.source.name.as_str(), text)
                .with_fix("look at the disk of the store"),
        );
    }
    check_room(one, offer, &planned)?;
    let to_fetch = planned.to_fetch();
    let patched = patch::patch(one, offer, &mut planned, bounds, &effort)?;
    wire += patched.wire;
    let checked = transfer_and_check(one, offer, planned, bounds, &effort, &mut wire)?;
    let counts = checked.counts();
    one.journal(
        &offer.id,
        "checked",
        format!(
            "verify {}: {} hashed, {} read again, {} linked",
            policy.verify,
            words::files(counts.hashed),
            counts.reread,
            counts.linked
        ),
    );
    one.progress.begin(format!("storing {}", offer.id), 0, 0);
    let host = one.setup.host.to_owned();
    let judged = one.timed("compare", |one| brake::judge(one.source, &one.store, &checked))?;
    let suspicious = judged.suspicious.clone();
    let committed = one.timed("commit", |one| checked.commit(&host, one.now(), judged))?;
    let (Committed::New(stored) | Committed::Already(stored)) = committed;
    one.journal(&offer.id, "stored", format!("as number {}", stored.receipt.sequence));
    if let Some(why) = suspicious {
        one.journal(&offer.id, "suspicious", why);
    }
    let generation = &stored.found.generation;
    one.report.stored.push(report::Fetched {
        id: offer.id.to_string(),
        sequence: stored.receipt.sequence,
        seal: offer.seal.to_string(),
        files: generation.files,
        bytes: generation.bytes,
        fetched: to_fetch.files,
        patched: patched.files,
        delta_bytes: patched.bytes,
        wire,
        hashed: counts.hashed,
        reread: counts.reread,
        linked: counts.linked,
    });
    Ok(stored)
}

fn verify(configured: config::Verify) -> manifest::receipt::Verify {
    match configured {
        config::Verify::None => manifest::receipt::Verify::None,
        config::Verify::Transferred => manifest::receipt::Verify::Transferred,
        config::Verify::All => manifest::receipt::Verify::All,
    }
}

fn effort(progress: &Arc<Progress>) -> Effort {
    let progress = Arc::clone(progress);
    Effort { threads: threads(), progress: Arc::new(move |bytes| progress.add_bytes(bytes)) }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8)
}

pub(super) fn wire_of(fetched: &Fetched) -> u64 {
    fetched.wire_in + fetched.wire_out
}

/// The generation's own files first: nothing is fetched for a manifest that does not hold together.
fn take_meta(
    one: &mut One<'_>,
    offer: &Offer,
    basis: Option<&Stored>,
    bounds: Bounds,
    wire: &mut u64,
) -> Result<WithMeta, Failed> {
    let limits = one.source.limits;
    let expect = Expect {
        seal: offer.seal,
        source: one.source.name.clone(),
        channel: channel(one.setup.config.role),
        lineage: None,
        sequence: Some(offer.sequence),
        limits: Limits { entries: limits.max_entries, bytes: bounds.bytes },
    };
    let mut attempt = 1;
    loop {
        one.progress.begin(format!("fetching the manifest of {}", offer.id), 0, 0);
        let staging = one.store.stage(&offer.id)?;
        let files =
            [names::GENERATION, names::MANIFEST, names::XATTRS, names::README].map(|f| f.as_bytes().to_vec());
        let fetched = transport(
            one,
            offer,
            Part::Meta,
            Transport {
                files: &files,
                into: staging.meta_path(),
                basis: basis.map(|b| one.store.path(b.id())),
                limit: limits.max_manifest_bytes,
                largest: limits.max_manifest_bytes,
                floor: bounds.floor,
                prover: None,
            },
        )?;
        *wire += wire_of(&fetched);
        match staging.meta(&expect) {
            Ok(meta) => return Ok(meta),
            Err(MetaError::Store(e)) => return Err(e.into()),
            Err(e) if e.is_transfer() && attempt < ATTEMPTS => {
                one.store.abandon(&offer.id)?;
                attempt += 1;
            }
            Err(e) => return Err(put_aside(one, offer, &e.to_string(), &[])?),
        }
    }
}

/// What one call of rsync needs to know.
pub(super) struct Transport<'a> {
    pub(super) files: &'a [Vec<u8>],
    pub(super) into: PathBuf,
    pub(super) basis: Option<PathBuf>,
    pub(super) limit: u64,
    pub(super) largest: u64,
    pub(super) floor: u64,
    pub(super) prover: Option<&'a Prover>,
}

/// Fetches files of a part of an offer.
pub(super) fn transport(
    one: &One<'_>,
    offer: &Offer,
    part: Part,
    transport: Transport<'_>,
) -> Result<Fetched, Failed> {
    let config = one.setup.config;
    let basis: Vec<PathBuf> = transport.basis.into_iter().collect();
    let fetch = Fetch {
        tools: one.setup.tools,
        id: &offer.id,
        part,
        files: transport.files,
        recv: &transport.into,
        basis: &basis,
        limit: transport.limit,
        largest: transport.largest,
        floor: transport.floor,
        bandwidth: one.source.bandwidth.and_then(NonZeroU64::new),
        compress: matches!(one.source.place, config::Place::Host(_)),
        deadlines: Deadlines { stall: config.stall_timeout, total: Some(config.timeout) },
    };
    let mut progress = Watch { progress: one.progress, wire: &one.wire, prover: transport.prover };
    Ok(one.remote()?.fetch(&fetch, &mut progress)?)
}

/// Passes on what rsync has finished to those who hash it.
struct Watch<'a> {
    progress: &'a Progress,
    wire: &'a Cell<u64>,
    prover: Option<&'a Prover>,
}

impl remote::Progress for Watch<'_> {
    fn received(&mut self, stored: &[u8]) {
        self.progress.add_files(1);
        if let Some(prover) = self.prover {
            prover.received(stored);
        }
    }

    fn bytes(&mut self, count: u64) {
        self.progress.add_bytes(count);
        self.sent(count);
    }

    fn sent(&mut self, count: u64) {
        self.wire.set(self.wire.get().saturating_add(count));
    }
}

/// There must be room for all that is to come before anything comes.
fn check_room(one: &mut One<'_>, offer: &Offer, planned: &Planned) -> Result<(), Failed> {
    let (needed, inodes) = planned.room_needed();
    let config = one.setup.config;
    let store = Arc::clone(&one.store);
    let (disk, floor) = room(one)?;
    if needed.saturating_add(floor) > disk.bytes_total {
        // Nothing may go for it.
        let (id, total) = (offer.id.clone(), disk.bytes_total);
        return Err(Failed::NeverFits { id, needed, total, floor });
    }
    let enough = || {
        let room = sys::room::Room::of(&sys::Dir::open(&config.home)?)?;
        let reserve = config.reserve.of(room.bytes_total);
        Ok(room.bytes_free >= needed.saturating_add(reserve) && room.inodes_free >= inodes)
    };
    if enough()? {
        return Ok(());
    }
    let mut gone = Vec::new();
    let made = prune::make_room(&store, one.source, config, one.now(), &enough, &mut gone);
    for went in gone {
        let fix =
            "nothing, if it was to go; else give the store more room, or keep fewer generations (`keep`)";
        one.find(Finding::new(Kind::Warning, went.id.as_str(), went.reason.clone()).with_fix(fix));
        one.report.condemned.push(went);
    }
    if made? {
        return Ok(());
    }
    let frozen = is_frozen(&store.stored()?);
    Err(Failed::NoRoom { id: offer.id.clone(), needed, inodes, frozen })
}

fn transfer_and_check(
    one: &mut One<'_>,
    offer: &Offer,
    mut planned: Planned,
    bounds: Bounds,
    effort: &Effort,
    wire: &mut u64,
) -> Result<Checked, Failed> {
    let proving = one.setup.config.verify != config::Verify::None;
    let mut laid = None;
    for attempt in 1..=ATTEMPTS {
        let to_fetch = planned.to_fetch();
        if to_fetch.files == 0 {
            break;
        }
        one.progress.begin(format!("fetching {}", offer.id), to_fetch.files, to_fetch.bytes);
        let fetched = one.timed("transfer", |one| {
            std::thread::scope(|scope| {
                // What is here already is laid out meanwhile.
                let laying = laid.is_none().then(|| scope.spawn(|| planned.lay(effort)));
                let fetched = transfer(one, offer, &planned, bounds, proving);
                let lay =
                    laying.map(|thread| thread.join().map_err(|_| Failed::Internal("a thread panicked")));
                // What ended the transfer is what is told: the next run lays it out anew.
                let fetched = fetched?;
                if let Some(lay) = lay {
                    laid = Some(lay??);
                }
                Ok::<_, Failed>(fetched)
            })
        })?;
        *wire += wire_of(&fetched);
        if proving && attempt < ATTEMPTS {
            one.progress.begin(format!("checking {}", offer.id), 0, 0);
            one.timed("check", |_| planned.settle(effort))?;
        }
        if !proving {
            break;
        }
    }
    one.journal(&offer.id, "fetched", format!("{wire} bytes over the wire"));
    one.progress.begin(format!("checking {}", offer.id), 0, 0);
    match one.timed("check", |_| planned.check(laid, effort)) {
        Ok(checked) => Ok(checked),
        Err(CheckError::Store(e)) => Err(e.into()),
        Err(e @ CheckError::NotAskedFor(_)) => Err(put_aside(one, offer, &e.to_string(), &[])?),
        Err(e) => {
            let text = e.to_string();
            let CheckError::Content(bad) = e else {
                return Err(Failed::Internal("an unknown failure of the check"));
            };
            Err(put_aside(one, offer, &text, &bad)?)
        }
    }
}

fn transfer(
    one: &One<'_>,
    offer: &Offer,
    planned: &Planned,
    bounds: Bounds,
    proving: bool,
) -> Result<Fetched, Failed> {
    planned.tidy()?;
    let list = {
        use std::io::Read as _;
        let mut list = Vec::new();
        planned
            .list()?
            .read_to_end(&mut list)
            .map_err(|e| sys::Error::new("read", planned.list_path(), e))
            .map_err(store::Error::from)?;
        list.split(|b| *b == 0).filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let prover = if proving { Some(planned.prover(&Effort::quiet(threads()))?) } else { None };
    let fetched = transport(
        one,
        offer,
        Part::Data,
        Transport {
            files: &list,
            into: planned.recv_path(),
            basis: planned.basis_path(),
            limit: planned.to_fetch().bytes,
            largest: planned.to_fetch().largest,
            floor: bounds.floor,
            prover: prover.as_ref(),
        },
    );
    let proven = prover.map_or(Ok(()), |prover| prover.finish().map(drop));
    if fetched.is_err() {
        // What a hostile sender left beyond what was asked must not stay in the way of other sources. Should that fail
        // too, the next run begins with it; what ended the transfer is what is told.
        drop(planned.tidy());
    }
    let fetched = fetched?;
    proven?;
    Ok(fetched)
}

/// It failed its check twice: the source is told what was damaged, and it goes into quarantine.
fn put_aside(one: &mut One<'_>, offer: &Offer, why: &str, bad: &[Bad]) -> Result<Failed, Failed> {
    let paths: Vec<&[u8]> = bad.iter().map(|b| b.path.as_slice()).collect();
    one.store.quarantine(&offer.id, offer.seal, why, &paths, one.now())?;
    one.report.put_aside.push(Condemned { id: offer.id.to_string(), reason: why.to_owned() });
    one.journal(&offer.id, "put aside", why.to_owned());
    reject(one, offer, &paths)?;
    Ok(Failed::Quarantined { id: offer.id.clone(), why: why.to_owned() })
}

/// Tells the source which of its files are damaged. If that fails, the next run says it again.
pub fn reject(one: &mut One<'_>, offer: &Offer, paths: &[&[u8]]) -> Result<(), Failed> {
    if let Err(e) = one.remote()?.reject(&offer.id, offer.seal, paths) {
        let text = format!("the source could not be told that it is damaged, the next run tells it: {e}");
        one.find(Finding::new(Kind::Warning, offer.id.as_str(), text));
    }
    Ok(())
}

/// What one offer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Bytes of the disk that stay free.
    pub(super) floor: u64,
}

/// The room on the store's disk, and how much of it stays free.
fn room(one: &One<'_>) -> Result<(sys::room::Room, u64), Failed> {
    let config = one.setup.config;
    let room = sys::Dir::open(&config.home).and_then(|home| sys::room::Room::of(&home));
    let room = room.map_err(store::Error::from)?;
    Ok((room, config.reserve.of(room.bytes_total)))
}
