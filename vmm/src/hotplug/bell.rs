// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tells the thread that looks after removals to look, and which devices the host wants back. Whoever rings goes on at once.

use devices::pci::root_port::SlotListener;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    rung: bool,
    stopped: bool,
    wanted: Vec<String>,
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

    /// The host wants the device `id` back.
    pub(super) fn want_back(&self, id: &str) {
        let mut state = self.state();
        if !state.wanted.iter().any(|wanted| wanted == id) {
            state.wanted.push(id.to_owned());
        }
        drop(state);
        self.ring();
    }

    /// The devices that the host wants back since the last call.
    pub(super) fn take_wanted(&self) -> Vec<String> {
        std::mem::take(&mut self.state().wanted)
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
