//! How a sink reaches a gate and what it fetches from there; how it reaches a restore gate and what it delivers.
//!
//! A [`Remote`] gives two primitives: ask a question, open a stream to the sender. All else is shared by every
//! implementation: [`requests`] reads answers as if a hostile host had written them; [`fetch`] runs rsync here in its
//! cage and moves every byte between the two rsyncs itself, so that it counts, brakes and ends what hangs.

mod compression;
pub mod error;
pub mod fetch;
pub mod folder;
pub mod lines;
pub mod process;
pub mod pump;
pub mod relay;
pub mod requests;
pub mod resume;
pub mod rsync;
pub mod said;
pub mod send;
mod session;
pub mod ssh;

use std::{ffi::OsString, io::Write as _, os::fd::OwnedFd, process::ExitCode, time::Duration};

pub use error::{Error, Result};
pub use fetch::{Deadlines, Fetch, Fetched, Progress};
pub use folder::{DropFolder, Folder};
pub use rsync::Tools;
pub use send::{Send as Sending, Sent};
pub use ssh::Ssh;

use crate::{
    gate::{
        delivery::{self, Begun, Published},
        protocol::{Accepted, History, Offers, Rejected, Request, Stored},
    },
    manifest::{GenerationId, Seal},
    sys::sandbox,
};

/// A way to a gate.
pub trait Remote: Send + Sync {
    /// Asks, and returns the whole answer, which is not larger than [`crate::gate::protocol::ANSWER_LIMIT`].
    fn ask(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>>;

    /// Starts the sender of a [`Request::Send`].
    fn open(&self, request: &Request) -> Result<Stream>;

    /// What waits there.
    fn offers(&self) -> Result<Offers> {
        requests::offers(&self.ask(&Request::Offers, b"")?)
    }

    /// What is stored there.
    fn stored(&self) -> Result<Stored> {
        requests::stored(&self.ask(&Request::Stored, b"")?)
    }

    /// What that host knows of a generation.
    fn history(&self, id: &GenerationId) -> Result<History> {
        requests::history(&self.ask(&Request::History(id.clone()), b"")?, id)
    }

    /// Hands the receipt over: from here on the source may let the generation go.
    fn accept(&self, id: &GenerationId, seal: Seal, receipt: &[u8]) -> Result<Accepted> {
        requests::read(&self.ask(&Request::Accept { id: id.clone(), seal }, receipt)?)
    }

    /// Says which stored paths were damaged: the generation is not offered any more.
    fn reject(&self, id: &GenerationId, seal: Seal, paths: &[&[u8]]) -> Result<Rejected> {
        requests::read(&self.ask(&Request::Reject { id: id.clone(), seal }, &requests::rejection(paths))?)
    }

    /// Fetches files of a generation; see [`Fetch`].
    fn fetch(&self, what: &Fetch<'_>, progress: &mut dyn Progress) -> Result<Fetched> {
        fetch::run(&|request| self.open(request), what, progress)
    }
}

/// A way to a restore gate.
pub trait Delivery: Send + Sync {
    /// Asks, and returns the whole answer, which is not larger than [`crate::gate::protocol::ANSWER_LIMIT`].
    fn ask(&self, request: &delivery::Request) -> Result<Vec<u8>>;

    /// Starts the receiver of a [`delivery::Request::Receive`].
    fn open(&self, request: &delivery::Request) -> Result<Stream>;

    /// Announces a generation: so many bytes and names in all.
    fn begin(&self, id: &GenerationId, seal: Seal, bytes: u64, entries: u64) -> Result<Begun> {
        requests::read(&self.ask(&delivery::Request::Begin { id: id.clone(), seal, bytes, entries })?)
    }

    /// Has all of it proven there, and published if it is whole.
    fn publish(&self, id: &GenerationId, seal: Seal) -> Result<Published> {
        requests::published(&self.ask(&delivery::Request::Publish { id: id.clone(), seal })?)
    }

    /// What lies in the drop point there.
    fn status(&self) -> Result<delivery::Status> {
        requests::status(&self.ask(&delivery::Request::Status)?)
    }

    /// Sends files of a generation; see [`Sending`].
    fn send(&self, what: &Sending<'_>, progress: &mut dyn Progress) -> Result<Sent> {
        send::run(&|request| self.open(request), what, progress)
    }
}

/// A session with a sender, or with a receiver.
pub struct Stream {
    /// What the far rsync says.
    pub reader: OwnedFd,
    /// What the far rsync hears; not the same open file as the reader, so that closing one leaves the other.
    pub writer: OwnedFd,
    /// Its end.
    pub end: Box<dyn FarEnd>,
}

/// The far end of a [`Stream`]. Dropped, it ends the session and leaves nothing behind.
pub trait FarEnd: Send {
    /// Waits for the end of the sender, at most so long, and says how it ended: [`Error::Gate`] if it was refused,
    /// [`Error::Connect`] if the line broke, [`Error::RsyncThere`] if rsync failed. Ends what does not end by itself.
    fn finish(self: Box<Self>, patience: Duration) -> Result<()>;
}

/// The hidden subcommands, by which handover starts itself as the cage and as the relay. `args` begins with the name of
/// the program. `None` if it is none of them: the command line of a person.
pub fn hidden(args: &[OsString]) -> Option<ExitCode> {
    let failure = match (args.get(1)?.to_str()?, args.get(2..)?) {
        (sandbox::ENTRY, policy) => sandbox::entry(policy).to_string(),
        (relay::ENTRY, asked) => match relay::run(asked) {
            Ok(()) => return Some(ExitCode::SUCCESS),
            Err(e) => format!("the relay failed: {e}"),
        },
        _ => return None,
    };
    if writeln!(std::io::stderr(), "handover: {failure}").is_err() {
        // Nobody listens; the exit code still says it.
    }
    Some(ExitCode::from(sandbox::FAILED))
}
