//! Work on many files, shared out among threads by folder: two threads that change the same folder wait for each other.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use super::Result;
use crate::sys::{self, signals};

/// So many files make a hand, and the rest of their folder up to the larger number.
const ENOUGH: usize = 64;
const AT_MOST: usize = 512;
/// Hands that may wait for a thread.
const WAITING: usize = 32;

/// Something to be done in a folder.
pub(super) trait InFolder: Send {
    /// The folder.
    fn folder(&self) -> &[u8];
}

/// What is dealt out goes to the threads in hands.
pub(super) struct Dealer<'a, T> {
    hand: Vec<T>,
    hands: Sender<Vec<T>>,
    failed: &'a AtomicBool,
}

/// Runs the workers, each in a thread, on what `deal` deals out; ends when all is done. The first error ends it: that of a
/// worker, as the dealer then only stops.
pub(super) fn share_out<T: InFolder, W: FnMut(T) -> Result<()> + Send>(
    workers: Vec<W>,
    deal: impl FnOnce(&mut Dealer<'_, T>) -> Result<()>,
) -> Result<()> {
    let failed = AtomicBool::new(false);
    let (hands, waiting) = crossbeam_channel::bounded::<Vec<T>>(WAITING);
    std::thread::scope(|scope| {
        let threads = workers.into_iter().map(|mut worker| {
            let (waiting, failed) = (waiting.clone(), &failed);
            scope.spawn(move || {
                let outcome = waiting.into_iter().flatten().try_for_each(|one| {
                    signals::check()?;
                    worker(one)
                });
                failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            })
        });
        let threads: Vec<_> = threads.collect();
        drop(waiting);
        let mut dealer = Dealer { hand: Vec::new(), hands, failed: &failed };
        let dealt = deal(&mut dealer).map(|()| dealer.send());
        drop(dealer);
        let mut done: Result<()> = Ok(());
        for thread in threads {
            let one = thread.join().unwrap_or_else(|_| {
                let why = std::io::Error::other("a thread ended with a mistake of handover itself");
                Err(sys::Error::new("lay out the files of", "a generation", why).into())
            });
            done = done.and(one);
        }
        done.and(dealt)
    })
}

impl<T: InFolder> Dealer<'_, T> {
    /// Deals one out, with others of its folder; waits while the threads have enough to do.
    pub(super) fn deal(&mut self, one: T) {
        let changes = self.hand.last().is_some_and(|last| last.folder() != one.folder());
        if (changes && self.hand.len() >= ENOUGH) || self.hand.len() >= AT_MOST {
            self.send();
        }
        self.hand.push(one);
    }

    /// Whether a worker has failed: what comes now is done by nobody.
    pub(super) fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn send(&mut self) {
        let hand = std::mem::take(&mut self.hand);
        if !hand.is_empty() && self.hands.send(hand).is_err() {
            // All threads have ended, each with an error, which is told.
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct File(String);

    impl InFolder for File {
        fn folder(&self) -> &[u8] {
            self.0.split('/').next().unwrap_or_default().as_bytes()
        }
    }

    #[test]
    fn all_is_done_once_and_a_folder_of_some_files_by_one_thread() {
        let done = Mutex::new(Vec::new());
        let worker = |number: usize| {
            let done = &done;
            move |file: File| {
                done.lock().unwrap().push((file.0, number));
                Ok(())
            }
        };
        let files = (0..50).flat_map(|folder| (0..40).map(move |file| File(format!("{folder}/{file}"))));
        share_out((0..3).map(worker).collect(), |dealer| {
            files.for_each(|file| dealer.deal(file));
            Ok(())
        })
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort();
        let mut whose: Vec<(&str, usize)> =
            done.iter().map(|(file, number)| (file.split('/').next().unwrap(), *number)).collect();
        assert_eq!(whose.len(), 2000);
        whose.dedup();
        assert_eq!(whose.len(), 50);
        done.dedup_by(|a, b| a.0 == b.0);
        assert_eq!(done.len(), 2000);
    }

    #[test]
    fn the_error_of_a_worker_ends_it_and_is_the_one_that_is_told() {
        let worker = |file: File| {
            let why = std::io::Error::other("worn out");
            if file.0 == "3/0" { Err(sys::Error::new("link", &file.0, why).into()) } else { Ok(()) }
        };
        let mut dealt = 0;
        let outcome = share_out(vec![worker; 2], |dealer| {
            for folder in 0..1_000_000 {
                if dealer.is_over() {
                    return Ok(());
                }
                dealer.deal(File(format!("{folder}/0")));
                dealt += 1;
            }
            Ok(())
        });
        assert!(outcome.unwrap_err().to_string().contains("worn out"));
        assert!(dealt < 1_000_000);
    }
}
