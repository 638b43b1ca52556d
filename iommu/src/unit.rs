// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One remapping unit as the machine sees it: the thin shell of locks around the pure parts.
//!
//! Two locks carry the design. The state lock protects the architectural state; it is held for microseconds, never while
//! something outside is called. The turn serialises whatever has effects (commands, register-based invalidations, steps of the
//! queue, reset) and is granted in the order of asking; its holder takes the state lock only in between. Beside them, who
//! drains the queue holds the drainer role around its turns, the page queue lock keeps one page request at a time on its way
//! into memory, and the roster lock protects what was told of followed devices; it is held while their entries are read, never
//! while the follower works. Order: role, turn, then page queue or roster, state. A register read takes the state lock only.
//! Messages, notices and what devices are asked go out with the state lock free, some of them during a turn, so whoever
//! receives them must not write the registers.

mod commands;
mod drain;
mod follow;
mod observe;
mod page_requests;
mod saving;

use crate::ats::{AtsEndpoint, Endpoints};
use crate::capabilities::Capabilities;
use crate::counters::{Counters, Tally, count};
use crate::dma::{DmaSpace, Translate};
use crate::fault::{Fault, FaultSubject};
use crate::fault_log::Logged;
use crate::ids::{Pasid, Requester, SourceId};
use crate::interrupt::Delivery;
use crate::interrupt::posted::Posting;
use crate::memory::{PhysMem, Ram};
use crate::msi::{MsiMessage, MsiSink};
use crate::rate_limit;
use crate::registers::RegisterMap;
use crate::request::{Request, Translation};
use crate::spec::regs::offset;
use crate::state::{Outcome, State};
use crate::translator::{InterruptMode, Translator};
use crate::turn::Turns;
use drain::{Drainers, Duty};
pub use observe::Observer;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Hears that interrupts may be remapped differently from now on.
pub trait InterruptListener: fmt::Debug + Send + Sync {
    /// The interrupt table, its entries or its mode changed: routes that were computed before must be computed again, with
    /// [`Unit::peek_remap`], before this returns. The state lock is free, so registers may be read; they must not be
    /// written, nor the unit reset, because the change that is told of is still under way.
    fn interrupts_changed(&self);
}

/// Where the unit's own messages and notices go.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Takes the unit's own events. They are not remapped. It may read the unit's registers but not write them.
    pub events: Arc<dyn MsiSink>,
    /// Hears of changes to interrupt remapping.
    pub interrupts: Arc<dyn InterruptListener>,
}

/// One remapping unit.
#[derive(Debug)]
pub struct Unit {
    /// The unit itself, for work that another thread does.
    this: Weak<Self>,
    capabilities: Arc<Capabilities>,
    map: RegisterMap,
    memory: Arc<dyn PhysMem>,
    translator: Translator,
    endpoints: Endpoints,
    outputs: Outputs,
    tally: Tally,
    observed: observe::Observed,
    following: follow::Following,
    turns: Turns,
    /// Held by the thread that drains the queue. Order: role, turn, state.
    drainer_role: Turns,
    /// Held while a page request is on its way into the queue. Order: turn, page queue, state.
    page_queue: Mutex<()>,
    shell: Mutex<Shell>,
}

/// What the state lock protects.
#[derive(Debug)]
struct Shell {
    state: State,
    drainers: Drainers,
}

impl Unit {
    /// A unit after power-on, with its tables and its queue in `memory`.
    #[must_use]
    pub fn new(
        capabilities: Capabilities,
        memory: Arc<dyn PhysMem>,
        outputs: Outputs,
    ) -> Arc<Self> {
        let capabilities = Arc::new(capabilities);
        let map = RegisterMap::new(&capabilities);
        let shell = Shell {
            state: State::cold(&map, &capabilities),
            drainers: Drainers::default(),
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            translator: Translator::new(Arc::clone(&capabilities), Arc::clone(&memory)),
            capabilities,
            map,
            memory,
            endpoints: Endpoints::default(),
            outputs,
            tally: Tally::default(),
            observed: observe::Observed::default(),
            following: follow::Following::default(),
            turns: Turns::default(),
            drainer_role: Turns::default(),
            page_queue: Mutex::default(),
            shell: Mutex::new(shell),
        })
    }

    /// What the unit can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Reads the registers from byte `offset` on: 4 or 8 bytes, aligned to their number. Anything else reads as ones.
    /// Never waits for anything but the state lock.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let Some(offset) = self.checked_offset(offset, data.len()) else {
            data.fill(0xff);
            return;
        };
        let shell = self.shell();
        for (offset, word) in (offset..).step_by(4).zip(data.chunks_exact_mut(4)) {
            let value = self.map.read(&shell.state.registers, offset);
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes the registers from byte `offset` on: 4 or 8 bytes, aligned to their number. Anything else is ignored.
    ///
    /// Returns when what was commanded has been done, except that a tail which is written while another thread drains the
    /// queue is left to that thread, and that a follower may [defer](crate::follow::Follower::defer) long work. One write
    /// processes at most two queues full of descriptors and one step more, however the guest moves the tail meanwhile.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let Some(offset) = self.checked_offset(offset, data.len()) else {
            return;
        };
        let words = || {
            (offset..)
                .step_by(4)
                .zip(data.chunks_exact(4))
                .map(|(offset, word)| {
                    let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                    (offset, word)
                })
        };
        let mut outcomes = [Outcome::default(); 2];
        let mut shell = self.shell();
        for ((offset, value), outcome) in words().zip(&mut outcomes) {
            *outcome = shell
                .state
                .write(&self.map, &self.capabilities, offset, value);
        }
        let resumes = words().any(|(offset, _)| matches!(offset, offset::IQT | offset::FSTS));
        let duty = if resumes { shell.assign() } else { Duty::None };
        drop(shell);
        for outcome in outcomes {
            self.conclude(outcome);
        }
        for (offset, value) in words() {
            self.run_command(offset, value);
        }
        self.fulfil(duty);
    }

    /// The view of memory of one requester, or of one of its address spaces.
    #[must_use]
    pub fn dma_space(
        self: &Arc<Self>,
        ram: Arc<Ram>,
        requester: Arc<Requester>,
        pasid: Option<Pasid>,
    ) -> Arc<DmaSpace> {
        let translate: Arc<dyn Translate> = Arc::clone(self) as _;
        let space = DmaSpace::translated(ram, requester, pasid, translate);
        self.translator.register(&space);
        space
    }

    /// Makes a device known that caches translations: invalidations and answers that name `requester`, whatever its id is
    /// then, reach it. Held weakly.
    pub fn register_endpoint(&self, requester: Arc<Requester>, device: &Arc<dyn AtsEndpoint>) {
        self.endpoints.register(requester, device);
    }

    /// Remaps an interrupt and delivers it to `processors`, or records why it is blocked. An invalidation of interrupt
    /// entries that forbids the message completes only after the delivery.
    pub fn remap_to(&self, source: SourceId, message: MsiMessage, processors: &dyn MsiSink) {
        let _section = self.translator.interrupt_section();
        if let Some(remapped) = self.remap(source, message) {
            processors.deliver(remapped);
        }
    }

    /// Remaps an interrupt that is being sent, and posts it where its entry says so. Returns what is to be delivered: `None`
    /// when it is blocked, which is then recorded, or posted without a notification.
    pub fn remap(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        self.tally.interrupts.add();
        let delivery = self
            .translator
            .remap(source, message)
            .map_err(|fault| self.record(&fault))
            .ok()?;
        match delivery {
            Delivery::Message(message) => Some(message),
            Delivery::Posted { posting, index } => self.post(source, index, &posting),
        }
    }

    /// What an interrupt would be remapped to, for a route that is computed in advance. Records nothing. An interrupt that
    /// is posted has no such route.
    #[must_use]
    pub fn peek_remap(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        self.translator.remap(source, message).ok()?.message()
    }

    /// Puts the unit back to its state after power-on. Waits for the operation that is under way; what is still queued is
    /// dropped.
    pub fn reset(&self) {
        let _turn = self.turns.take();
        self.translator.set_translation(None);
        self.observed.translation(false);
        self.translator.set_interrupts(InterruptMode::default());
        let page_queue = self.page_queue();
        self.shell().state = State::cold(&self.map, &self.capabilities);
        drop(page_queue);
        // Who is told finds the registers as they are from now on.
        self.follow_reset();
        self.outputs.interrupts.interrupts_changed();
    }

    /// Lets `observer` hear what the unit does; there can be one. Returns false when there is one already.
    pub fn observe(&self, observer: Arc<dyn Observer>) -> bool {
        self.observed.set(observer)
    }

    /// What the unit has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot(self.translator.counters())
    }

    fn post(&self, source: SourceId, index: u16, posting: &Posting) -> Option<MsiMessage> {
        count(&self.tally.posted);
        match posting.post(&*self.memory, &self.capabilities) {
            Ok(notification) => notification,
            Err(reason) => {
                self.record(&Fault {
                    reason,
                    subject: FaultSubject::Interrupt { source, index },
                    record: !posting.fault_processing_disabled,
                });
                None
            }
        }
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset of an access that the registers understand.
    fn checked_offset(&self, offset: u64, len: usize) -> Option<u16> {
        let size = u64::try_from(len).ok()?;
        let good = matches!(len, 4 | 8)
            && offset.is_multiple_of(size)
            && offset < self.capabilities.register_bytes();
        if !good {
            let count = self.tally.bad_access();
            if rate_limit::admits(count) {
                tracing::debug!(offset, len, count, "IOMMU register access ignored");
            }
            return None;
        }
        u16::try_from(offset).ok()
    }

    /// Does what a write leaves to do, with no lock held.
    fn conclude(&self, outcome: Outcome) {
        if let Some(error) = outcome.queue_error {
            let count = self.tally.queue_error();
            if rate_limit::admits(count) {
                tracing::warn!(?error, count, "invalidation queue stopped");
            }
        }
        self.send(outcome.message);
    }

    /// Sends an event of the unit's own.
    fn send(&self, message: Option<MsiMessage>) {
        if let Some(message) = message {
            count(&self.tally.events);
            self.outputs.events.deliver(message);
        }
    }

    /// Records a fault.
    fn record(&self, fault: &Fault) {
        let count_of_reason = self.tally.fault(fault);
        if rate_limit::admits(count_of_reason) {
            tracing::debug!(?fault, count = count_of_reason, "request blocked");
            self.observed.fault(fault, count_of_reason);
        }
        if !fault.record {
            return;
        }
        let logged = self
            .shell()
            .state
            .log_fault(fault, &self.map, &self.capabilities);
        match logged {
            Logged::Recorded(message) => self.send(message),
            Logged::Lost => {
                count(&self.tally.faults_lost);
            }
        }
    }
}

impl Translate for Unit {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        self.translator
            .translate(request)
            .inspect_err(|fault| self.record(fault))
    }

    fn interrupt(&self, source: SourceId, message: MsiMessage) {
        self.remap_to(source, message, &*self.outputs.events);
    }
}

#[cfg(test)]
mod tests;
