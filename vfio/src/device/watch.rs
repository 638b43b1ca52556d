// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's kernel says of a device by itself: that it wants it back (somebody unbinds its driver, or takes it out), or
//! that it has failed (an uncorrectable error on the bus). Both are events of VFIO's, and a thread waits for them.

use super::port::{IrqKind, Port};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// What the host's kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It wants the device back, and waits until it is closed. It says so again every few seconds.
    Wanted,
    /// The device has failed. It is stopped, and answers no more until it is reset.
    Failed,
}

/// A device that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<OwnedFd>,
    worker: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `tell` for each notice about the device of `port`, on a thread of its own.
    ///
    /// # Errors
    /// The host has no descriptor or thread left, or VFIO takes no event.
    pub(super) fn new(port: &dyn Port, tell: impl Fn(Notice) + Send + 'static) -> io::Result<Self> {
        let [stop, wanted, failed] = [event()?, event()?, event()?];
        port.arm(IrqKind::Request, 0, &[Some(wanted.as_fd())])?;
        // Only PCI Express devices have it.
        match port.arm(IrqKind::Error, 0, &[Some(failed.as_fd())]) {
            Err(error) if error.errno() != libc::EINVAL => return Err(error.into()),
            _ => {}
        }
        let stop = Arc::new(stop);
        let worker = {
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name("vfio-watch".to_owned())
                .spawn(move || serve(&stop, &wanted, &failed, tell))?
        };
        Ok(Self {
            stop,
            worker: Some(worker),
        })
    }
}

fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn serve(stop: &OwnedFd, wanted: &OwnedFd, failed: &OwnedFd, tell: impl Fn(Notice)) {
    loop {
        let mut polled = [stop, wanted, failed].map(|event| PollFd::new(event, PollFlags::IN));
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!("the host is not heard about a passed-through device: {error}");
                return;
            }
        }
        let [stopped, ..] = polled.each_ref().map(|event| !event.revents().is_empty());
        if stopped {
            return;
        }
        for (event, notice) in [(failed, Notice::Failed), (wanted, Notice::Wanted)] {
            let mut count = [0; 8];
            if rustix::io::read(event, &mut count).is_ok() {
                tell(notice);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let woken = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        let Some(worker) = self.worker.take() else {
            return;
        };
        // The thread itself may be the last to hold the device, and then ends by itself.
        if woken.is_ok() && worker.thread().id() != thread::current().id() {
            // A worker that panicked has said so.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::RecordingPort;
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn notices_are_told_until_the_watch_ends() {
        let port = RecordingPort::default();
        let (sender, notices) = channel();
        let watch = Watch::new(&port, move |notice| sender.send(notice).unwrap()).unwrap();
        assert_eq!(port.take(), ["arm Request 0 some", "arm Error 0 some"]);
        let [wanted, failed] = [0, 1].map(|number| port.event(number));
        rustix::io::write(&wanted, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(notices.recv(), Ok(Notice::Wanted));
        rustix::io::write(&failed, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(notices.recv(), Ok(Notice::Failed));
        rustix::io::write(&wanted, &2u64.to_ne_bytes()).unwrap();
        assert_eq!(notices.recv(), Ok(Notice::Wanted));
        drop(watch);
        assert!(notices.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn device_that_reports_no_errors_is_watched_all_the_same() {
        let port = RecordingPort::default();
        port.fail_kind(IrqKind::Error, libc::EINVAL);
        drop(Watch::new(&port, |_| {}).unwrap());
        port.fail_kind(IrqKind::Error, libc::ENOMEM);
        assert!(Watch::new(&port, |_| {}).is_err());
    }
}
