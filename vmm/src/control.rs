// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a run ends or begins again: requests from any thread, decided by the event loop.
//!
//! Lock rule: the lock is held for the exchange of one value and never over a call.

use crate::error::{Error, status};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Why a run ended.
#[derive(Debug)]
pub enum Ending {
    /// Every expected text was seen.
    Expected,
    /// The guest powered off.
    PowerOff,
    /// The guest reset under `--no-reboot`.
    Reset,
    /// The guest wrote this value to the debug exit port.
    DebugExit(u32),
    /// The guest said that it panicked.
    Panicked,
    /// This text of `--fail-on` was seen.
    FailOn(String),
    /// The guest powered off or reset before every expected text was seen; the missing ones.
    Missing(Vec<String>),
    /// A triple fault.
    TripleFault,
    /// Time ran out.
    TimedOut(Duration),
    /// Ctrl-A X, or the interrupt key where the terminal is not raw.
    Quit,
    /// SIGTERM or SIGHUP.
    Terminated,
    /// Something failed.
    Error(Error),
}

impl Ending {
    /// The exit status of the contract.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Expected | Self::PowerOff | Self::Reset => 0,
            // As with QEMU, the process keeps the low eight bits.
            Self::DebugExit(value) => value.wrapping_shl(1).to_le_bytes()[0] | 1,
            Self::Panicked | Self::FailOn(_) | Self::Missing(_) | Self::TripleFault => 1,
            Self::TimedOut(_) => 124,
            Self::Quit => 130,
            Self::Terminated => 143,
            Self::Error(error) => error.status(),
        }
    }

    /// One word for scripts: the reason in the last line on stderr and in the result file.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::PowerOff => "poweroff",
            Self::Reset => "reset",
            Self::DebugExit(_) => "debug-exit",
            Self::Panicked => "panic",
            Self::FailOn(_) => "fail-on",
            Self::Missing(_) => "missing",
            Self::TripleFault => "triple-fault",
            Self::TimedOut(_) => "timeout",
            Self::Quit => "quit",
            Self::Terminated => "terminated",
            Self::Error(error) => match error.status() {
                status::USAGE => "usage",
                status::HOST => "host",
                _ => "bug",
            },
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected => f.write_str("every expected text was seen"),
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest reset (--no-reboot)"),
            Self::DebugExit(value) => {
                write!(f, "the guest wrote {value:#x} to the debug exit port")
            }
            Self::Panicked => f.write_str("the guest panicked"),
            Self::FailOn(text) => write!(f, "the console said {text:?}"),
            Self::Missing(texts) => write!(f, "the guest ended without saying {texts:?}"),
            Self::TripleFault => f.write_str("triple fault of the guest"),
            Self::TimedOut(limit) => write!(f, "time ran out after {} s", limit.as_secs_f64()),
            Self::Quit => f.write_str("quit by the user"),
            Self::Terminated => f.write_str("terminated by a signal"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// What a thread asks of the machine.
#[derive(Debug)]
pub enum Request {
    /// The guest wants the machine off.
    PowerOff,
    /// The guest wants a reset.
    Reset,
    /// End the run.
    End(Ending),
}

/// What is asked for and not served yet.
#[derive(Debug, Default)]
struct Pending {
    /// Ends the run: power-off or another end.
    end: Option<Request>,
    reset: bool,
}

/// The handle by which every thread reaches the event loop. The first request to end the run wins, and none is lost to a
/// reset.
#[derive(Debug)]
pub struct Control {
    pending: Mutex<Pending>,
    halted: AtomicBool,
    wake: EventFd,
}

impl Control {
    /// A handle without a request.
    ///
    /// # Errors
    /// No file descriptor can be had.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            pending: Mutex::default(),
            halted: AtomicBool::new(false),
            wake: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| Error::host("create an eventfd for the machine's control", e))?,
        })
    }

    /// Asks for `request`. Returns at once; a vCPU that asks does not run guest code any more afterwards.
    pub fn request(&self, request: Request) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Reset => pending.reset = true,
            other => {
                pending.end.get_or_insert(other);
            }
        }
        self.halted.store(true, Ordering::Release);
        drop(pending);
        // An eventfd that cannot take another 1 is readable already.
        let _ = self.wake.write(1);
    }

    /// Whether a request is waiting, so that no vCPU should go on.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Readable while a request is waiting.
    #[must_use]
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Takes the request that is waiting.
    pub fn take(&self) -> Option<Request> {
        let _ = self.wake.read();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let reset = std::mem::take(&mut pending.reset);
        pending.end.take().or(reset.then_some(Request::Reset))
    }

    /// Lets vCPUs go on after a request was served; a request that came meanwhile wakes the event loop again.
    pub fn resume(&self) {
        // Under the lock, so that a request that comes now is not overruled.
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = pending.end.is_some() || pending.reset;
        self.halted.store(waiting, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_exit_status_is_shifted_and_odd() {
        for (value, status) in [(0, 1), (1, 3), (0x10, 0x21), (0x7f, 0xff), (0x80, 1)] {
            assert_eq!(Ending::DebugExit(value).status(), status, "{value:#x}");
        }
    }

    #[test]
    fn status_of_each_ending_follows_the_contract() {
        assert_eq!(Ending::Expected.status(), 0);
        assert_eq!(Ending::PowerOff.status(), 0);
        assert_eq!(Ending::Reset.status(), 0);
        assert_eq!(Ending::Panicked.status(), 1);
        assert_eq!(Ending::FailOn("x".into()).status(), 1);
        assert_eq!(Ending::Missing(vec![]).status(), 1);
        assert_eq!(Ending::TripleFault.status(), 1);
        assert_eq!(Ending::TimedOut(Duration::from_secs(1)).status(), 124);
        assert_eq!(Ending::Quit.status(), 130);
        assert_eq!(Ending::Terminated.status(), 143);
        assert_eq!(Ending::Error(Error::Bug("x".into())).status(), 70);
    }

    #[test]
    fn end_is_not_lost_to_a_reset() {
        let control = Control::new().unwrap();
        control.request(Request::Reset);
        control.request(Request::End(Ending::Terminated));
        assert!(matches!(
            control.take(),
            Some(Request::End(Ending::Terminated))
        ));
        assert!(control.take().is_none());
    }

    #[test]
    fn first_request_wins_until_taken() {
        let control = Control::new().unwrap();
        assert!(!control.is_halted());
        control.request(Request::End(Ending::DebugExit(3)));
        control.request(Request::PowerOff);
        assert!(control.is_halted());
        assert!(matches!(
            control.take(),
            Some(Request::End(Ending::DebugExit(3)))
        ));
        assert!(control.take().is_none());
    }

    #[test]
    fn resume_with_a_newer_request_stays_halted() {
        let control = Control::new().unwrap();
        control.request(Request::Reset);
        assert!(matches!(control.take(), Some(Request::Reset)));
        control.request(Request::PowerOff);
        control.resume();
        assert!(control.is_halted());
        assert!(control.take().is_some());
        control.resume();
        assert!(!control.is_halted());
    }
}
