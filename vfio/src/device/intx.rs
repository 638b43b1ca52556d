// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pin of a passed-through function.
//!
//! The host's kernel masks the pin on each signal. A thread raises the guest's line; the end of the interrupt at the
//! guest's controller lowers it and lets the pin signal again, which it does at once if the device still asserts it. (KVM
//! has no descriptors that do this while the interrupt controller is ours.)

use devices::irq::IrqLine;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A connected pin.
#[derive(Debug)]
pub(super) struct Intx {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    event: Arc<OwnedFd>,
    line: Arc<dyn IrqLine>,
    stop: AtomicBool,
}

impl Intx {
    /// Raises `line` at each signal of [`Self::event`].
    pub(super) fn new(line: Arc<dyn IrqLine>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            event: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            line,
            stop: AtomicBool::new(false),
        });
        let worker = {
            let shared = shared.clone();
            thread::Builder::new()
                .name("vfio-intx".to_owned())
                .spawn(move || shared.serve())?
        };
        Ok(Self {
            shared,
            worker: Some(worker),
        })
    }

    /// What the host's kernel signals.
    pub(super) fn event(&self) -> Arc<OwnedFd> {
        self.shared.event.clone()
    }

    /// Lowers the line.
    pub(super) fn lower(&self) {
        self.shared.line.set_level(false);
    }
}

impl Shared {
    fn serve(&self) {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&*self.event, &mut count) {
                Ok(_) if self.stop.load(Ordering::Acquire) => return,
                Ok(_) => self.line.set_level(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("a passed-through device's pin is lost: {error}");
                    return;
                }
            }
        }
    }
}

impl Drop for Intx {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let woken = rustix::io::write(&*self.shared.event, &1u64.to_ne_bytes());
        if woken.is_ok()
            && let Some(worker) = self.worker.take()
        {
            // A worker that panicked has said so.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    #[derive(Debug)]
    struct Line(Sender<bool>);

    impl IrqLine for Line {
        fn set_level(&self, asserted: bool) {
            self.0.send(asserted).unwrap();
        }
    }

    #[test]
    fn signal_raises_the_line_and_dropping_stops_the_worker() {
        let (sender, levels) = channel();
        let intx = Intx::new(Arc::new(Line(sender))).unwrap();
        rustix::io::write(&*intx.event(), &1u64.to_ne_bytes()).unwrap();
        assert!(levels.recv().unwrap());
        intx.lower();
        assert!(!levels.recv().unwrap());
        drop(intx);
        assert!(levels.recv().is_err(), "nothing was raised at the end");
    }
}
