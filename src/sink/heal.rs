//! Healing a stored generation from its source, while that still has it.

use std::{num::NonZeroU64, path::Path};

use super::{fetch::Failed, preflight, run::Connect};
use crate::{
    config,
    gate::protocol::Part,
    manifest::Seal,
    remote::{self, Deadlines, Fetch, Remote, Tools},
    report::Exit,
    store::{self, SourceStore, heal::Healing, prove::Effort},
    sys::{Dir, room::Room},
};

/// The way to a source.
pub struct Way<'a> {
    /// The sink's part of the configuration.
    pub config: &'a config::Sink,
    /// The source.
    pub source: &'a config::SinkSource,
    /// The programs of the transport.
    pub tools: &'a Tools,
    /// How sources are reached.
    pub connect: &'a Connect<'a>,
}

/// Why nothing came from a source. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum NoHelp {
    /// Our own store, or somebody asked us to stop.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Whatever else.
    #[error("{0}")]
    Said(String),
}

impl From<remote::Error> for NoHelp {
    fn from(e: remote::Error) -> Self {
        match e {
            remote::Error::Interrupted(e) => Self::Store(e.into()),
            other => Self::Said(other.to_string()),
        }
    }
}

impl From<Failed> for NoHelp {
    fn from(e: Failed) -> Self {
        Self::Said(e.to_string())
    }
}

/// Fetches what is missing of a generation from its source, which must still hold the same generation under the same seal,
/// and puts back what has the right hash. Whoever calls it holds the source's lock.
pub fn from_source(
    way: &Way<'_>,
    store: &SourceStore,
    (healing, seal): (&mut Healing, Seal),
    effort: &Effort,
) -> Result<(), NoHelp> {
    let unguarded = preflight::findings(way.tools).into_iter().find(|f| f.kind.exit() != Exit::Ok);
    if let Some(finding) = unguarded {
        return Err(NoHelp::Said(finding.text));
    }
    let remote = (way.connect)(way.source)?;
    has_it(way, remote.as_ref(), healing, seal)?;
    let bytes = healing.missing().iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let floor = floor(way.config, bytes)?;
    let folder = store.heal_folder()?;
    let fetched = fetch(way, remote.as_ref(), healing, (bytes, floor), folder.path(), effort);
    // What came before the line broke is as good as all of it: each file is judged by its own hash.
    store.heal_from_data(healing, &folder, effort)?;
    fetched
}

/// Whether it is the source that it should be, and has that generation.
fn has_it(way: &Way<'_>, remote: &dyn Remote, healing: &Healing, seal: Seal) -> Result<(), NoHelp> {
    let offers = remote.offers()?;
    super::one::check_who(way.config.role, way.source, &offers)?;
    let waiting = offers.offers.into_iter().map(|offer| (offer.id, offer.seal));
    let stored = remote.stored()?.generations.into_iter().map(|stored| (stored.id, stored.seal));
    match waiting.chain(stored).find(|(id, _)| id == healing.id()) {
        Some((_, said)) if said == seal => Ok(()),
        Some(_) => Err(NoHelp::Said("it has that id with another seal: nothing was taken".to_owned())),
        None => Err(NoHelp::Said("it does not have that generation any more".to_owned())),
    }
}

/// Bytes of the disk that stay free: there must be room for what is fetched and for its copy.
fn floor(config: &config::Sink, bytes: u64) -> Result<u64, NoHelp> {
    let room = Dir::open(&config.home).and_then(|home| Room::of(&home)).map_err(store::Error::from)?;
    let floor = config.reserve.of(room.bytes_total);
    if room.bytes_free < bytes.saturating_mul(2).saturating_add(floor) {
        return Err(NoHelp::Said(format!("there is no room here for {bytes} bytes twice: make room")));
    }
    Ok(floor)
}

fn fetch(
    way: &Way<'_>,
    remote: &dyn Remote,
    healing: &Healing,
    (bytes, floor): (u64, u64),
    recv: &Path,
    effort: &Effort,
) -> Result<(), NoHelp> {
    let files: Vec<Vec<u8>> = healing.missing().iter().map(|file| file.path.clone()).collect();
    let fetch = Fetch {
        tools: way.tools,
        id: healing.id(),
        part: Part::Data,
        files: &files,
        recv,
        basis: &[],
        limit: bytes,
        largest: healing.missing().iter().map(|file| file.size).max().unwrap_or(0),
        floor,
        bandwidth: way.source.bandwidth.and_then(NonZeroU64::new),
        compress: matches!(way.source.place, config::Place::Host(_)),
        deadlines: Deadlines { stall: way.config.stall_timeout, total: Some(way.config.timeout) },
    };
    remote.fetch(&fetch, &mut Watch(effort))?;
    Ok(())
}

/// Tells how far it is.
struct Watch<'a>(&'a Effort);

impl remote::Progress for Watch<'_> {
    fn received(&mut self, _: &[u8]) {}

    fn bytes(&mut self, more: u64) {
        (self.0.progress)(more);
    }
}
