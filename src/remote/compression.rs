//! When to compress what comes over the line.

use std::time::Duration;

/// Of so many pieces one is compressed to see whether it pays now: folders differ.
const LOOK: u32 = 8;
/// A line that brings more bytes in a second is fast: a hundredth of a second saved there is worth less than the work.
const FAST: u64 = 10_000_000;
/// What is worth its work on a fast line saves at least this part.
const WORTH: u64 = 8;

/// How a piece came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    /// It was compressed.
    pub(super) compressed: bool,
    /// Bytes of its files.
    pub(super) content: u64,
    /// Bytes that came over the line for them.
    pub(super) wire: u64,
    /// How long it took.
    pub(super) took: Duration,
}

/// Decides for each piece by what those before it showed.
///
/// It is only many small files that cost anything: compressing begins anew with each. Large ones cost less to compress
/// than to encrypt and to move, whatever is in them, and who has few is never asked.
#[derive(Debug)]
pub(super) struct Compression {
    wanted: bool,
    small: bool,
    pays: bool,
    since: u32,
}

impl Compression {
    /// For a transfer that may be compressed, of small files or others.
    pub(super) fn new(wanted: bool, small: bool) -> Self {
        Self { wanted, small, pays: true, since: 0 }
    }

    /// Whether the next piece is to be compressed.
    pub(super) fn next(&mut self) -> bool {
        self.since = if self.pays { 0 } else { (self.since + 1) % LOOK };
        self.wanted && (self.pays || !self.small || self.since == 0)
    }

    /// Learns from a piece that has come. One that was not compressed shows nothing.
    pub(super) fn learn(&mut self, came: Came) {
        if came.compressed && came.content > 0 {
            let saves = came.wire <= came.content - came.content / WORTH;
            let slow = u128::from(came.wire) * 1000 < u128::from(FAST) * came.took.as_millis().max(1);
            self.pays = saves || slow;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 20 MB that shrink to so many percent, on a line of so many bytes a second: which are compressed.
    fn pieces(small: bool, percent: u64, rate: u64) -> String {
        let mut compression = Compression::new(true, small);
        let mut piece = |_| {
            let compressed = compression.next();
            let wire = 200_000 * if compressed { percent } else { 100 };
            let took = Duration::from_millis(wire * 1000 / rate);
            compression.learn(Came { compressed, content: 20_000_000, wire, took });
            if compressed { 'z' } else { '-' }
        };
        (0..18).map(&mut piece).collect()
    }

    #[test]
    fn logs_are_compressed_on_any_line_and_pictures_on_a_slow_one_or_where_they_are_large() {
        let (fast, slow) = (100_000_000, 5_000_000);
        assert_eq!(pieces(true, 30, fast), "z".repeat(18));
        assert_eq!(pieces(true, 87, fast), "z".repeat(18));
        assert_eq!(pieces(true, 100, fast), "z-------z-------z-");
        assert_eq!(pieces(true, 100, slow), "z".repeat(18));
        assert_eq!(pieces(false, 100, fast), "z".repeat(18));
    }

    #[test]
    fn what_is_not_to_be_compressed_never_is() {
        let mut compression = Compression::new(false, true);
        assert!((0..20).all(|_| !compression.next()));
    }

    #[test]
    fn compressing_begins_again_where_it_pays_again() {
        let mut compression = Compression::new(true, true);
        let took = Duration::from_millis(100);
        let mut came = Came { compressed: compression.next(), content: 20_000_000, wire: 20_000_000, took };
        compression.learn(came);
        assert_eq!((0..8).filter(|_| compression.next()).count(), 1);
        came.wire = 6_000_000;
        compression.learn(came);
        assert!((0..8).all(|_| compression.next()));
    }
}
