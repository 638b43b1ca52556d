// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread of one queue.
//!
//! The processor that notifies only writes to an eventfd; the worker does the I/O. It ends when it is stopped, or when its ring
//! fails, and then the device needs a reset. A worker waits in `poll` and nowhere else.

use super::log_limit::LogLimit;
use super::ring::{Ring, RingError};
use super::{Notifier, QueueHandler, Wait};
use crate::rest::Rest;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Wakes a worker.
#[derive(Clone, Debug)]
pub struct Kick(Arc<OwnedFd>);

impl Kick {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the worker. Never blocks: a counter at its limit wakes it just as well.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A running worker. Dropping it stops it.
#[derive(Debug)]
pub struct Worker {
    kick: Kick,
    stop: Arc<AtomicBool>,
    rest: Arc<Rest>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker for `ring`.
    ///
    /// # Errors
    /// The host gives no descriptor or no thread.
    pub fn spawn(
        name: &str,
        ring: Ring,
        handler: Box<dyn QueueHandler>,
        notifier: Arc<dyn Notifier>,
    ) -> io::Result<Self> {
        let kick = Kick::new()?;
        let stop = Arc::new(AtomicBool::new(false));
        let rest = Arc::<Rest>::default();
        let shift = Shift {
            name: format!("{name}-q{}", ring.index()),
            kick: kick.clone(),
            stop: Arc::clone(&stop),
            rest: Arc::clone(&rest),
            queue: ring.index(),
            notifier,
        };
        let thread = std::thread::Builder::new()
            .name(shift.name.clone())
            .spawn(move || shift.work(ring, handler))?;
        Ok(Self {
            kick,
            stop,
            rest,
            thread: Some(thread),
        })
    }

    /// What a notification of the driver does.
    #[must_use]
    pub fn kick(&self) -> &Kick {
        &self.kick
    }

    /// Has the worker stop between two looks at its ring; when this returns, it touches no memory until [`Self::resume`].
    pub fn pause(&self) {
        self.rest.close();
    }

    /// Has the worker go on with its ring.
    pub fn resume(&self) {
        self.rest.open();
    }

    /// Asks the worker to end without waiting for it, so that several can end at once.
    pub fn begin_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.rest.open();
        self.kick.wake();
    }
}

impl Drop for Worker {
    /// Returns when the worker has ended and its last section is closed: it waits for at most one request.
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a virtio worker panicked; its queue was stopped");
        }
    }
}

static FAILURES: LogLimit = LogLimit::new();

struct Shift {
    name: String,
    kick: Kick,
    stop: Arc<AtomicBool>,
    rest: Arc<Rest>,
    queue: u16,
    notifier: Arc<dyn Notifier>,
}

impl Shift {
    fn work(self, mut ring: Ring, mut handler: Box<dyn QueueHandler>) {
        if let Err(error) = self.run(&mut ring, handler.as_mut()) {
            if let Some(number) = FAILURES.admit() {
                tracing::warn!(
                    queue = self.name,
                    number,
                    error = &error as &dyn std::error::Error,
                    "virtio queue stopped until the driver resets the device"
                );
            }
            self.notifier.needs_reset(self.queue);
        }
    }

    fn run(&self, ring: &mut Ring, handler: &mut dyn QueueHandler) -> Result<(), RingError> {
        let mut notified = false;
        loop {
            let work = self.rest.work();
            // The ring of a device that is being reset may be mapped no longer.
            if self.is_stopped() {
                return Ok(());
            }
            if std::mem::take(&mut notified) {
                ring.set_notifications(false)?;
            }
            match handler.process(ring)? {
                Wait::Nothing => {}
                Wait::Chains => {
                    if !ring.set_notifications(true)? {
                        drop(work);
                        self.wait(None);
                        notified = true;
                    }
                }
                Wait::Source => {
                    drop(work);
                    self.wait(handler.source());
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits for the kick or for `source`.
    fn wait(&self, source: Option<BorrowedFd<'_>>) {
        let kick = self.kick.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(kick, PollFlags::IN)];
        fds.extend(source.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // An interrupted wait is a spurious wake-up, which costs one look at the ring.
        let _ = poll(&mut fds, None);
        self.kick.clear();
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.notifier.needs_reset(self.queue);
        }
    }
}

#[cfg(test)]
mod tests;
