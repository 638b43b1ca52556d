// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the user types, on its way from stdin to the serial port, by the event loop.
//!
//! Bytes that the port has no room for are kept and offered again. When too many are kept, a pipe or a file is not read any
//! further; a terminal is, since the user must be able to quit a guest that does not listen, and loses what was typed.
//! A stdin that cannot be polled (a regular file, /dev/null) is read by the clock instead.

use super::escape::{Escape, Key};
use super::{Console, terminal};
use crate::control::{Control, Ending, Request};
use crate::error::Error;
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::io::{Errno, read};
use std::collections::VecDeque;
use std::io::{IsTerminal, stdin};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::timerfd::TimerFd;

const AGAIN: Duration = Duration::from_millis(5);
/// Keys kept for a port without room.
const CAPACITY: usize = 4096;
const STDIN: u32 = 0;
const TIMER: u32 = 1;

/// Whether a descriptor is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Readiness is reported.
    Polled,
    /// Too many bytes are waiting for room; readiness is not asked for.
    Paused,
    /// It cannot be polled: read by the clock.
    Clocked,
    /// At its end, or not ours.
    Closed,
}

/// Carries stdin to the serial port.
#[derive(Debug)]
pub struct Typist {
    console: Arc<Console>,
    control: Arc<Control>,
    escape: Escape,
    waiting: VecDeque<Key>,
    timer: TimerFd,
    source: Source,
    terminal: bool,
}

impl Typist {
    /// Carries stdin to `console`, and quits through `control`.
    ///
    /// # Errors
    /// No timer can be had.
    pub fn new(console: Arc<Console>, control: Arc<Control>) -> Result<Self, Error> {
        Ok(Self {
            console,
            control,
            escape: Escape::default(),
            waiting: VecDeque::new(),
            timer: TimerFd::new().map_err(|e| Error::host("create a timer", e))?,
            source: Source::Closed,
            terminal: stdin().is_terminal(),
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            for key in self.escape.feed(byte) {
                if key == Key::Quit {
                    self.control.request(Request::End(Ending::Quit));
                } else if !self.is_full() || !self.terminal {
                    self.waiting.push_back(key);
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= CAPACITY
    }

    /// Gives the port what it takes; whether everything was taken.
    fn offer(&mut self) -> bool {
        let Some(input) = self.console.input() else {
            return self.waiting.is_empty();
        };
        while let Some(key) = self.waiting.front() {
            let taken = match key {
                Key::Byte(byte) => input.input(&[*byte]) == 1,
                Key::Break => {
                    input.send_break();
                    true
                }
                Key::Quit => true,
            };
            if !taken {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    /// Reads what there is; whether stdin is still open.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 256];
        match read(stdin(), &mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.take(&bytes[..count]);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(error) => {
                tracing::debug!("stdin: {error}");
                false
            }
        }
    }

    /// Watches what has to be watched next.
    fn rearm(&mut self, ops: &mut EventOps<'_>, open: bool) {
        let all_taken = self.offer();
        if !open {
            if matches!(self.source, Source::Polled) {
                let _ = ops.remove(Events::with_data(&stdin(), STDIN, EventSet::IN));
            }
            self.source = Source::Closed;
        } else if self.source == Source::Polled && self.is_full() && !self.terminal {
            let _ = ops.remove(Events::with_data(&stdin(), STDIN, EventSet::IN));
            self.source = Source::Paused;
        } else if self.source == Source::Paused && !self.is_full() {
            let added = ops.add(Events::with_data(&stdin(), STDIN, EventSet::IN));
            self.source = if added.is_ok() {
                Source::Polled
            } else {
                Source::Closed
            };
        }
        if (!all_taken || self.source == Source::Clocked)
            && let Err(error) = self.timer.reset(AGAIN, None)
        {
            tracing::warn!("console input stops: {error}");
        }
    }
}

impl MutEventSubscriber for Typist {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::with_data(&self.timer, TIMER, EventSet::IN)) {
            tracing::warn!("no console input: {error}");
            return;
        }
        if !terminal::stdin_is_ours() {
            return;
        }
        // A closed stdin is told by a read; epoll knows nothing of it.
        self.source = match ops.add(Events::with_data(&stdin(), STDIN, EventSet::IN)) {
            Ok(()) => Source::Polled,
            Err(_) => Source::Clocked,
        };
        self.rearm(ops, true);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let mut open = self.source != Source::Closed;
        if events.fd() == self.timer.as_raw_fd() {
            let _ = self.timer.wait();
            self.offer();
            if self.source == Source::Clocked && !self.is_full() {
                open = self.read();
            }
        } else {
            open = self.read();
        }
        self.rearm(ops, open);
    }
}
