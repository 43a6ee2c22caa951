//! Delivering files: the other direction of [`fetch`](super::fetch). rsync here reads the store in its cage, the receiver
//! is at the far end, and every byte between them passes through the same loop.

use std::{num::NonZeroU64, path::Path};

use super::{
    Deadlines, Progress, Result, Stream, Tools,
    fetch::{abandon, checked, conclude_one, most},
    rsync::{self, Direction},
    session::{Job, Session, Whole},
};
use crate::{
    gate::{delivery::Request, protocol::Part},
    manifest::GenerationId,
};

/// What is sent, and how.
#[derive(Debug)]
pub struct Send<'a> {
    /// The programs that do it.
    pub tools: &'a Tools,
    /// The generation.
    pub id: &'a GenerationId,
    /// Which part of it: paths are below its folder, or below its `data/`.
    pub part: Part,
    /// The stored paths. What the far end has in the same size is not sent.
    pub files: &'a [Vec<u8>],
    /// Where they are. Nothing is written there.
    pub folder: &'a Path,
    /// Bytes that all these files have: what the far end says of what it has is plausible up to that.
    pub limit: u64,
    /// Bytes per second.
    pub bandwidth: Option<NonZeroU64>,
    /// Compress on the line.
    pub compress: bool,
    /// When to give up.
    pub deadlines: Deadlines,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes that went over the line, both ways.
    pub wire: u64,
    /// Files that were sent.
    pub files: u64,
}

/// Sends, blocking. Ok only if both rsyncs ended well. Whatever happens, no process is left behind here, and what has
/// arrived stays there for the next attempt. [`Progress::received`] tells of files that were sent.
pub fn run(
    open: &dyn Fn(&Request) -> Result<Stream>,
    what: &Send<'_>,
    progress: &mut dyn Progress,
) -> Result<Sent> {
    if checked(what.files)?.is_empty() {
        return Ok(Sent::default());
    }
    let job = Job {
        tools: what.tools,
        args: rsync::deliver_args(&what.tools.handover, what.id, what.compress)?,
        compressed: what.compress,
        policy: what.tools.deliver_policy(what.folder),
        folder: what.folder,
        base: b"",
        direction: Direction::Out(what.id),
        files: what.files,
        open: &|caps| open(&Request::Receive { id: what.id.clone(), part: what.part, caps }),
    };
    let bounds = (most(what.limit, what.files.len()), 0);
    let mut whole = Whole::new(what.folder, what.bandwidth, what.deadlines, bounds)?;
    let mut sessions = vec![Session::start(job, what.files.iter().map(Vec::as_slice).collect())?];
    let (moved, _) = conclude_one(&mut whole, &mut sessions, progress).or_else(|e| abandon(sessions, e))?;
    Ok(Sent { wire: moved.wire_in + moved.wire_out, files: moved.files })
}
