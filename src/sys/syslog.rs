//! The log of this host: one datagram, as every syslog and journald take them.

use std::{io, os::unix::net::UnixDatagram, path::Path};

use jiff::{Timestamp, tz::TimeZone};

use super::show;

/// Where the log listens.
pub const SOCKET: &str = "/dev/log";
/// Facility authpriv: who was refused, and who was not, is for those who read the log of logins.
const AUTHPRIV: u32 = 10 << 3;
const WARNING: u32 = AUTHPRIV | 4;
const INFO: u32 = AUTHPRIV | 6;
/// What every log takes.
const LIMIT: usize = 1000;

/// Writes a warning to the log; never waits. An error means that nobody listens, or that the log is full.
pub fn warn(socket: &Path, tag: &'static str, text: &str, now: Timestamp) -> io::Result<()> {
    Log::open(socket, tag)?.warn(text, now)
}

/// The log, open: it can be written to from a cage that was closed since.
#[derive(Debug)]
pub struct Log {
    socket: UnixDatagram,
    tag: &'static str,
    zone: TimeZone,
}

impl Log {
    /// Opens it. An error means that nobody listens.
    pub fn open(socket: &Path, tag: &'static str) -> io::Result<Self> {
        let log = UnixDatagram::unbound()?;
        log.set_nonblocking(true)?;
        log.connect(socket)?;
        Ok(Self { socket: log, tag, zone: TimeZone::system() })
    }

    /// Writes a warning; never waits.
    pub fn warn(&self, text: &str, now: Timestamp) -> io::Result<()> {
        self.write(WARNING, text, now)
    }

    /// Writes what is worth knowing; never waits.
    pub fn info(&self, text: &str, now: Timestamp) -> io::Result<()> {
        self.write(INFO, text, now)
    }

    /// As RFC 3164 has it.
    fn write(&self, priority: u32, text: &str, now: Timestamp) -> io::Result<()> {
        let time = now.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string();
        let shown: String = show(text.as_bytes()).chars().take(LIMIT).collect();
        let line = format!("<{priority}>{time} {}[{}]: {shown}", self.tag, std::process::id());
        self.socket.send(line.as_bytes()).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_arrives_on_one_line_and_nobody_listening_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let now: Timestamp = "2026-11-03T03:00:00Z".parse().unwrap();
        assert!(warn(&socket, "handover", "x", now).is_err());
        let listener = UnixDatagram::bind(&socket).unwrap();
        warn(&socket, "handover", "refused\nwhy", now).unwrap();
        let mut bytes = [0; 2000];
        let count = listener.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..count]).unwrap();
        assert!(text.starts_with("<84>Nov  "), "{text}");
        assert!(text.ends_with(&format!(" handover[{}]: refused\\nwhy", std::process::id())), "{text}");
    }
}
