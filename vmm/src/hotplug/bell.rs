// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tells the thread that looks after removals to look. A processor that rings goes on at once.

use devices::pci::root_port::SlotListener;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    rung: bool,
    stopped: bool,
}

/// The bell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    change: Condvar,
}

impl Bell {
    /// There is something to look at.
    pub(super) fn ring(&self) {
        self.state().rung = true;
        self.change.notify_all();
    }

    /// The thread shall end.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.change.notify_all();
    }

    /// Waits until the bell is rung or `limit` is over; `false` when the thread shall end.
    pub(super) fn wait(&self, limit: Option<Duration>) -> bool {
        let state = self.state();
        let quiet = |state: &mut State| !state.rung && !state.stopped;
        let mut state = match limit {
            None => self
                .change
                .wait_while(state, quiet)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.change
                    .wait_timeout_while(state, limit, quiet)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        state.rung = false;
        !state.stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotListener for Bell {
    fn slot_changed(&self) {
        self.ring();
    }
}
