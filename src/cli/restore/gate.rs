//! `handover restore gate`: what a granted key is bound to. It runs as the transport user, reads no configuration, and
//! takes its one request from the command that the sink's ssh sent.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    cli::{
        args::RestoreGateArgs,
        gate::{home_of, peer},
        show,
    },
    gate::{
        delivery::Alive,
        protocol::{EXIT_REFUSED, Refused},
    },
    restore::gate::{RestoreGate, Served},
    sys::{
        self, clock, program,
        sandbox::{self, FAILED},
        syslog::{self, Log},
    },
};

/// A sign of life while a generation is read: space before an answer means nothing in JSON.
const SIGN: Duration = Duration::from_secs(5);

/// Serves one request.
pub(in crate::cli) fn run(args: &RestoreGateArgs) -> ExitCode {
    let line = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    // In the cage nothing can be opened any more.
    let log = Log::open(Path::new(syslog::SOCKET), "handover-restore-gate").ok();
    match answer(args, &line, log.as_ref()) {
        Ok(code) => code,
        Err(refused) => {
            let text = format!(
                "refused {} what it asked for ({}): {}",
                peer(),
                sys::show(line.as_bytes()),
                refused.0
            );
            let told = log.as_ref().is_some_and(|log| log.warn(&text, clock::now()).is_ok());
            show::talk(&if told { sys::show(refused.0.as_bytes()) } else { text });
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn answer(args: &RestoreGateArgs, line: &str, log: Option<&Log>) -> Result<ExitCode, Refused> {
    let gate = RestoreGate::open(&home_of(args.home.as_deref())?)
        .map_err(|e| Refused(format!("the host is not ready: {e}")))?;
    let handover = std::env::current_exe().map_err(|e| Refused(format!("handover cannot be found: {e}")))?;
    let rsync = program::find_fixed("rsync");
    rustix::process::umask(rustix::fs::Mode::from(0o077));
    sandbox::enter(&gate.cage(&handover, rsync.as_deref())).map_err(|e| Refused(e.to_string()))?;
    match gate.serve(line, alive())? {
        Served::Answered(answer, worth) => {
            if let (Some(worth), Some(log)) = (worth, log)
                && log.info(&format!("{}: {worth}", peer()), clock::now()).is_err()
            {
                // A log that is full hears nothing; the sink is told all the same.
            }
            let mut stdout = io::stdout().lock();
            let told = stdout.write_all(&answer).and_then(|()| stdout.flush());
            told.map_err(|e| Refused(format!("the answer cannot be delivered: {e}")))?;
            Ok(ExitCode::SUCCESS)
        }
        Served::Receive(incoming) => {
            let rsync =
                rsync.ok_or_else(|| Refused("rsync is not installed there: install it".to_owned()))?;
            let status = incoming.receive(&gate, &handover, &rsync)?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(ExitCode::from(code.unwrap_or(FAILED)))
        }
    }
}

fn alive() -> Alive {
    let last = Mutex::new(Instant::now());
    Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= SIGN {
            *last = Instant::now();
            let mut stdout = io::stdout().lock();
            if stdout.write_all(b"\n").and_then(|()| stdout.flush()).is_err() {
                // Whoever asked has gone; what is proven is published all the same.
            }
        }
    })
}
