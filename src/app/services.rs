//! Services that are stopped while an element is collected, and started again whatever happens.
//!
//! Before the first is stopped, their names are written to a journal; it goes when all run again. A run that was killed
//! in between leaves it, and the next run starts them first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::{
    self, Dir,
    child::{self, Failure, Job},
    durable,
};

const JOURNAL: &str = "services-stopped.json";
const TIMEOUT: Duration = Duration::from_secs(300);

/// What can go wrong with services.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A service did not stop or start.
    #[error("cannot {act} service {name}: {source}")]
    Service {
        /// `stop` or `start`.
        act: &'static str,
        /// The service.
        name: String,
        /// Why.
        source: Failure,
    },
    /// The journal could not be written or read.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The journal is not what we wrote.
    #[error("{JOURNAL} cannot be read ({0}): start the services by hand, then remove it")]
    Journal(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    services: Vec<String>,
}

/// Services that are stopped now. Dropping it starts them again; [`Stopped::start`] also says how that went.
#[derive(Debug)]
#[must_use = "the services are started again when this goes"]
pub struct Stopped<'a> {
    state: &'a Dir,
    names: Vec<String>,
}

/// Stops those of the services that run now; what an earlier run left stopped is started with them later. `state` is root's
/// folder for the journal.
pub fn stop<'a>(state: &'a Dir, services: &[String]) -> Result<Stopped<'a>, Error> {
    let running: Vec<String> = services.iter().filter(|name| is_running(name)).cloned().collect();
    let mut names = left_stopped(state)?;
    names.extend(running.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    let mut stopped = Stopped { state, names };
    if stopped.names.is_empty() {
        return Ok(stopped);
    }
    let text = serde_json::to_vec(&Journal { services: stopped.names.clone() })
        .map_err(|e| Error::Journal(e.to_string()))?;
    durable::write_file(state, JOURNAL, &text, 0o600)?;
    let failure = running.iter().find_map(|name| act("stop", name).err());
    match failure {
        None => Ok(stopped),
        Some(e) => {
            stopped.start_again()?;
            Err(e)
        }
    }
}

/// The names of what a run that was killed left stopped.
pub fn left_stopped(state: &Dir) -> Result<Vec<String>, Error> {
    let Some(bytes) = state.read_if_any(JOURNAL, 1 << 20)? else { return Ok(Vec::new()) };
    let journal: Journal = serde_json::from_slice(&bytes).map_err(|e| Error::Journal(e.to_string()))?;
    Ok(journal.services)
}

/// Starts what a run that was killed left stopped; gives the names.
pub fn recover(state: &Dir) -> Result<Vec<String>, Error> {
    let names = left_stopped(state)?;
    Stopped { state, names: names.clone() }.start()?;
    Ok(names)
}

impl Stopped<'_> {
    /// Starts them again, all of them even if one fails; the first failure is told, and the journal stays for the next run.
    pub fn start(mut self) -> Result<(), Error> {
        self.start_again()
    }

    fn start_again(&mut self) -> Result<(), Error> {
        let names = std::mem::take(&mut self.names);
        if names.is_empty() {
            return Ok(());
        }
        let failures: Vec<Error> = names.iter().rev().filter_map(|name| act("start", name).err()).collect();
        match failures.into_iter().next() {
            Some(e) => Err(e),
            None => Ok(durable::remove_file(self.state, JOURNAL)?),
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if self.start_again().is_err() {
            // The journal is still there: the next run starts them, and says so.
        }
    }
}

fn command(act: &str, name: &str) -> Vec<String> {
    let words: &[&str] = if std::path::Path::new("/run/systemd/system").exists() {
        &["systemctl", act, "--", name]
    } else {
        &["service", name, if act == "is-active" { "status" } else { act }]
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_running(name: &str) -> bool {
    child::run_always(&Job { argv: &command("is-active", name), user: None, env: &[], timeout: TIMEOUT })
        .is_ok()
}

fn act(act: &'static str, name: &str) -> Result<(), Error> {
    child::run_always(&Job { argv: &command(act, name), user: None, env: &[], timeout: TIMEOUT })
        .map_err(|source| Error::Service { act, name: name.to_owned(), source })
}
