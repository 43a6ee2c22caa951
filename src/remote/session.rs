//! The loop of a fetch or a delivery: every byte between the two rsyncs, what they say, the clock, and the end of both.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Seek as _, Write as _},
    num::NonZeroU64,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{MemfdFlags, OFlags},
};

use super::{
    Deadlines, Error, FarEnd, Fetched, Progress, Result, Stream, Tools,
    fetch::blame,
    lines::Lines,
    process::Running,
    pump::{Brake, Way},
    relay::{Channel, Line, Packet},
    rsync::Direction,
    said::Said,
};
use crate::{
    gate::protocol::Caps,
    sys::{Dir, room::Room, sandbox, signals},
};

/// How often the loop looks up when nothing moves.
const TICK: Duration = Duration::from_millis(250);
/// How long programs that rsync has left behind may hold its output.
const LINGER: Duration = Duration::from_secs(2);
/// How long the far end may take to end when rsync here has.
const PATIENCE: Duration = Duration::from_secs(10);

/// One rsync here with its far end: what a fetch and a delivery have in common.
pub(super) struct Job<'a> {
    /// The programs that do it.
    pub(super) tools: &'a Tools,
    /// What rsync here is told.
    pub(super) args: Vec<OsString>,
    /// Its cage.
    pub(super) policy: sandbox::Policy,
    /// Below which the paths of `files` are.
    pub(super) folder: &'a Path,
    /// The folder in it, without a `/` at its end, in which rsync runs here and there: all paths begin with it. It may
    /// be empty.
    pub(super) base: &'a [u8],
    /// Which way content goes.
    pub(super) direction: Direction<'a>,
    /// The list that it gets on stdin.
    pub(super) files: &'a [Vec<u8>],
    /// Opens the session with the far end for a line of these capabilities.
    pub(super) open: &'a dyn Fn(Caps) -> Result<Stream>,
    /// Bytes per second, of content.
    pub(super) bandwidth: Option<NonZeroU64>,
    /// When to give up.
    pub(super) deadlines: Deadlines,
    /// When the whole of which this is a piece began.
    pub(super) begun: Instant,
    /// Bytes that the far end may say.
    pub(super) most: u64,
    /// Bytes of the disk here that stay free; 0 where nothing is written here.
    pub(super) floor: u64,
}

/// A job that is under way. Dropped, it leaves no process behind.
pub(super) struct Session<'a> {
    job: Job<'a>,
    rsync: Running,
    channel: Channel,
    silent: bool,
    lines: Lines<'a>,
    said: Said,
    far: Option<Far>,
    brake: Brake,
    moved: Instant,
    here: Dir,
    looked: Instant,
    ended: Option<Instant>,
}

/// What can be done without waiting.
struct Ready {
    /// Programs in the cage said something.
    said: bool,
    /// rsync here printed something.
    printed: bool,
    /// There is something to pass on, each way.
    inward: bool,
    outward: bool,
}

struct Far {
    inward: Way,
    outward: Way,
    end: Box<dyn FarEnd>,
    released: bool,
}

impl<'a> Session<'a> {
    /// Starts rsync here; it asks for its far end when it is ready.
    pub(super) fn start(job: Job<'a>, paths: HashSet<&'a [u8]>) -> Result<Self> {
        let mut command = sandbox::command(&job.tools.handover, &job.policy, job.tools.rsync.as_os_str());
        let (channel, inner) = Channel::new()?;
        command
            .args(&job.args)
            .current_dir(job.folder.join(OsStr::from_bytes(job.base)))
            .stdin(Stdio::from(list(job.files, job.base)?))
            .stdout(Stdio::piped())
            .stderr(Stdio::from(inner));
        let mut rsync = Running::start(command, "start rsync")?;
        let stdout = rsync.child.stdout.take().ok_or_else(|| Error::us("start rsync", "it has no stdout"))?;
        let stdout = OwnedFd::from(stdout);
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(|e| Error::us("listen to rsync", e))?;
        let now = Instant::now();
        Ok(Self {
            rsync,
            channel,
            silent: false,
            lines: Lines::new(stdout, (job.folder, job.base), paths, job.direction)?,
            said: Said::default(),
            far: None,
            brake: Brake::new(job.bandwidth, now),
            moved: now,
            here: Dir::open(job.folder)?,
            looked: now,
            ended: None,
            job,
        })
    }

    /// Moves bytes until rsync here has ended.
    pub(super) fn run(&mut self, progress: &mut dyn Progress) -> Result<()> {
        while !self.is_over() {
            signals::check()?;
            self.check_time()?;
            self.check_room()?;
            let ready = self.wait()?;
            if ready.said {
                self.hear()?;
            }
            if ready.printed && self.lines.read(&mut self.said, progress)? {
                self.moved = Instant::now();
            }
            self.pass(&ready, progress)?;
        }
        Ok(())
    }

    /// rsync has ended, and all that it said is read.
    fn is_over(&mut self) -> bool {
        if self.ended.is_none() && self.rsync.ended_within(Duration::ZERO) {
            self.ended = Some(Instant::now());
        }
        self.ended.is_some_and(|at| (self.silent && self.lines.is_closed()) || at.elapsed() > LINGER)
    }

    fn check_time(&self) -> Result<()> {
        let Deadlines { stall, total } = self.job.deadlines;
        if self.moved.elapsed() > stall {
            return Err(Error::Stalled(stall));
        }
        match total {
            Some(total) if self.job.begun.elapsed() > total => Err(Error::Deadline(total)),
            _ => Ok(()),
        }
    }

    /// However little comes over the line, it may become much here: the disk itself is looked at.
    fn check_room(&mut self) -> Result<()> {
        if self.job.floor == 0 || self.looked.elapsed() < TICK {
            return Ok(());
        }
        self.looked = Instant::now();
        let (free, floor) = (Room::of(&self.here)?.bytes_free, self.job.floor);
        if free < floor { Err(Error::Full { free, floor }) } else { Ok(()) }
    }

    /// Waits until something can move; tells what.
    fn wait(&mut self) -> Result<Ready> {
        let braked = self.brake.allowance(Instant::now()) == 0;
        let mut fds = Vec::with_capacity(7);
        let mut add = |fd| {
            fds.push(fd);
            Some(fds.len() - 1)
        };
        let said = (!self.silent).then(|| PollFd::new(&self.channel, PollFlags::IN)).and_then(&mut add);
        let printed = self.lines.source().map(|fd| PollFd::new(fd, PollFlags::IN)).and_then(&mut add);
        if self.ended.is_none() {
            add(PollFd::new(self.rsync.watch(), PollFlags::IN));
        }
        let (mut inward, mut outward) = (None, None);
        if let Some(far) = &self.far {
            let of_content = self.job.direction == Direction::In;
            inward = far.inward.waits(braked && of_content).and_then(&mut add);
            outward = far.outward.waits(braked && !of_content).and_then(&mut add);
        }
        let timeout = if braked { Brake::pause() } else { TICK };
        match rustix::event::poll(&mut fds, timeout.try_into().ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::us("wait for rsync", e)),
        }
        let ready =
            |at: Option<usize>| at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            said: ready(said),
            printed: ready(printed),
            inward: ready(inward),
            outward: ready(outward),
        })
    }

    fn hear(&mut self) -> Result<()> {
        while !self.silent {
            match self.channel.receive()? {
                None => break,
                Some(Packet::End) => self.silent = true,
                Some(Packet::Said(bytes)) => self.said.add(&bytes),
                Some(Packet::Asked(line)) if self.far.is_none() => self.far = Some(self.connect(line)?),
                Some(Packet::Asked(_)) => {
                    return Err(Error::Us("a program in the cage asked for a second session".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn connect(&self, line: Line) -> Result<Far> {
        let caps = line.caps(self.job.direction)?;
        let Stream { reader, writer, end } = (self.job.open)(caps)?;
        let inward = Way::new(reader, line.to_rsync)?;
        let outward = Way::new(line.from_rsync, writer)?;
        Ok(Far { inward, outward, end, released: false })
    }

    fn pass(&mut self, ready: &Ready, progress: &mut dyn Progress) -> Result<()> {
        let Some(far) = &mut self.far else { return Ok(()) };
        let (content, other) = match self.job.direction {
            Direction::In => ((&mut far.inward, ready.inward), (&mut far.outward, ready.outward)),
            Direction::Out(_) => ((&mut far.outward, ready.outward), (&mut far.inward, ready.inward)),
        };
        let moved = if content.1 { content.0.step(self.brake.allowance(Instant::now()))? } else { 0 };
        let back = if other.1 { other.0.step(usize::MAX)? } else { 0 };
        if moved + back > 0 {
            self.moved = Instant::now();
        }
        if moved > 0 {
            self.brake.used(moved);
            progress.bytes(moved);
        }
        if back > 0 {
            progress.sent(back);
        }
        if !far.released && (far.inward.is_closed() || far.outward.is_closed()) {
            self.channel.release()?;
            far.released = true;
        }
        if far.inward.total() > self.job.most {
            return Err(Error::Protocol(format!(
                "the far end sends more than the {} bytes that are plausible",
                self.job.most
            )));
        }
        Ok(())
    }

    /// Ends it: first here, so that rsync keeps half a file; the far end ends with its handle.
    pub(super) fn abandon(mut self) -> Result<()> {
        self.rsync.stop();
        self.rsync.reap().map(drop)
    }

    /// How it ended, on both sides.
    pub(super) fn conclude(mut self, progress: &mut dyn Progress) -> Result<Fetched> {
        let code = self.rsync.reap()?.code();
        let said = self.said.text();
        let (mut fetched, mut there) = (Fetched::default(), Ok(()));
        if let Some(Far { inward, outward, end, .. }) = self.far.take() {
            (fetched.wire_in, fetched.wire_out) = (inward.total(), outward.total());
            drop((inward, outward));
            there = end.finish(PATIENCE);
        }
        blame(code, said, there, self.job.direction)?;
        (fetched.files, fetched.missing) = self.lines.finish(progress)?;
        Ok(fetched)
    }
}

/// The list for rsync's stdin, in memory: no name that could be left behind. What comes before a `/./` in a path is where
/// the far rsync goes first, and no part of the path that it sends.
fn list(files: &[Vec<u8>], base: &[u8]) -> Result<OwnedFd> {
    let failed = |e: std::io::Error| Error::us("write the list of files", e);
    let fd = rustix::fs::memfd_create("files", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut out = std::io::BufWriter::new(File::from(fd));
    for path in files {
        let (base, rest) = path.split_at(base.len());
        let dot: &[u8] = if base.is_empty() { b"" } else { b"/." };
        [base, dot, rest, &[0]].into_iter().try_for_each(|part| out.write_all(part)).map_err(failed)?;
    }
    let mut file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.rewind().map_err(failed)?;
    Ok(file.into())
}
