//! The log of this host: one datagram, as every syslog and journald take them.

use std::{io, os::unix::net::UnixDatagram, path::Path};

use jiff::{Timestamp, tz::TimeZone};

use super::show;

/// Where the log listens.
pub const SOCKET: &str = "/dev/log";
/// Facility authpriv, severity warning: who was refused is for those who read the log of logins.
const AUTHPRIV_WARNING: u32 = 10 << 3 | 4;
/// What every log takes.
const LIMIT: usize = 1000;

/// Writes a warning to the log; never waits. An error means that nobody listens, or that the log is full.
pub fn warn(socket: &Path, tag: &str, text: &str, now: Timestamp) -> io::Result<()> {
    let log = UnixDatagram::unbound()?;
    log.set_nonblocking(true)?;
    log.send_to(line(tag, text, now).as_bytes(), socket).map(|_| ())
}

/// As RFC 3164 has it.
fn line(tag: &str, text: &str, now: Timestamp) -> String {
    let time = now.to_zoned(TimeZone::system()).strftime("%b %e %H:%M:%S").to_string();
    let shown: String = show(text.as_bytes()).chars().take(LIMIT).collect();
    format!("<{AUTHPRIV_WARNING}>{time} {tag}[{}]: {shown}", std::process::id())
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
