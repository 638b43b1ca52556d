// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mirror's thread: does what would keep a processor of the guest from running for long.

use iommu::follow::Deferred;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// A thread that does one thing after the other, until dropped.
#[derive(Debug)]
pub struct Worker {
    work: Mutex<Option<Sender<Deferred>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// # Errors
    /// The host gives no thread.
    pub fn start() -> io::Result<Self> {
        let (work, queue) = channel();
        let thread = thread::Builder::new()
            .name("mirror".to_owned())
            .spawn(move || run(works(queue)))?;
        Ok(Self {
            work: Mutex::new(Some(work)),
            thread: Some(thread),
        })
    }

    /// Takes `work`; gives it back when the thread is no longer there.
    pub fn take(&self, work: Deferred) -> Option<Deferred> {
        match &*self.work() {
            Some(queue) => queue.send(work).err().map(|error| error.0),
            None => Some(work),
        }
    }

    fn work(&self) -> MutexGuard<'_, Option<Sender<Deferred>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn works(queue: Receiver<Deferred>) -> impl Iterator<Item = impl FnOnce()> {
    queue.into_iter().map(|work| move || work.run())
}

/// Does one thing after the other. One that panics costs no other: units wait for theirs.
fn run(works: impl Iterator<Item = impl FnOnce()>) {
    for work in works {
        // What it shares with others is behind locks that are taken whether or not somebody panicked.
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!(
                "work of a unit panicked, which is a bug of ours; the unit's queue goes on when the guest next writes its tail"
            );
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nothing more comes, which ends the thread.
        *self.work() = None;
        // Work may hold the last reference to what owns this worker: a thread cannot wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the mirror's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn work_that_panics_does_not_take_the_others_along() {
        let done = AtomicU32::new(0);
        let work = |n: u32| {
            let done = &done;
            move || {
                assert_ne!(n, 1, "this one panics, as it should");
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        run([0, 1, 2, 3].into_iter().map(work));
        assert_eq!(done.into_inner(), 3);
    }
}
