// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Draining the invalidation queue.
//!
//! One thread at a time is the drainer. It takes a turn for each step, so that a command of another processor comes in
//! between. A tail that is written meanwhile is left to the drainer, up to a queue full of descriptors in all; whoever
//! writes more waits until the drainer has finished its step, and takes over. So no thread processes more than its own
//! descriptors, a queue full of others', and one step.

use super::{Shell, Unit};
use crate::counters::count;
use crate::invalidation::Invalidation;
use crate::queue::{QueueError, QueueView, StepEnd, Wait};
use std::sync::{MutexGuard, PoisonError};

/// The thread that drains the queue.
#[derive(Debug)]
pub(super) struct Drainer {
    /// Descriptors that other threads may still leave to it.
    credit: u32,
}

impl Unit {
    /// Sees to it that what is queued is processed, by the drainer that there is or by this thread.
    pub(super) fn kick(&self) {
        if self.becomes_drainer() {
            self.drain();
        }
    }

    fn becomes_drainer(&self) -> bool {
        let mut shell = self.shell();
        loop {
            let Some(view) = shell.state.queue_view() else {
                return false;
            };
            match &mut shell.drainer {
                None => {
                    let credit = view.capacity();
                    shell.drainer = Some(Drainer { credit });
                    return true;
                }
                Some(drainer) if drainer.credit >= view.pending() => {
                    drainer.credit -= view.pending();
                    return false;
                }
                Some(_) => shell = self.wait_for_drainer(shell),
            }
        }
    }

    fn wait_for_drainer<'a>(&self, mut shell: MutexGuard<'a, Shell>) -> MutexGuard<'a, Shell> {
        shell.successors += 1;
        shell = self
            .drainer_gone
            .wait(shell)
            .unwrap_or_else(PoisonError::into_inner);
        shell.successors -= 1;
        shell
    }

    fn drain(&self) {
        loop {
            let _turn = self.turns.take();
            let view = self.shell().state.queue_view();
            if let Some(view) = view {
                self.run_step(&view);
            }
            let mut shell = self.shell();
            if shell.successors > 0 || shell.state.queue_view().is_none() {
                shell.drainer = None;
                self.drainer_gone.notify_all();
                return;
            }
        }
    }

    /// Takes one step of the queue, during a turn, and returns how many descriptors it consumed.
    pub(super) fn run_step(&self, view: &QueueView) -> u32 {
        let step = view.step(&self.capabilities, &*self.memory);
        self.invalidate(&step.invalidations);
        let outcome = {
            let state = &mut self.shell().state;
            state.set_queue_head(step.head);
            match step.end {
                StepEnd::Stop(error) => state.stop_queue(error, &self.capabilities),
                StepEnd::Wait { .. } | StepEnd::Continue => Default::default(),
            }
        };
        self.conclude(outcome);
        let mut consumed = u32::try_from(step.invalidations.len()).unwrap_or(u32::MAX);
        if let StepEnd::Wait { wait, at } = step.end {
            self.complete(&wait, at);
            consumed += 1;
        }
        consumed
    }

    /// Completes the wait descriptor that stands at `at`. The head is behind it already, because software may use the
    /// whole queue as soon as it sees the status.
    fn complete(&self, wait: &Wait, at: u16) {
        if let Some((address, status)) = wait.status
            && self.memory.store_u32(address, status).is_err()
        {
            let outcome = {
                let state = &mut self.shell().state;
                state.set_queue_head(at);
                state.stop_queue(QueueError::StatusWrite, &self.capabilities)
            };
            self.conclude(outcome);
            return;
        }
        count(&self.tally.waits);
        if wait.interrupt {
            let message = self.shell().state.complete_wait(&self.capabilities);
            self.send(message);
        }
    }

    /// Drops what `batch` names, and returns when nothing uses it any more.
    pub(super) fn invalidate(&self, batch: &[Invalidation]) {
        if batch.is_empty() {
            return;
        }
        self.tally.invalidations(batch);
        self.translator.invalidate(batch);
        let interrupts = batch.iter().any(|invalidation| {
            matches!(
                invalidation,
                Invalidation::InterruptGlobal | Invalidation::InterruptIndex { .. }
            )
        });
        if interrupts {
            self.outputs.interrupts.interrupts_changed();
        }
    }
}
