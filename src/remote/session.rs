//! The loop of a fetch or a delivery: every byte between two rsyncs, or two pairs of them, what they say, the clock, and
//! the end of all.

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
    compression::Came,
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
    /// Whether that makes it compress.
    pub(super) compressed: bool,
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
}

/// What holds for all sessions of a transfer together.
pub(super) struct Whole {
    /// When to give up.
    pub(super) deadlines: Deadlines,
    /// Bytes that the far ends may say.
    pub(super) most: u64,
    /// Bytes of the disk here that stay free; 0 where nothing is written here.
    pub(super) floor: u64,
    begun: Instant,
    brake: Brake,
    inward: u64,
    here: Dir,
    looked: Instant,
    /// Which session is served first: each in its turn, as the brake may leave nothing for the others.
    turn: usize,
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
    begun: Instant,
    moved: Instant,
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

/// Where among what is waited for each of it is.
#[derive(Default)]
struct Watched {
    said: Option<usize>,
    printed: Option<usize>,
    inward: Option<usize>,
    outward: Option<usize>,
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
        Ok(Self {
            rsync,
            channel,
            silent: false,
            lines: Lines::new(stdout, (job.folder, job.base), paths, job.direction)?,
            said: Said::default(),
            far: None,
            begun: Instant::now(),
            moved: Instant::now(),
            ended: None,
            job,
        })
    }

    /// Does what can be done without waiting.
    fn turn(&mut self, ready: &Ready, whole: &mut Whole, progress: &mut dyn Progress) -> Result<()> {
        if ready.said {
            self.hear()?;
        }
        if ready.printed && self.lines.read(&mut self.said, progress)? {
            self.moved = Instant::now();
        }
        self.pass(ready, whole, progress)
    }

    /// rsync has ended, and all that it said is read.
    fn is_over(&mut self) -> bool {
        if self.ended.is_none() && self.rsync.ended_within(Duration::ZERO) {
            self.ended = Some(Instant::now());
        }
        self.ended.is_some_and(|at| (self.silent && self.lines.is_closed()) || at.elapsed() > LINGER)
    }

    fn check_stall(&self, limit: Duration) -> Result<()> {
        if self.moved.elapsed() > limit { Err(Error::Stalled(limit)) } else { Ok(()) }
    }

    /// Adds what it waits for; gives the places of that.
    fn watch<'s>(&'s self, braked: bool, fds: &mut Vec<PollFd<'s>>) -> Watched {
        let mut add = |fd| {
            fds.push(fd);
            Some(fds.len() - 1)
        };
        let mut watched = Watched {
            said: (!self.silent).then(|| PollFd::new(&self.channel, PollFlags::IN)).and_then(&mut add),
            printed: self.lines.source().map(|fd| PollFd::new(fd, PollFlags::IN)).and_then(&mut add),
            ..Watched::default()
        };
        if self.ended.is_none() {
            add(PollFd::new(self.rsync.watch(), PollFlags::IN));
        }
        if let Some(far) = &self.far {
            let of_content = self.job.direction == Direction::In;
            watched.inward = far.inward.waits(braked && of_content).and_then(&mut add);
            watched.outward = far.outward.waits(braked && !of_content).and_then(&mut add);
        }
        watched
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

    fn pass(&mut self, ready: &Ready, whole: &mut Whole, progress: &mut dyn Progress) -> Result<()> {
        let Some(far) = &mut self.far else { return Ok(()) };
        let (content, other) = match self.job.direction {
            Direction::In => ((&mut far.inward, ready.inward), (&mut far.outward, ready.outward)),
            Direction::Out(_) => ((&mut far.outward, ready.outward), (&mut far.inward, ready.inward)),
        };
        let moved = if content.1 { content.0.step(whole.brake.allowance(Instant::now()))? } else { 0 };
        let back = if other.1 { other.0.step(usize::MAX)? } else { 0 };
        if moved + back > 0 {
            self.moved = Instant::now();
        }
        if moved > 0 {
            whole.brake.used(moved);
            progress.bytes(moved);
        }
        if back > 0 {
            progress.sent(back);
        }
        if !far.released && (far.inward.is_closed() || far.outward.is_closed()) {
            self.channel.release()?;
            far.released = true;
        }
        whole.inward += if self.job.direction == Direction::In { moved } else { back };
        if whole.inward > whole.most {
            return Err(Error::Protocol(format!(
                "the far end sends more than the {} bytes that are plausible",
                whole.most
            )));
        }
        Ok(())
    }

    /// Ends it: first here, so that rsync keeps half a file; the far end ends with its handle.
    pub(super) fn abandon(mut self) -> Result<()> {
        self.rsync.stop();
        self.rsync.reap().map(drop)
    }

    /// How it ended, on both sides, and how the content came.
    pub(super) fn conclude(mut self, progress: &mut dyn Progress) -> Result<(Fetched, Came)> {
        let took = self.begun.elapsed();
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
        let (compressed, wire) = (self.job.compressed, fetched.wire_in);
        Ok((fetched, Came { compressed, content: self.lines.bytes(), wire, took }))
    }
}

impl Whole {
    /// A transfer below `folder` that begins now, of so many bytes per second.
    pub(super) fn new(
        folder: &Path,
        bandwidth: Option<NonZeroU64>,
        deadlines: Deadlines,
        (most, floor): (u64, u64),
    ) -> Result<Self> {
        let (now, here) = (Instant::now(), Dir::open(folder)?);
        let brake = Brake::new(bandwidth, now);
        Ok(Self { deadlines, most, floor, begun: now, brake, inward: 0, here, looked: now, turn: 0 })
    }

    /// Moves bytes until one of these sessions has ended, and gives its place.
    pub(super) fn run(&mut self, sessions: &mut [Session<'_>], progress: &mut dyn Progress) -> Result<usize> {
        loop {
            if let Some(ended) = sessions.iter_mut().position(Session::is_over) {
                return Ok(ended);
            }
            signals::check()?;
            self.check()?;
            let ready = self.wait(sessions)?;
            self.turn = self.turn.wrapping_add(1);
            for at in 0..sessions.len() {
                let at = (at + self.turn) % sessions.len();
                if let (Some(session), Some(ready)) = (sessions.get_mut(at), ready.get(at)) {
                    session.check_stall(self.deadlines.stall)?;
                    session.turn(ready, self, progress)?;
                }
            }
        }
    }

    fn check(&mut self) -> Result<()> {
        match self.deadlines.total {
            Some(total) if self.begun.elapsed() > total => Err(Error::Deadline(total)),
            _ => self.check_room(),
        }
    }

    /// However little comes over the line, it may become much here: the disk itself is looked at.
    fn check_room(&mut self) -> Result<()> {
        if self.floor == 0 || self.looked.elapsed() < TICK {
            return Ok(());
        }
        self.looked = Instant::now();
        let (free, floor) = (Room::of(&self.here)?.bytes_free, self.floor);
        if free < floor { Err(Error::Full { free, floor }) } else { Ok(()) }
    }

    /// Waits until something can move; tells what.
    fn wait(&mut self, sessions: &[Session<'_>]) -> Result<Vec<Ready>> {
        let braked = self.brake.allowance(Instant::now()) == 0;
        let mut fds = Vec::with_capacity(5 * sessions.len());
        let watched: Vec<Watched> = sessions.iter().map(|one| one.watch(braked, &mut fds)).collect();
        let timeout = if braked { Brake::pause() } else { TICK };
        match rustix::event::poll(&mut fds, timeout.try_into().ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::us("wait for rsync", e)),
        }
        let ready =
            |at: Option<usize>| at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
        let of = |one: &Watched| Ready {
            said: ready(one.said),
            printed: ready(one.printed),
            inward: ready(one.inward),
            outward: ready(one.outward),
        };
        Ok(watched.iter().map(of).collect())
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
