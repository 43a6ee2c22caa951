//! The gate of a source on another host, reached by ssh: one connection for a run, a session for each request.
//!
//! The connection is an `ssh` of its own in the background ([`master`]); sessions are opened over its socket by the
//! `openssh` crate, which speaks to it directly. So no ssh reads anybody's configuration, none starts for a request, and
//! when the connection is gone there is nothing that could make another one behind our back.

mod ask;
mod host;
mod interpret;
mod master;
mod session;

use std::{
    fmt::Display,
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

pub use host::{Host, Purpose};

use self::session::Session;
use super::{Deadlines, Delivery, Error, Remote, Result, Stream};
use crate::{
    gate::{
        delivery,
        protocol::{ANSWER_LIMIT, Request},
    },
    sys::signals,
};

/// How often a wait looks up whether it was asked to stop.
const TICK: Duration = Duration::from_millis(250);
/// How long the far end may take to end when its answer has come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a gate. Dropped, it is closed.
#[derive(Debug)]
pub struct Ssh {
    line: Arc<Line>,
    deadlines: Deadlines,
}

/// The connection itself, shared by its sessions.
#[derive(Debug)]
struct Line {
    // Before the runtime, so that it is dropped first.
    master: Arc<openssh::Session>,
    log: PathBuf,
    host: Host,
    runtime: tokio::runtime::Runtime,
}

impl Ssh {
    /// Connects. `private` is a folder that only we can enter, made if it is missing; the deadlines are those of
    /// questions, as a fetch brings its own.
    pub fn connect(host: Host, private: &std::path::Path, deadlines: Deadlines) -> Result<Self> {
        let folder = master::connect(&host, private)?;
        let log = folder.path().join(master::LOG);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::us("prepare for ssh", e))?;
        // Its Drop tells the connection to end and removes the folder; `close` of the crate would leave it open until
        // it was idle for long.
        let master = Arc::new(openssh::Session::new_native_mux(folder));
        Ok(Self { line: Arc::new(Line { master, log, host, runtime }), deadlines })
    }

    fn session(&self, request: &dyn Display) -> Result<Session> {
        Session::open(Arc::clone(&self.line), &request.to_string(), self.deadlines.stall)
    }

    fn answer(&self, request: &dyn Display, stdin: &[u8]) -> Result<Vec<u8>> {
        let Session { reader, writer, end } = self.session(request)?;
        let answer = ask::converse((reader, writer), stdin, ANSWER_LIMIT, self.deadlines)?;
        end.answered(PATIENCE)?;
        Ok(answer)
    }

    fn stream(&self, request: &dyn Display) -> Result<Stream> {
        let Session { reader, writer, end } = self.session(request)?;
        Ok(Stream { reader, writer, end: Box::new(end) })
    }
}

impl Delivery for Ssh {
    fn ask(&self, request: &delivery::Request) -> Result<Vec<u8>> {
        self.answer(request, b"")
    }

    fn open(&self, request: &delivery::Request) -> Result<Stream> {
        self.stream(request)
    }
}

impl Remote for Ssh {
    fn ask(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>> {
        self.answer(request, stdin)
    }

    fn open(&self, request: &Request) -> Result<Stream> {
        if !matches!(request, Request::Send { .. }) {
            return Err(Error::Us(format!("`{request}` opens no stream")));
        }
        self.stream(request)
    }
}

impl Line {
    /// Waits for the end of something, at most so long; `None` if it did not come to it.
    fn wait<T>(
        &self,
        limit: Duration,
        stoppable: bool,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        self.runtime.block_on(async {
            let mut future = pin!(future);
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match tokio::time::timeout(left.min(TICK), future.as_mut()).await {
                    Ok(done) => return Ok(Some(done)),
                    Err(_) if left.is_zero() => return Ok(None),
                    Err(_) if stoppable => signals::check()?,
                    Err(_) => {}
                }
            }
        })
    }

    /// Why the connection is gone, in its own words.
    fn broken(&self, otherwise: &str) -> Error {
        let said = master::read_log(&self.log);
        Error::Connect(interpret::broken(&said, otherwise))
    }
}
