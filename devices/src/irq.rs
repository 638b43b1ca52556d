// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt lines: wires with a level, as opposed to messages.
//!
//! Most sources lower their line when the driver acknowledges them. One that cannot see that (the pin of a device that only
//! says when it is asserted) holds the line until the interrupt ends at the controller: it listens for that.
//!
//! Lock rule: no lock is held while a line is driven or a listener is told, and levels still arrive in the order in which they
//! were set ([`LineDriver`]).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One input of an interrupt controller, or one source of a shared line. Level is what counts; an edge is a change of it.
pub trait IrqLine: fmt::Debug + Send + Sync {
    /// Drives the line: `true` is asserted, whatever the electrical polarity.
    fn set_level(&self, asserted: bool);

    /// Has `listener` told whenever an interrupt of the line has ended. A line without controller tells nobody.
    fn listen(&self, listener: Weak<dyn EndOfInterrupt>) {
        let _ = listener;
    }
}

/// A source of a level-triggered interrupt that holds its line until the interrupt has ended.
pub trait EndOfInterrupt: fmt::Debug + Send + Sync {
    /// An interrupt of the line has ended, whichever source asserted it. Called before the controller looks at the line
    /// again: what is still asserted then, or is asserted again by the listener, is sent again.
    fn interrupt_ended(&self);
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
    listeners: Mutex<Vec<Weak<dyn EndOfInterrupt>>>,
}

impl SharedLine {
    /// A shared line that drives `line`.
    #[must_use]
    pub fn new(line: Arc<dyn IrqLine>) -> Arc<Self> {
        Arc::new(Self {
            driver: LineDriver::new(line),
            asserting: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    /// Tells those sources that listen that an interrupt of the line has ended.
    pub fn interrupt_ended(&self) {
        let listeners: Vec<_> = self.listeners().iter().filter_map(Weak::upgrade).collect();
        for listener in listeners {
            listener.interrupt_ended();
        }
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

    fn listeners(&self) -> MutexGuard<'_, Vec<Weak<dyn EndOfInterrupt>>> {
        self.listeners
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

    fn listen(&self, listener: Weak<dyn EndOfInterrupt>) {
        let mut listeners = self.line.listeners();
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(listener);
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

    #[derive(Debug, Default)]
    struct Listener(Mutex<usize>);

    impl EndOfInterrupt for Listener {
        fn interrupt_ended(&self) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn listeners_hear_the_end_until_they_go_away() {
        let shared = SharedLine::new(Arc::new(RecordingLine::default()));
        let (one, two) = (Arc::new(Listener::default()), Arc::new(Listener::default()));
        for listener in [&one, &two] {
            let listener = Arc::downgrade(listener);
            shared.source().listen(listener);
        }
        shared.interrupt_ended();
        drop(two);
        shared.interrupt_ended();
        assert_eq!(*one.0.lock().unwrap(), 2);
        shared.source().listen(Weak::<Listener>::new());
        shared.source().listen(Weak::<Listener>::new());
        assert_eq!(shared.listeners().len(), 2, "who is gone is forgotten");
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
