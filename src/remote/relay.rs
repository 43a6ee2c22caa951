//! rsync's `-e` in the cage. It connects to nothing: it hands the two ends of its line to rsync over to handover outside,
//! with what rsync asked for, and waits until it may go. So every byte passes through handover, which counts it, and
//! no program in the cage can reach further.

use std::{
    ffi::OsString,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg,
};

use super::{
    Error, Result,
    rsync::{Direction, FAR},
};
use crate::gate::protocol::Caps;

/// The hidden subcommand by which rsync starts the relay.
pub const ENTRY: &str = "__relay";
/// No packet is larger than this many bytes.
const PACKET: usize = 64 * 1024;

/// The hidden subcommand: `args` is what rsync wants to be run, and where. stderr is the inner end of a [`Channel`].
pub fn run(args: &[OsString]) -> rustix::io::Result<()> {
    let asked: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let header = serde_json::to_vec(&asked).map_err(|_| rustix::io::Errno::INVAL)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let ends = [stdin.as_fd(), stdout.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !message.push(SendAncillaryMessage::ScmRights(&ends)) {
        return Err(rustix::io::Errno::NOBUFS);
    }
    sendmsg(&stderr, &[IoSlice::new(&header)], &mut message, SendFlags::empty())?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    let mut byte = [0_u8];
    loop {
        match rustix::io::read(&stderr, &mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A socket of packets whose inner end is stderr of all programs in the cage: packets with descriptors come from the
/// relay, all others are what programs say.
#[derive(Debug)]
pub struct Channel {
    outer: OwnedFd,
}

/// A packet out of the cage.
#[derive(Debug)]
pub enum Packet {
    /// A program said something.
    Said(Vec<u8>),
    /// rsync asked its relay for a far end.
    Asked(Line),
    /// All programs are gone.
    End,
}

/// rsync's line, as the relay handed it over.
#[derive(Debug)]
pub struct Line {
    /// What rsync wants to be run, and where.
    pub asked: Vec<String>,
    /// What rsync says.
    pub from_rsync: OwnedFd,
    /// What rsync hears.
    pub to_rsync: OwnedFd,
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

impl Channel {
    /// Makes the channel; the second value becomes stderr of the cage.
    pub fn new() -> Result<(Self, OwnedFd)> {
        let (outer, inner) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| Error::us("make a socket", e))?;
        Ok((Self { outer }, inner))
    }

    /// Reads one packet, without waiting; `None` if there is none now.
    pub fn receive(&self) -> Result<Option<Packet>> {
        let mut bytes = vec![0; PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = match recvmsg(&self.outer, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(message) => message,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(rustix::io::Errno::CONNRESET) => return Ok(Some(Packet::End)),
            Err(e) => return Err(Error::us("hear the cage", e)),
        };
        bytes.truncate(message.bytes);
        let mut ends = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                ends.extend(descriptors);
            }
        }
        let cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        match <[OwnedFd; 2]>::try_from(ends) {
            Ok([from_rsync, to_rsync]) if !cut => {
                let asked = serde_json::from_slice(&bytes)
                    .map_err(|_| Error::Protocol("the relay's header cannot be read".to_owned()))?;
                Ok(Some(Packet::Asked(Line { asked, from_rsync, to_rsync })))
            }
            _ if bytes.is_empty() => Ok(Some(Packet::End)),
            _ => Ok(Some(Packet::Said(bytes))),
        }
    }

    /// Lets the relay go; what programs say is still heard.
    pub fn release(&self) -> Result<()> {
        match rustix::net::shutdown(&self.outer, Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::PIPE) => Ok(()),
            Err(e) => Err(Error::us("let the relay go", e)),
        }
    }
}

impl Line {
    /// The capabilities of rsync here, if what it asked for is what will be sent, and nothing else.
    pub fn caps(&self, direction: Direction<'_>) -> Result<Caps> {
        let asked = match self.asked.as_slice() {
            [far, rsync, line @ ..] if far == FAR && rsync == "rsync" => Some(line),
            _ => None,
        };
        asked.and_then(|line| direction.caps(line)).ok_or_else(|| {
            let sent = "e.LsfxCIvu".parse::<Caps>().map(|caps| direction.line(&caps).join(" ")).unwrap_or_default();
            let asked = crate::sys::show(self.asked.join(" ").as_bytes());
            Error::Us(format!(
                "rsync here asks its far end for `{asked}`, where `{FAR} rsync {sent}` (with other letters after the `e`) \
                 is what is sent: this version of rsync does not fit"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_and_the_line_of_rsync_are_told_apart() {
        let (outer, inner) = Channel::new().unwrap();
        assert!(outer.receive().unwrap().is_none());
        rustix::io::write(&inner, b"hello").unwrap();
        let Some(Packet::Said(said)) = outer.receive().unwrap() else { panic!("not said") };
        assert_eq!(said, b"hello");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let ends = [inner.as_fd(), inner.as_fd()];
        assert!(message.push(SendAncillaryMessage::ScmRights(&ends)));
        let header = br#"["far","rsync","--server","--sender","-IRSe.x"]"#;
        sendmsg(&inner, &[IoSlice::new(header)], &mut message, SendFlags::empty()).unwrap();
        let Some(Packet::Asked(line)) = outer.receive().unwrap() else { panic!("not asked") };
        let why = line.caps(Direction::In).unwrap_err().to_string();
        assert!(why.contains("-IRSe.x`") && why.contains("--no-implied-dirs"), "{why}");
        drop((inner, line));
        assert!(matches!(outer.receive().unwrap(), Some(Packet::End)));
    }

    #[test]
    fn only_the_line_that_will_be_sent_gives_capabilities() {
        let (_outer, inner) = Channel::new().unwrap();
        let line = |words: &[&str]| Line {
            asked: words.iter().map(|w| (*w).to_owned()).collect(),
            from_rsync: inner.try_clone().unwrap(),
            to_rsync: inner.try_clone().unwrap(),
        };
        let fixed = "e.LsfxCIvu".parse::<Caps>().unwrap().sender_line();
        let mut words = vec!["far", "rsync"];
        words.extend(fixed.iter().map(String::as_str));
        assert_eq!(line(&words).caps(Direction::In).unwrap().to_string(), "e.LsfxCIvu");
        words[0] = "elsewhere";
        assert!(line(&words).caps(Direction::In).is_err());
    }
}
