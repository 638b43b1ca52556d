// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Register writes that start an operation: each takes its turn, starts under the state lock, acts without it, and shows
//! the result under it again.

use super::Unit;
use crate::command;
use crate::invalidation::Invalidation;
use crate::register_invalidation as registers;
use crate::spec::regs::{GlobalCommand, offset};

impl Unit {
    /// Runs the operation that a write of `value` to the word at `offset` starts, if it starts one.
    pub(super) fn run_command(&self, offset: u16, value: u32) {
        // The trigger bits of CCMD and IOTLB are the top bits of their high words.
        let trigger = value >> 31 == 1;
        if offset == offset::GCMD {
            self.global_command(GlobalCommand::from_bits(value));
        } else if offset == offset::CCMD + 4 && trigger {
            self.invalidate_context();
        } else if offset == self.map.iva + 12 && trigger {
            self.invalidate_iotlb();
        }
    }

    fn global_command(&self, command: GlobalCommand) {
        let turn = self.turns.take();
        self.finish_queue_before(command);
        let plan = command::begin(&mut self.shell().state, &self.capabilities, command);
        if let Some(root) = plan.translation {
            // Software that takes other tables while translation is on may have kept some of them.
            let contents = root.is_some() && self.translator.root().is_some();
            self.translator.set_translation(root);
            self.observed.translation(root.is_some());
            self.follow_root(contents);
        }
        if let Some(mode) = plan.interrupts {
            self.translator.set_interrupts(mode);
            self.outputs.interrupts.interrupts_changed();
        }
        let duty = {
            let shell = &mut *self.shell();
            command::finish(&mut shell.state, &plan);
            shell.assign()
        };
        drop(turn);
        self.fulfil(duty);
    }

    /// Processes what is queued if `command` disables the queue: at most a queue full, so that a guest which goes on
    /// queueing does not hold up its own command. None of it is deferred, because the command has to wait for it.
    fn finish_queue_before(&self, command: GlobalCommand) {
        let mut left = None;
        loop {
            let shell = self.shell();
            if !command::disables_queue(&shell.state, command) {
                return;
            }
            let Some(view) = shell.state.queue_view() else {
                return;
            };
            drop(shell);
            let budget = left.unwrap_or_else(|| view.capacity());
            if budget == 0 {
                return;
            }
            let step = self.step_of(&view);
            self.run_step(&step);
            left = Some(budget.saturating_sub(step.descriptors));
        }
    }

    fn invalidate_context(&self) {
        let _turn = self.turns.take();
        let asked = registers::begin_context(&mut self.shell().state);
        self.invalidate_one(asked);
        registers::finish_context(&mut self.shell().state, asked.as_ref());
    }

    fn invalidate_iotlb(&self) {
        let _turn = self.turns.take();
        let asked = registers::begin_iotlb(&mut self.shell().state, &self.map, &self.capabilities);
        self.invalidate_one(asked);
        registers::finish_iotlb(&mut self.shell().state, &self.map, asked.as_ref());
    }

    fn invalidate_one(&self, asked: Option<Invalidation>) {
        if let Some(invalidation) = asked {
            // No register names a device-TLB, so no device can fail.
            let _ = self.invalidate(&[invalidation]);
        }
    }
}
