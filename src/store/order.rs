//! The order of what a sink keeps of one source: a pure decision.
//!
//! It is the order of storing, whatever the source says. Only what comes late stands further down: fetched again, or
//! for the first time after a newer one, it must not count as the newest and push that one out. It is late if both the
//! source's sequence and the id say so, in one lineage: a sequence alone may have gone back with a host that was put
//! back to an earlier state, an id alone with a clock. A source that lies here makes only its own newest ones older.

use crate::manifest::GenerationId;

/// What the source says of when it made a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made<'a> {
    /// The counter that the sequence is of.
    pub lineage: &'a str,
    /// The source's sequence.
    pub sequence: u64,
    /// Its id.
    pub id: &'a GenerationId,
}

impl Made<'_> {
    fn is_before(&self, other: &Self) -> bool {
        self.lineage == other.lineage && self.sequence < other.sequence && self.id < other.id
    }
}

/// Puts generations in order, the eldest first; they come in the order in which they were stored.
pub fn in_order<T>(stored: Vec<T>, made: impl Fn(&T) -> Made<'_>) -> Vec<T> {
    let mut ordered: Vec<T> = Vec::with_capacity(stored.len());
    for one in stored {
        let newer = ordered.iter().position(|there| made(&one).is_before(&made(there)));
        ordered.insert(newer.unwrap_or(ordered.len()), one);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(usize, &'static str, u64, GenerationId);

    /// The order of what was stored one after the other: lineage, sequence of the source, hour of its id.
    fn ordered(stored: &[(&'static str, u64, &str)]) -> Vec<usize> {
        let one = |(n, (lineage, sequence, hour)): (usize, &(&'static str, u64, &str))| {
            One(n, lineage, *sequence, format!("20261123T{hour}0000Z").parse().unwrap())
        };
        let all: Vec<One> = stored.iter().enumerate().map(one).collect();
        let ordered = in_order(all, |one| Made { lineage: one.1, sequence: one.2, id: &one.3 });
        ordered.into_iter().map(|one| one.0).collect()
    }

    #[test]
    fn what_comes_late_is_not_the_newest() {
        assert_eq!(ordered(&[("a", 1, "01"), ("a", 3, "03"), ("a", 2, "02")]), [0, 2, 1]);
        assert_eq!(ordered(&[("a", 3, "03"), ("a", 4, "04"), ("a", 1, "01"), ("a", 2, "02")]), [2, 3, 0, 1]);
    }

    #[test]
    fn a_counter_or_a_clock_that_went_back_and_a_new_lineage_leave_the_order_of_storing() {
        assert_eq!(ordered(&[("a", 9, "01"), ("a", 3, "02"), ("a", 4, "03")]), [0, 1, 2]);
        assert_eq!(ordered(&[("a", 1, "09"), ("a", 2, "03"), ("a", 3, "04")]), [0, 1, 2]);
        assert_eq!(ordered(&[("a", 9, "09"), ("b", 1, "01"), ("a", 10, "10")]), [0, 1, 2]);
    }
}
