//! The gates of a source on this very host: called in process, the same rsync as their sender or receiver.

use std::{
    any::Any, io::Read as _, path::Path, process::Stdio, sync::Arc, thread::JoinHandle, time::Duration,
};

use super::{
    Delivery, Error, FarEnd, Remote, Result, Stream, Tools, error::Failure, process::Running, rsync,
    said::Said,
};
use crate::{
    gate::{
        self,
        delivery::{self, Receive},
        protocol::{ANSWER_LIMIT, Answer, Refused, Request},
    },
    sys::{sandbox, show},
};

/// A gate in this process.
pub struct Folder {
    gate: Box<dyn Answer>,
    tools: Tools,
}

impl Folder {
    /// The way to `gate`, with rsync of this host as its sender.
    pub fn new(gate: Box<dyn Answer>, tools: Tools) -> Self {
        Self { gate, tools }
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("tools", &self.tools).finish_non_exhaustive()
    }
}

fn refused(refused: Refused) -> Error {
    Error::Gate(show(refused.0.as_bytes()))
}

impl Remote for Folder {
    fn ask(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>> {
        let answer = self.gate.answer(request, stdin).map_err(refused)?;
        if answer.len() as u64 > ANSWER_LIMIT {
            return Err(Error::Protocol(format!("the answer is larger than {ANSWER_LIMIT} bytes")));
        }
        Ok(answer)
    }

    fn open(&self, request: &Request) -> Result<Stream> {
        let Request::Send { id, part, caps } = request else {
            return Err(Error::Us(format!("`{request}` opens no stream")));
        };
        let folder = self.gate.sender(id, *part).map_err(refused)?;
        let policy = self.tools.sender_policy(&folder.path);
        self.tools.far_end(&policy, &caps.sender_line(), &folder.path, folder.guard)
    }
}

/// The restore gate of a home on this host, in this process.
pub struct DropFolder {
    gate: Box<dyn Receive>,
    tools: Tools,
}

impl DropFolder {
    /// The way to `gate`, with rsync of this host as its receiver.
    pub fn new(gate: Box<dyn Receive>, tools: Tools) -> Self {
        Self { gate, tools }
    }
}

impl Delivery for DropFolder {
    fn ask(&self, request: &delivery::Request) -> Result<Vec<u8>> {
        self.gate.answer(request, Arc::new(|| {})).map_err(refused)
    }

    fn open(&self, request: &delivery::Request) -> Result<Stream> {
        let delivery::Request::Receive { id, part, caps } = request else {
            return Err(Error::Us(format!("`{request}` opens no stream")));
        };
        let folder = self.gate.receiver(id, *part).map_err(refused)?;
        let policy = gate::receiver_policy(&self.tools.rsync, &folder.path, folder.largest);
        let policy = sandbox::Policy { required: self.tools.sandbox_required, ..policy };
        self.tools.far_end(&policy, &caps.receiver_line(id), &folder.path, folder.guard)
    }
}

impl Tools {
    /// Starts the rsync of the far end on this host, in its cage. What it works on is held until it ends.
    fn far_end(
        &self,
        policy: &sandbox::Policy,
        line: &[String],
        folder: &Path,
        guard: Box<dyn Any + Send>,
    ) -> Result<Stream> {
        let mut command = sandbox::command(&self.handover, policy, self.rsync.as_os_str());
        command
            .args(line)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(command, "start the rsync of the far end")?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take())
        else {
            return Err(Error::us("start the rsync of the far end", "it has no pipes"));
        };
        let said = std::thread::spawn(move || {
            let (mut said, mut bytes) = (Said::default(), [0; 4096]);
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                said.add(&bytes[..count]);
            }
            said
        });
        let end = Box::new(Sender { running, said: Some(said), _guard: guard });
        Ok(Stream { reader: stdout.into(), writer: stdin.into(), end })
    }
}

/// The far rsync; it holds the folder in place until it has ended.
struct Sender {
    running: Running,
    said: Option<JoinHandle<Said>>,
    _guard: Box<dyn Any + Send>,
}

impl FarEnd for Sender {
    fn finish(mut self: Box<Self>, patience: Duration) -> Result<()> {
        let by_itself = self.running.ended_within(patience);
        if !by_itself {
            self.running.stop();
        }
        let status = self.running.reap()?;
        let said = self.said.take().and_then(|thread| thread.join().ok()).unwrap_or_default().text();
        match (by_itself, status.code()) {
            (false, _) => {
                Err(Error::RsyncThere(Failure { code: None, meaning: "it did not end".to_owned(), said }))
            }
            (true, Some(code)) if code == i32::from(sandbox::FAILED) => Err(Error::Us(said)),
            (true, code) => {
                rsync::failure(code, said).map_or(Ok(()), |failure| Err(Error::RsyncThere(failure)))
            }
        }
    }
}
