//! `handover source gate`: what the key of a sink is bound to on the source. It runs as the transport user, reads no
//! configuration, and takes its one request from the command that the sink's ssh sent.

use std::{io, path::Path, process::ExitCode};

use super::{args::GateArgs, show};
use crate::{
    gate::{
        Gate, Served,
        protocol::{EXIT_REFUSED, Refused},
        serve, wall_clock,
    },
    manifest::Channel,
    sys::{self, clock, program, syslog, users},
};

/// Serves one request, or becomes the rsync that sends.
pub(super) fn run(args: &GateArgs) -> ExitCode {
    let line = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let refused = match answer(args, &line) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(trouble)) => {
            log(&format!("{}: {trouble}", peer()));
            return ExitCode::SUCCESS;
        }
        Err(refused) => refused,
    };
    log(&format!("refused {} what it asked for ({}): {}", peer(), sys::show(line.as_bytes()), refused.0));
    show::talk(&sys::show(refused.0.as_bytes()));
    ExitCode::from(EXIT_REFUSED)
}

fn answer(args: &GateArgs, line: &str) -> Result<Option<String>, Refused> {
    let gate = open(args.home.as_deref(), args.channel.into())?;
    let now = clock::now();
    match serve(&gate, line, io::stdin().lock(), io::stdout().lock(), (now, wall_clock(now)))? {
        Served::Answered(trouble) => Ok(trouble),
        Served::Send(sending) => {
            let rsync = program::find_fixed("rsync").ok_or_else(|| {
                Refused("rsync is not installed on the source: install it there".to_owned())
            })?;
            Err(sending.become_rsync(&rsync))
        }
    }
}

fn open(home: Option<&Path>, channel: Channel) -> Result<Gate, Refused> {
    let gate = match home {
        Some(home) => Gate::open(home),
        None => {
            let uid = users::euid();
            let user = users::find_id(uid).map_err(|e| Refused(e.to_string()))?;
            let user = user.ok_or_else(|| Refused(format!("there is no user {uid} on the source")))?;
            Gate::open(Path::new(&user.home))
        }
    };
    let gate = gate.map_err(|e| Refused(format!("the source is not ready: {e}")))?;
    if gate.facts().channel != channel {
        return Err(Refused(format!("this home is not one of the channel {}", channel.as_str())));
    }
    Ok(gate)
}

/// The address that asked, as sshd tells it.
fn peer() -> String {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    match connection.split(' ').next() {
        Some(address) if !address.is_empty() => sys::show(address.as_bytes()),
        _ => "somebody without a connection".to_owned(),
    }
}

/// Tells this host's log. Where there is none, the sink's operator is the only one who can be told.
fn log(text: &str) {
    if syslog::warn(Path::new(syslog::SOCKET), "handover-gate", text, clock::now()).is_err() {
        show::talk(text);
    }
}
