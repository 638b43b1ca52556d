// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt lines: wires with a level, as opposed to messages.
//!
//! Lock rule: no lock is held while a line is driven, and levels still arrive in the order in which they were set
//! ([`LineDriver`]).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One input of an interrupt controller, or one source of a shared line. Level is what counts; an edge is a change of it.
pub trait IrqLine: fmt::Debug + Send + Sync {
    /// Drives the line: `true` is asserted, whatever the electrical polarity.
    fn set_level(&self, asserted: bool);
}

/// Drives a line from several threads: each change arrives once, in order, and the line ends at the level set last.
///
/// A call during another thread's drive leaves the change to that thread.
#[derive(Debug)]
pub struct LineDriver {
    line: Arc<dyn IrqLine>,
    state: Mutex<Drive>,
}

#[derive(Debug, Default)]
struct Drive {
    wanted: bool,
    driven: bool,
    busy: bool,
}

impl LineDriver {
    /// A driver of `line`, which is low.
    #[must_use]
    pub fn new(line: Arc<dyn IrqLine>) -> Self {
        Self {
            line,
            state: Mutex::default(),
        }
    }

    /// Sets the level.
    pub fn set(&self, asserted: bool) {
        self.update(|_| asserted);
    }

    /// Sets the level to what `decide` makes of the last one set. `decide` runs under the driver's lock, so levels that
    /// depend on other state are decided in the order in which they are driven.
    pub fn update(&self, decide: impl FnOnce(bool) -> bool) {
        let mut state = self.lock();
        state.wanted = decide(state.wanted);
        if state.busy {
            return;
        }
        state.busy = true;
        while state.driven != state.wanted {
            let level = state.wanted;
            state.driven = level;
            drop(state);
            self.line.set_level(level);
            state = self.lock();
        }
        state.busy = false;
    }

    fn lock(&self) -> MutexGuard<'_, Drive> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line with several sources: asserted while any of them asserts it. A source that is dropped asserts it no longer.
#[derive(Debug)]
pub struct SharedLine {
    driver: LineDriver,
    asserting: Mutex<usize>,
}

impl SharedLine {
    /// A shared line that drives `line`.
    #[must_use]
    pub fn new(line: Arc<dyn IrqLine>) -> Arc<Self> {
        Arc::new(Self {
            driver: LineDriver::new(line),
            asserting: Mutex::default(),
        })
    }

    /// One more source, low at first.
    #[must_use]
    pub fn source(self: &Arc<Self>) -> Arc<dyn IrqLine> {
        Arc::new(SharedSource {
            line: Arc::clone(self),
            asserted: Mutex::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.asserting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct SharedSource {
    line: Arc<SharedLine>,
    asserted: Mutex<bool>,
}

impl IrqLine for SharedSource {
    fn set_level(&self, asserted: bool) {
        {
            let mut mine = self.asserted.lock().unwrap_or_else(PoisonError::into_inner);
            if *mine == asserted {
                return;
            }
            *mine = asserted;
            let mut asserting = self.line.lock();
            *asserting = if asserted {
                *asserting + 1
            } else {
                *asserting - 1
            };
        }
        self.line.driver.update(|_| *self.line.lock() > 0);
    }
}

impl Drop for SharedSource {
    fn drop(&mut self) {
        self.set_level(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RecordingLine;

    #[test]
    fn driver_passes_changes_only() {
        let line = Arc::new(RecordingLine::default());
        let driver = LineDriver::new(line.clone());
        for level in [false, true, true, false] {
            driver.set(level);
        }
        assert_eq!(line.levels(), [true, false]);
    }

    #[test]
    fn shared_line_stays_asserted_until_the_last_source_lets_go() {
        let line = Arc::new(RecordingLine::default());
        let shared = SharedLine::new(line.clone());
        let (one, two) = (shared.source(), shared.source());
        one.set_level(true);
        two.set_level(true);
        two.set_level(true);
        one.set_level(false);
        assert_eq!(line.levels(), [true]);
        two.set_level(false);
        assert_eq!(line.levels(), [true, false]);
    }

    #[test]
    fn source_that_goes_away_lets_go_of_the_line() {
        let line = Arc::new(RecordingLine::default());
        let shared = SharedLine::new(line.clone());
        let source = shared.source();
        source.set_level(true);
        drop(source);
        assert_eq!(line.levels(), [true, false]);
    }

    #[test]
    fn shared_line_driven_by_many_threads_ends_low() {
        let line = Arc::new(RecordingLine::default());
        let shared = SharedLine::new(line.clone());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let source = shared.source();
                scope.spawn(move || {
                    for _ in 0..100 {
                        source.set_level(true);
                        source.set_level(false);
                    }
                });
            }
        });
        let levels = line.levels();
        assert_eq!(levels.last(), Some(&false));
        assert!(levels.iter().step_by(2).all(|&level| level));
    }
}
