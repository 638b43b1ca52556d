// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Saving and restoring the unit.

use super::Unit;
use crate::counters::count;
use crate::saved::{RestoreError, SavedUnit};
use crate::state::State;

impl Unit {
    /// The architectural state. Waits for the operation that is under way; descriptors that are still queued stay queued, and
    /// a restored unit goes on with them.
    #[must_use]
    pub fn save(&self) -> SavedUnit {
        let _turn = self.turns.take();
        let _page_queue = self.page_queue();
        self.shell().state.save(&self.capabilities)
    }

    /// Takes over a state that was saved before, of this unit or of another with the same capabilities. Waits for the
    /// operation that is under way. DMA and interrupts go by the old state until they go by the new one. What is queued by
    /// the new one is processed as after a write of the tail.
    ///
    /// # Errors
    /// The value is not one that a unit with these capabilities could have been in. Nothing has changed then.
    pub fn restore(&self, saved: &SavedUnit) -> Result<(), RestoreError> {
        let state = State::restored(saved, &self.map, &self.capabilities)?;
        let turn = self.turns.take();
        let status = state.registers.global_status();
        self.translator.set_translation(state.translation(status));
        self.observed.translation(status.tes());
        self.translator.set_interrupts(state.interrupt_mode(status));
        let duty = {
            let _page_queue = self.page_queue();
            let shell = &mut *self.shell();
            shell.state = state;
            shell.assign()
        };
        // What the host cannot do becomes faults of the new state.
        self.follow_root(true);
        count(&self.tally.restores);
        self.outputs.interrupts.interrupts_changed();
        drop(turn);
        self.fulfil(duty);
        Ok(())
    }
}
