// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mirror's thread: does what would keep a processor of the guest from running for long.

use iommu::follow::Deferred;
use std::io;
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
            .spawn(move || run(&queue))?;
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

fn run(queue: &Receiver<Deferred>) {
    while let Ok(work) = queue.recv() {
        work.run();
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
