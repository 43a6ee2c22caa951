//! The restore gate: what a host answers to a sink that delivers a generation, and nothing else.
//!
//! It runs as the transport user behind a forced command, in a cage in which nothing outside of `restore/` can be read or
//! written, or in process for a sink on the same machine. It reads no configuration and needs none: it works where
//! only `handover source init` has been run.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    gate::{
        self,
        delivery::{Alive, Begun, Outcome, Published, Receive, ReceiveFolder, Request, Status},
        protocol::{Caps, Part, Refused, to_json},
    },
    manifest::GenerationId,
    remote::resume,
    store::{
        self,
        drop_point::{Announced, Beginning, DropPoint, Publication, Receiving, Refusal},
        found::Found,
        prove::Effort,
        receive::half_dir,
        verify::VerifyReport,
    },
    sys::{self, Dir, clock, sandbox, show},
};

/// How many damaged files are named.
const NAMED: usize = 20;
/// How often it is looked whether rsync has ended, and how much room is left.
const LOOK: Duration = Duration::from_millis(200);
/// What has come is weighed again after so many times as long as that took.
const WEIGHING: u32 = 50;

/// The restore gate of one home.
#[derive(Debug)]
pub struct RestoreGate {
    point: DropPoint,
}

/// What was done with a request.
#[derive(Debug)]
pub enum Served {
    /// This is the answer; the text is for this host's log.
    Answered(Vec<u8>, Option<String>),
    /// rsync is to receive.
    Receive(Box<Incoming>),
}

/// A folder that rsync is to receive into, locked until that rsync ends.
#[derive(Debug)]
pub struct Incoming {
    receiving: Receiving,
    folder: Dir,
    path: PathBuf,
    line: Vec<String>,
}

impl RestoreGate {
    /// Opens the gate of a home: as the transport user, or as root.
    pub fn open(home: &Path) -> store::Result<Self> {
        Ok(Self { point: DropPoint::open(home)? })
    }

    /// The cage of a process that answers one request: `restore/`, and what rsync and its cage need to start.
    pub fn cage(&self, handover: &Path, rsync: Option<&Path>) -> sandbox::Policy {
        let programs = [Some(handover), rsync].into_iter().flatten();
        sandbox::Policy::of_programs(programs).writing(self.point.dir().path())
    }

    /// Serves one request. Everything that is not exactly a request is refused before anything is looked at.
    pub fn serve(&self, line: &str, alive: Alive) -> Result<Served, Refused> {
        let request = Request::parse(line).map_err(|e| Refused(e.to_string()))?;
        if let Request::Receive { id, part, caps } = &request {
            return Ok(Served::Receive(Box::new(self.incoming(id, *part, Some(caps))?)));
        }
        let answer = self.answer(&request, alive)?;
        let log = match &request {
            Request::Publish { id, seal } => {
                Some(format!("delivered: generation {id}, seal {seal}: {}", show(&answer)))
            }
            Request::Begin { id, seal, .. } => {
                Some(format!("delivery of generation {id}, seal {seal}: {}", show(&answer)))
            }
            Request::Status | Request::Receive { .. } => None,
        };
        Ok(Served::Answered(answer, log))
    }

    fn incoming(&self, id: &GenerationId, part: Part, caps: Option<&Caps>) -> Result<Incoming, Refused> {
        let receiving = self.point.receive(id).map_err(|e| refused(&e))?;
        let (path, folder) = receiving.folder(part == Part::Data).map_err(|e| of_store(&e))?;
        let halves = receiving.halves(&folder, id).map_err(|e| of_store(&e))?;
        let halves: HashSet<&[u8]> = halves.iter().map(Vec::as_slice).collect();
        resume::adopt(&path, &halves, &String::from_utf8_lossy(&half_dir(id)))
            .map_err(|e| Refused(format!("what a cut has left cannot be taken up: {e}")))?;
        let line = caps.map(|caps| caps.receiver_line(id)).unwrap_or_default();
        Ok(Incoming { receiving, folder, path, line })
    }

    fn status(&self) -> Result<Status, Refused> {
        let (delivered, incoming) = self.point.list().map_err(|e| of_store(&e))?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: clock::now(),
            free: self.point.room().map_err(|e| of_store(&e))?.bytes_free,
            delivered: delivered.iter().map(Found::id).cloned().collect(),
            incoming,
        })
    }

    fn begin(&self, id: &GenerationId, announced: &Announced) -> Result<Begun, Refused> {
        match self.point.begin(id, announced, clock::now()) {
            Ok(Beginning::There) => Ok(Begun { there: true, busy: false, had: 0 }),
            Ok(Beginning::Coming(had)) => Ok(Begun { there: false, busy: false, had }),
            Err(Refusal::Busy(_)) => Ok(Begun { there: false, busy: true, had: 0 }),
            Err(e) => Err(refused(&e)),
        }
    }
}

impl Receive for RestoreGate {
    fn answer(&self, request: &Request, alive: Alive) -> Result<Vec<u8>, Refused> {
        match request {
            Request::Status => to_json(&self.status()?),
            Request::Begin { id, seal, bytes, entries } => {
                to_json(&self.begin(id, &Announced { seal: *seal, bytes: *bytes, entries: *entries })?)
            }
            Request::Publish { id, seal } => {
                let effort = Effort { progress: Arc::new(move |_| alive()), ..Effort::quiet(threads()) };
                let published = self.point.publish(id, *seal, &effort).map_err(|e| refused(&e))?;
                to_json(&published_of(&published))
            }
            Request::Receive { .. } => {
                Err(Refused("a request to receive is answered by rsync, not by a text".to_owned()))
            }
        }
    }

    fn receiver(&self, id: &GenerationId, part: Part) -> Result<ReceiveFolder, Refused> {
        let incoming = self.incoming(id, part, None)?;
        let (path, largest) = (incoming.path.clone(), incoming.receiving.announced.bytes);
        Ok(ReceiveFolder { path, largest, guard: Box::new(incoming) })
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8)
}

fn published_of(publication: &Publication) -> Published {
    let (outcome, report) = match publication {
        Publication::Published(report) => (Outcome::Published, report),
        Publication::Already(report) => (Outcome::Already, report),
        Publication::Damaged(report) => (Outcome::Damaged, report),
    };
    let VerifyReport { files, bytes, own, content, .. } = report;
    let wrong = own.iter().chain(content);
    Published {
        outcome,
        files: *files,
        bytes: *bytes,
        wrong: (own.len() + content.len()) as u64,
        damaged: wrong.take(NAMED).map(ToString::to_string).collect(),
    }
}

fn refused(refusal: &Refusal) -> Refused {
    Refused(refusal.to_string())
}

fn of_store(error: &store::Error) -> Refused {
    Refused(format!("the drop point has a problem: {error}"))
}

impl Incoming {
    /// Runs rsync in a cage of its own until it ends: it can write this folder and read nothing else. Ends it when the
    /// disk becomes full, in bytes or inodes, and when more comes than was announced.
    pub fn receive(&self, here: &RestoreGate, handover: &Path, rsync: &Path) -> Result<ExitStatus, Refused> {
        let failed = |e: &dyn std::fmt::Display| Refused(format!("rsync cannot receive here: {e}"));
        let policy = gate::receiver_policy(rsync, &self.path, self.receiving.announced.bytes);
        let mut child = sandbox::command(handover, &policy, rsync.as_os_str())
            .args(&self.line)
            .current_dir(&self.path)
            .spawn()
            .map_err(|e| failed(&e))?;
        let mut weigh_at = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|e| failed(&e))? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
            let room = here.point.room().map_err(|e| of_store(&e))?;
            let is_full = room.bytes_free == 0 || room.inodes_free == 0;
            let began = Instant::now();
            let is_too_much = began >= weigh_at && self.receiving.is_exceeded().map_err(|e| of_store(&e))?;
            if began >= weigh_at {
                weigh_at = Instant::now() + began.elapsed() * WEIGHING;
            }
            if is_full || is_too_much {
                child.kill().and_then(|()| child.wait()).map_err(|e| failed(&e))?;
                let shown = sys::show(self.folder.path().as_os_str().as_encoded_bytes());
                let why = if is_full {
                    "the disk there is full, but for what stays free"
                } else {
                    "more came than was announced"
                };
                return Err(Refused(format!("{why}: {shown}")));
            }
        }
    }
}
