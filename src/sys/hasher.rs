//! sha256 of a stream: of a long one in a thread of its own, beside what else is done with the same bytes.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use sha2::{Digest as _, Sha256};

/// From so many bytes on a thread is worth its start.
const LONG: u64 = 8 << 20;
/// Buffers that are on their way to the thread and back, besides the one that is being filled.
const AHEAD: usize = 3;

static ZEROS: [u8; 65536] = [0; 65536];

/// Hashes what it is given, in that order.
pub(super) enum Hasher {
    /// In this thread.
    Here(Sha256),
    /// In another one.
    Beside(Beside),
}

pub(super) struct Beside {
    pieces: SyncSender<Piece>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Sha256>,
}

enum Piece {
    /// The first bytes of a buffer, which comes back.
    Bytes(Vec<u8>, usize),
    Zeros(usize),
}

impl Hasher {
    /// For some `length` bytes, which come in buffers of `size`.
    pub(super) fn new(length: u64, size: usize) -> Self {
        let beside = if length < LONG { None } else { Beside::start(size).ok() };
        // Without a further thread it takes longer, and gives the same.
        beside.map_or_else(|| Self::Here(Sha256::new()), Self::Beside)
    }

    /// Hashes the first `n` bytes of a buffer; gives a buffer of the same size whose content is of no use.
    pub(super) fn take(&mut self, buffer: Vec<u8>, n: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Here(hasher) => {
                hasher.update(&buffer[..n]);
                Ok(buffer)
            }
            Self::Beside(beside) => {
                beside.pieces.send(Piece::Bytes(buffer, n)).map_err(|_| ended())?;
                beside.empty.recv().map_err(|_| ended())
            }
        }
    }

    /// Hashes so many zeros.
    pub(super) fn zeros(&mut self, n: usize) -> io::Result<()> {
        match self {
            Self::Here(hasher) => {
                update_zeros(hasher, n);
                Ok(())
            }
            Self::Beside(beside) => beside.pieces.send(Piece::Zeros(n)).map_err(|_| ended()),
        }
    }

    /// The sha256 of all of it.
    pub(super) fn finish(self) -> io::Result<[u8; 32]> {
        let hasher = match self {
            Self::Here(hasher) => hasher,
            Self::Beside(Beside { pieces, thread, .. }) => {
                drop(pieces);
                thread.join().map_err(|_| ended())?
            }
        };
        Ok(hasher.finalize().into())
    }
}

impl Beside {
    fn start(size: usize) -> io::Result<Self> {
        let (pieces, to_hash) = sync_channel(AHEAD);
        let (back, empty) = sync_channel(AHEAD + 1);
        let thread = thread::Builder::new().name("hash".to_owned()).spawn({
            let back = back.clone();
            move || hash(&to_hash, &back)
        })?;
        for _ in 0..AHEAD {
            back.send(vec![0; size]).map_err(|_| ended())?;
        }
        Ok(Self { pieces, empty, thread })
    }
}

/// Until no more pieces come. Where nobody takes the buffers back any more, nobody asks for the sum either.
fn hash(pieces: &Receiver<Piece>, back: &SyncSender<Vec<u8>>) -> Sha256 {
    let mut hasher = Sha256::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(buffer, n) => {
                hasher.update(&buffer[..n]);
                if back.send(buffer).is_err() {
                    break;
                }
            }
            Piece::Zeros(n) => update_zeros(&mut hasher, n),
        }
    }
    hasher
}

fn update_zeros(hasher: &mut Sha256, mut n: usize) {
    while n > 0 {
        let piece = n.min(ZEROS.len());
        hasher.update(&ZEROS[..piece]);
        n -= piece;
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn ended() -> io::Error {
    io::Error::other("the hashing thread failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_same_in_either_thread() {
        let expected: [u8; 32] =
            Sha256::digest([&[1_u8; 1000][..], &[0; 200_000], &[2; 999]].concat()).into();
        for length in [0, LONG] {
            let mut hasher = Hasher::new(length, 1000);
            assert_eq!(matches!(hasher, Hasher::Beside(_)), length >= LONG);
            let mut buffer = hasher.take(vec![1; 1000], 1000).unwrap();
            hasher.zeros(200_000).unwrap();
            for _ in 0..9 {
                buffer = hasher.take(buffer, 0).unwrap();
                assert_eq!(buffer.len(), 1000);
            }
            buffer.fill(2);
            hasher.take(buffer, 999).unwrap();
            assert_eq!(hasher.finish().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_zero_and_what_is_not() {
        let mut bytes = vec![0; 200_000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        bytes[199_999] = 1;
        assert!(!is_zero(&bytes));
    }
}
