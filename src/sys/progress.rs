//! Counters of long work: the work adds, whoever shows them reads.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// What a long step has done so far. Totals are 0 while they are not known.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<String>,
    bytes: AtomicU64,
    files: AtomicU64,
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    listener: OnceLock<Listener>,
}

struct Listener(Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// A look at a [`Progress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The step, for people.
    pub phase: String,
    /// Bytes done.
    pub bytes: u64,
    /// Files done.
    pub files: u64,
    /// Bytes in all, or 0.
    pub total_bytes: u64,
    /// Files in all, or 0.
    pub total_files: u64,
}

impl Progress {
    /// Has every step told as it begins, before any of its work. Only the first listener is heard.
    pub fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        let _taken = self.listener.set(Listener(Box::new(listener)));
    }

    /// Begins a step; counters start from 0.
    pub fn begin(&self, phase: impl Into<String>, total_files: u64, total_bytes: u64) {
        let phase = phase.into();
        if let Some(Listener(tell)) = self.listener.get() {
            tell(&phase);
        }
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        for (counter, value) in [
            (&self.bytes, 0),
            (&self.files, 0),
            (&self.total_bytes, total_bytes),
            (&self.total_files, total_files),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }

    /// Adds bytes.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds files.
    pub fn add_files(&self, count: u64) {
        self.files.fetch_add(count, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn look(&self) -> Look {
        Look {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes: self.bytes.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            total_files: self.total_files.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_listener_hears_every_step_when_it_begins() {
        let progress = Progress::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&heard);
        progress.listen(move |phase| ear.lock().unwrap().push(phase.to_owned()));
        progress.begin("one", 0, 0);
        progress.add_bytes(3);
        progress.begin("two", 0, 7);
        assert_eq!(*heard.lock().unwrap(), ["one", "two"]);
        assert_eq!((progress.look().bytes, progress.look().total_bytes), (0, 7));
    }
}
