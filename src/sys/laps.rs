//! Where the time goes: phases by name, each added up, by a clock that nobody sets.

use std::time::{Duration, Instant};

/// Phases and their durations, in the order in which they first came.
#[derive(Debug, Default, Clone)]
pub struct Laps(Vec<(&'static str, Duration)>);

impl Laps {
    /// Measures a phase.
    pub fn time<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let result = work();
        self.add(phase, before.elapsed());
        result
    }

    /// Adds to a phase.
    pub fn add(&mut self, phase: &'static str, duration: Duration) {
        match self.0.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, sum)) => *sum += duration,
            None => self.0.push((phase, duration)),
        }
    }

    /// Phases and durations.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_comes_again_is_added_up_where_it_first_stood() {
        let mut laps = Laps::default();
        laps.add("walk", Duration::from_secs(1));
        assert_eq!(laps.time("sync", || 7), 7);
        laps.add("walk", Duration::from_secs(2));
        let found: Vec<_> = laps.iter().collect();
        assert_eq!(found[0], ("walk", Duration::from_secs(3)));
        assert_eq!((found.len(), found[1].0), (2, "sync"));
    }
}
