// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Draining the invalidation queue.
//!
//! One thread at a time is the drainer. It takes a turn for each step, so that a command of another processor comes in
//! between. A tail that is written meanwhile is left to the drainer, up to a queue full of descriptors in all; whoever
//! brings more than that waits for the end of the step and takes over, in the order of asking. So no thread processes more
//! than a queue full of its own, a queue full of others', and one step. What a write brings is settled under the same hold
//! of the state lock that stores the write: otherwise the drainer could have done it before it was counted.
//!
//! A follower may take a step that may be long to a thread of its own ([`crate::follow::Follower::defer`]), which no writer of
//! the tail waits for. Once it did, everything that is queued is left to that thread without a limit, so that there is one
//! such work at a time however often the guest writes. When that work is lost, because it is dropped or panics, nobody is the
//! drainer, and the guest's next write goes on at the step that was not completed.

use super::{Shell, Unit};
use crate::ats::Failures;
use crate::counters::count;
use crate::follow::{Deferred, is_short};
use crate::invalidation::Invalidation;
use crate::queue::{QueueError, QueueStep, QueueView, StepEnd, Wait};
use crate::state::Outcome;
use std::sync::Arc;

/// Who drains the queue.
#[derive(Debug, Default)]
pub(super) struct Drainers {
    /// The drainer, if there is one, and the threads that wait to take over from it.
    pub(super) count: u32,
    /// Descriptors that may still be left to the drainer; `None` while one hands over to the next.
    credit: Option<u32>,
    /// What the follower's thread has to do with it.
    pub(super) deferral: Deferral,
}

/// Whether the follower's thread is the drainer, or will be: everything is left to it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Deferral {
    /// It is not.
    #[default]
    None,
    /// The drainer is asking the follower, with the role and the turn: whatever comes of it, nothing is done meanwhile.
    Offered,
    /// It is.
    Taken,
}

/// The drainer's part on its way to the follower's thread. Who drops it undone gives it back.
struct Handover {
    unit: Arc<Unit>,
    done: bool,
}

impl Handover {
    /// Drains until nothing is queued. It needs no role, because whoever gets that meanwhile does nothing; so a processor
    /// which was about to take over does not wait for a long step.
    fn drain(mut self) {
        let unit = &*self.unit;
        loop {
            let _turn = unit.turns.take();
            if let Some(step) = unit.next_step() {
                unit.run_step(&step);
            }
            // What is queued from here on is settled by whoever queues it, under the same lock.
            let shell = &mut *unit.shell();
            if shell.state.queue_view().is_none() {
                shell.drainers.end_deferral();
                self.done = true;
                return;
            }
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let drainers = &mut self.unit.shell().drainers;
        match drainers.deferral {
            // Who offered it sees that, and goes on.
            Deferral::Offered => drainers.deferral = Deferral::None,
            Deferral::Taken => {
                drainers.end_deferral();
                tracing::error!(
                    "deferred work of the invalidation queue was lost, which is a bug; the guest's next write of the tail \
                     goes on"
                );
            }
            Deferral::None => {}
        }
    }
}

impl Drainers {
    /// Nobody is the drainer any more, which the follower's thread was.
    const fn end_deferral(&mut self) {
        self.deferral = Deferral::None;
        self.count -= 1;
        self.credit = None;
    }
}

/// What a thread has to do about the queue after a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Duty {
    /// Nothing: nothing is queued, or it is left to the drainer.
    #[default]
    None,
    /// Drain it.
    Drain,
}

impl Shell {
    /// Settles who processes what is queued now.
    pub(super) fn assign(&mut self) -> Duty {
        let Some(view) = self.state.queue_view() else {
            return Duty::None;
        };
        if self.drainers.deferral != Deferral::None {
            return Duty::None;
        }
        if self.drainers.count == 0 {
            self.drainers.credit = Some(view.capacity());
        } else if let Some(credit) = &mut self.drainers.credit
            && *credit >= view.pending()
        {
            *credit -= view.pending();
            return Duty::None;
        }
        self.drainers.count += 1;
        Duty::Drain
    }
}

impl Unit {
    /// Does what [`Shell::assign`] said, or leaves it to a thread that is made for it.
    pub(super) fn fulfil(&self, duty: Duty) {
        if duty == Duty::Drain {
            self.drain();
        }
    }

    fn drain(&self) {
        let _role = self.drainer_role.take();
        if !self.begin_drain() {
            return;
        }
        loop {
            let _turn = self.turns.take();
            if let Some(step) = self.next_step() {
                if self.defer_drain(&step) {
                    return;
                }
                self.run_step(&step);
            }
            let shell = &mut *self.shell();
            if shell.drainers.count > 1 || shell.state.queue_view().is_none() {
                shell.drainers.count -= 1;
                shell.drainers.credit = None;
                return;
            }
        }
    }

    /// Starts to drain, unless the follower's thread has come to do it.
    fn begin_drain(&self) -> bool {
        let shell = &mut *self.shell();
        if shell.drainers.deferral != Deferral::None {
            shell.drainers.count -= 1;
            return false;
        }
        // A successor starts with nothing left to it by others.
        let capacity = shell.state.queue_view().map_or(0, |view| view.capacity());
        shell.drainers.credit.get_or_insert(capacity);
        true
    }

    /// Leaves `step`, which comes next, and all behind it to the follower's thread, if there is one and the step may be long.
    /// Returns whether it did, and that thread is the drainer then instead of the caller, who holds the role and the turn.
    fn defer_drain(&self, step: &QueueStep) -> bool {
        if self.following.follower().is_none() || is_short(&step.invalidations) {
            return false;
        }
        let Some(unit) = self.this.upgrade() else {
            return false;
        };
        self.shell().drainers.deferral = Deferral::Offered;
        let handover = Handover { unit, done: false };
        // What is given back is dropped, and seen below.
        drop(self.defer(Deferred::new(move || handover.drain())));
        let drainers = &mut self.shell().drainers;
        let taken = drainers.deferral == Deferral::Offered;
        if taken {
            drainers.deferral = Deferral::Taken;
        }
        taken
    }

    /// What comes next, if anything is queued.
    fn next_step(&self) -> Option<QueueStep> {
        let view = self.shell().state.queue_view()?;
        Some(self.step_of(&view))
    }

    /// The next step of a queue.
    pub(super) fn step_of(&self, view: &QueueView) -> QueueStep {
        view.step(&self.capabilities, &*self.memory)
    }

    /// Takes one step of the queue, during the turn in which it was read.
    ///
    /// A device that did not answer aborts the wait which ends the step: its status is never written.
    pub(super) fn run_step(&self, step: &QueueStep) {
        let failures = self.invalidate(&step.invalidations);
        for &response in &step.responses {
            count(&self.tally.page_responses);
            self.endpoints.respond(response);
        }
        let outcomes = {
            let state = &mut self.shell().state;
            state.set_queue_head(step.head);
            let failed = state.device_tlb_failed(failures, &self.capabilities);
            match step.end {
                StepEnd::Stop(error) => [failed, state.stop_queue(error, &self.capabilities)],
                StepEnd::Wait { .. } | StepEnd::Continue => [failed, Outcome::default()],
            }
        };
        for outcome in outcomes {
            self.conclude(outcome);
        }
        if let StepEnd::Wait { wait, at } = step.end {
            if failures.late.is_some() {
                count(&self.tally.waits_aborted);
            } else {
                self.complete(&wait, at);
            }
        }
    }

    /// Completes the wait descriptor that stands at `at`. The head is behind it already, because software may use the
    /// whole queue as soon as it sees the status.
    fn complete(&self, wait: &Wait, at: u16) {
        if wait.drain {
            self.drain_page_requests();
        }
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

    /// Drops what `batch` names, first here and then in the devices, and returns when nothing uses it any more. Tells which
    /// devices did not do their part.
    pub(super) fn invalidate(&self, batch: &[Invalidation]) -> Failures {
        if batch.is_empty() {
            return Failures::default();
        }
        self.tally.invalidations(batch);
        self.translator.invalidate(batch);
        self.follow_invalidations(batch);
        let failures = self.invalidate_devices(batch);
        if batch.iter().any(Invalidation::names_interrupts) {
            self.outputs.interrupts.interrupts_changed();
        }
        failures
    }

    fn invalidate_devices(&self, batch: &[Invalidation]) -> Failures {
        let named = || {
            batch.iter().filter_map(|invalidation| match invalidation {
                Invalidation::DeviceTlb(named) => Some(named),
                _ => None,
            })
        };
        if named().next().is_none() {
            return Failures::default();
        }
        let failures = self.endpoints.invalidate(named());
        for (failed, counter) in [
            (failures.late, &self.tally.device_tlb_time_outs),
            (failures.wrong, &self.tally.device_tlb_errors),
        ] {
            if failed.is_some() {
                count(counter);
            }
        }
        // DMA sections may still use what the devices had cached when they were asked.
        self.translator.quiesce();
        failures
    }
}
