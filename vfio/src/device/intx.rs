// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pin of a passed-through function.
//!
//! The host's kernel masks the pin on each signal. A thread raises the guest's line; the end of the interrupt at the
//! guest's controller lowers it and lets the pin signal again, which it does at once if the device still asserts it. (KVM
//! has no descriptors that do this while the interrupt controller is ours.)

use super::port::Port;
use devices::irq::{EndOfInterrupt, IrqLine, LineDriver};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
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
    /// While it is raised the host's kernel keeps the pin masked.
    line: LineDriver,
    port: Arc<dyn Port>,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl Intx {
    /// Raises `line` at each signal of [`Self::event`], and lets the pin of `port` signal again when the interrupt has ended.
    pub(super) fn new(line: Arc<dyn IrqLine>, port: Arc<dyn Port>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            event: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            line: LineDriver::new(Arc::clone(&line)),
            port,
            refused: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let listener: Weak<Shared> = Arc::downgrade(&shared);
        line.listen(listener);
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

    /// Lowers the line, of a pin that is not used any more.
    pub(super) fn lower(&self) {
        self.shared.lower();
    }
}

impl Shared {
    fn serve(&self) {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&*self.event, &mut count) {
                Ok(_) if self.stop.load(Ordering::Acquire) => return,
                Ok(_) => self.line.set(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("a passed-through device's pin is lost: {error}");
                    return;
                }
            }
        }
    }

    /// Whether the line was raised.
    fn lower(&self) -> bool {
        let mut raised = false;
        self.line.update(|level| {
            raised = level;
            false
        });
        raised
    }
}

impl EndOfInterrupt for Shared {
    /// Another source of a shared line may have caused the interrupt: the pin then has not signalled, and is left alone.
    fn interrupt_ended(&self) {
        if !self.lower() {
            return;
        }
        // EINVAL: the guest has switched to messages meanwhile, and the pin is not armed.
        if let Err(error) = self.port.mask_intx(false)
            && error.errno() != libc::EINVAL
        {
            let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(
                    "a passed-through device's pin stays masked ({count} so far): {error}"
                );
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
        // Others may share the line.
        self.shared.lower();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::RecordingPort;
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    #[derive(Debug)]
    struct Line {
        levels: Sender<bool>,
        listener: Mutex<Option<Weak<dyn EndOfInterrupt>>>,
    }

    impl Line {
        fn end(&self) {
            let listener = self.listener.lock().unwrap().clone().unwrap();
            if let Some(listener) = listener.upgrade() {
                listener.interrupt_ended();
            }
        }
    }

    impl IrqLine for Line {
        fn set_level(&self, asserted: bool) {
            self.levels.send(asserted).unwrap();
        }

        fn listen(&self, listener: Weak<dyn EndOfInterrupt>) {
            *self.listener.lock().unwrap() = Some(listener);
        }
    }

    fn signal(intx: &Intx) {
        rustix::io::write(&*intx.event(), &1u64.to_ne_bytes()).unwrap();
    }

    #[test]
    fn signal_holds_the_line_until_the_interrupt_ends() {
        let (levels, seen) = channel();
        let line = Arc::new(Line {
            levels,
            listener: Mutex::default(),
        });
        let port = Arc::new(RecordingPort::default());
        let intx = Intx::new(line.clone(), port.clone()).unwrap();
        line.end();
        assert!(port.take().is_empty(), "another source's interrupt");
        signal(&intx);
        assert!(seen.recv().unwrap());
        line.end();
        assert!(!seen.recv().unwrap());
        assert_eq!(port.take(), ["mask false"]);
        line.end();
        assert!(port.take().is_empty());
    }

    #[test]
    fn pin_that_goes_away_lets_go_of_the_line() {
        let (levels, seen) = channel();
        let line = Arc::new(Line {
            levels,
            listener: Mutex::default(),
        });
        let port = Arc::new(RecordingPort::default());
        let intx = Intx::new(line.clone(), port.clone()).unwrap();
        signal(&intx);
        assert!(seen.recv().unwrap());
        drop(intx);
        assert!(!seen.recv().unwrap());
        line.end();
        assert!(port.take().is_empty());
        drop(line);
        assert!(seen.recv().is_err(), "nothing was raised at the end");
    }
}
