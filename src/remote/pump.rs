//! Bytes from one descriptor to another, one way, without waiting; and the brake on them.

use std::{
    num::NonZeroU64,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::OFlags,
    io::Errno,
};

use super::{Error, Result};

const BUFFER: usize = 256 * 1024;
/// Bytes that a pipe is asked to hold, so that both its ends have something to do for longer.
const PIPE: usize = 1024 * 1024;

/// One way between two descriptors. When the reading end is at its end and all is written, the writing end is closed;
/// when nobody reads any more, the reading end is closed too.
#[derive(Debug)]
pub struct Way {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    total: u64,
}

impl Way {
    /// Joins the two.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Result<Self> {
        for fd in [&from, &to] {
            let failed = |e| Error::us("prepare a pipe", e);
            let flags = rustix::fs::fcntl_getfl(fd).map_err(failed)?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(failed)?;
            if rustix::pipe::fcntl_setpipe_size(fd, PIPE).is_err() {
                // It is none, or its user has many: it holds what it holds.
            }
        }
        Ok(Self { from: Some(from), to: Some(to), buffer: vec![0; BUFFER], start: 0, end: 0, total: 0 })
    }

    /// Bytes that have passed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing can pass any more.
    pub fn is_closed(&self) -> bool {
        self.to.is_none()
    }

    /// What to wait for: that there is something to read, unless it is `braked`, or that what was read can be written.
    pub fn waits(&self, braked: bool) -> Option<PollFd<'_>> {
        if self.start < self.end {
            return self.to.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT));
        }
        self.from.as_ref().filter(|_| !braked).map(|fd| PollFd::new(fd, PollFlags::IN))
    }

    /// Passes on what can be passed now, at most `limit` bytes; says how many.
    pub fn step(&mut self, limit: usize) -> Result<u64> {
        let before = self.total;
        self.write()?;
        if self.start == self.end && limit > 0 {
            self.read(limit)?;
            self.write()?;
        }
        Ok(self.total - before)
    }

    fn read(&mut self, limit: usize) -> Result<()> {
        let Some(from) = &self.from else { return Ok(()) };
        (self.start, self.end) = (0, 0);
        match rustix::io::read(from, &mut self.buffer[..limit.min(BUFFER)]) {
            Ok(0) | Err(Errno::CONNRESET | Errno::IO) => (self.from, self.to) = (None, None),
            Ok(count) => self.end = count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(Error::us("read from a pipe", e)),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        while self.start < self.end {
            let Some(to) = &self.to else { return Ok(()) };
            match rustix::io::write(to, &self.buffer[self.start..self.end]) {
                Ok(count) => {
                    self.start += count;
                    self.total += count as u64;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    (self.from, self.to, self.start, self.end) = (None, None, 0, 0);
                }
                Err(e) => return Err(Error::us("write to a pipe", e)),
            }
        }
        Ok(())
    }
}

/// So many bytes in a second, on the average of a quarter of one.
#[derive(Debug)]
pub struct Brake {
    rate: Option<NonZeroU64>,
    left: u64,
    filled: Instant,
}

impl Brake {
    /// A brake; `None` does not brake.
    pub fn new(rate: Option<NonZeroU64>, now: Instant) -> Self {
        Self { rate, left: 0, filled: now }
    }

    /// How many bytes may pass now.
    pub fn allowance(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else { return BUFFER };
        let since = now.saturating_duration_since(self.filled);
        let gained = u128::from(rate.get()) * since.as_micros() / 1_000_000;
        if gained > 0 {
            let most = (rate.get() / 4).max(1);
            self.left = u64::try_from(gained).unwrap_or(most).saturating_add(self.left).min(most);
            self.filled = now;
        }
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// So many bytes have passed.
    pub fn used(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// How long to wait while nothing may pass.
    pub fn pause() -> Duration {
        Duration::from_millis(20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_the_end_is_passed_on() {
        let (read_a, write_a) = rustix::pipe::pipe().unwrap();
        let (read_b, write_b) = rustix::pipe::pipe().unwrap();
        let mut way = Way::new(read_a, write_b).unwrap();
        rustix::io::write(&write_a, b"abc").unwrap();
        assert_eq!(way.step(2).unwrap(), 2);
        assert_eq!(way.step(9).unwrap(), 1);
        drop(write_a);
        assert_eq!(way.step(9).unwrap(), 0);
        assert!(way.is_closed() && way.total() == 3);
        let mut bytes = [0; 9];
        assert_eq!(rustix::io::read(&read_b, &mut bytes).unwrap(), 3);
        assert_eq!(rustix::io::read(&read_b, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_way() {
        let (read_a, write_a) = rustix::pipe::pipe().unwrap();
        let (read_b, write_b) = rustix::pipe::pipe().unwrap();
        let mut way = Way::new(read_a, write_b).unwrap();
        drop(read_b);
        rustix::io::write(&write_a, b"abc").unwrap();
        assert_eq!(way.step(9).unwrap(), 0);
        assert!(way.is_closed());
    }

    #[test]
    fn the_brake_lets_its_rate_pass_and_no_saved_up_flood() {
        let start = Instant::now();
        let mut brake = Brake::new(NonZeroU64::new(1000), start);
        assert_eq!(brake.allowance(start), 0);
        assert_eq!(brake.allowance(start + Duration::from_millis(100)), 100);
        brake.used(60);
        assert_eq!(brake.allowance(start + Duration::from_millis(110)), 50);
        assert_eq!(brake.allowance(start + Duration::from_secs(60)), 250);
        assert_eq!(Brake::new(None, start).allowance(start), BUFFER);
    }
}
