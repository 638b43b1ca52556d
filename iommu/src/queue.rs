// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The invalidation queue: what to do next, as a pure function of a view of the queue and of guest memory.
//!
//! A [`QueueStep`] is a run of descriptors up to and including the next wait descriptor. Whoever drains the queue applies its
//! invalidations and delivers its responses with no lock held, then moves the head, then completes the wait. One step reads
//! at most [`STEP_DESCRIPTORS`] descriptors. An error consumes nothing: the head stays at the descriptor in question, after
//! everything before it has been applied.

mod decode;

pub(crate) use decode::Wait;

use crate::address::{Gpa, PAGE_SIZE};
use crate::ats::PageResponse;
use crate::capabilities::Capabilities;
use crate::invalidation::Invalidation;
use crate::memory::PhysMem;
use crate::spec::regs::{QueueAddress, QueueOffset, offset};
use crate::state::State;
use crate::translator::TableMode;
use decode::{Decoded, Raw, decode};
use vm_memory::GuestAddress;

/// Descriptors that one step reads at most.
pub(crate) const STEP_DESCRIPTORS: u32 = 256;

/// Why the queue stopped (IQERCD.IQEI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum QueueError {
    /// No detail; here, the status of a wait descriptor could not be written.
    StatusWrite = 0,
    /// The tail lies beyond the queue.
    Tail = 1,
    /// A descriptor could not be read.
    Read = 2,
    /// The type of a descriptor is unknown or not offered.
    Type = 3,
    /// Reserved bits are set in a descriptor, or a field has a value that is reserved or not offered.
    Reserved = 4,
    /// The width of the descriptors is not offered, or does not suit the table mode.
    Width = 5,
    /// The tail is not aligned to the width of the descriptors.
    TailAlignment = 6,
    /// The table mode is reserved or not offered.
    TableMode = 7,
}

impl QueueError {
    /// The code that IQERCD shows.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

/// Where the queue is: what GCMD.QIE takes from IQA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSetup {
    base: Gpa,
    /// Pages, a power of two.
    pages: u32,
    wide: bool,
}

impl QueueSetup {
    /// The queue that IQA describes.
    pub(crate) fn new(address: QueueAddress) -> Self {
        Self {
            base: GuestAddress(address.page() * PAGE_SIZE),
            pages: 1 << address.qs(),
            wide: address.dw(),
        }
    }

    /// What IQA held.
    pub(crate) fn address(self) -> QueueAddress {
        QueueAddress::new()
            .with_page(self.base.0 / PAGE_SIZE)
            .with_dw(self.wide)
            .with_qs(u8::try_from(self.pages.ilog2()).unwrap_or(0))
    }

    /// Whether the head, in units of 16 bytes, can be at `head`.
    pub(crate) const fn can_hold_head(self, head: u16) -> bool {
        (head as u32) < self.units() && (head as u32).is_multiple_of(self.stride())
    }

    /// Units of head and tail (16 bytes) in the queue.
    const fn units(self) -> u32 {
        self.pages * 256
    }

    /// Units of head and tail in a descriptor.
    const fn stride(self) -> u32 {
        if self.wide { 2 } else { 1 }
    }
}

/// A queue that has something to do. It cannot change but for the tail while somebody drains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueView {
    setup: QueueSetup,
    head: u32,
    tail: u32,
    mode: TableMode,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueStep {
    /// Apply these, in order.
    pub(crate) invalidations: Vec<Invalidation>,
    /// Then deliver these, in order: what a device may do after an answer needs what was invalidated before it.
    pub(crate) responses: Vec<PageResponse>,
    /// Descriptors that the step consumes.
    pub(crate) descriptors: u32,
    /// Then the head is here, in units of 16 bytes.
    pub(crate) head: u16,
    /// Then this.
    pub(crate) end: StepEnd,
}

/// What ends a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepEnd {
    /// Nothing: there may be more descriptors.
    Continue,
    /// A wait descriptor, which stands at `at`; the head of the step is behind it.
    Wait {
        /// What it asks for.
        wait: Wait,
        /// Where it stands, in units of 16 bytes.
        at: u16,
    },
    /// The queue stops at the head.
    Stop(QueueError),
}

impl State {
    /// The queue, if it is enabled, not stopped by an error, and not empty.
    pub(crate) fn queue_view(&self) -> Option<QueueView> {
        let registers = &self.registers;
        let runs = registers.global_status().qies() && !registers.fault_status().queue_frozen();
        let head = QueueOffset::from_bits(registers.qword(offset::IQH)).units();
        let tail = QueueOffset::from_bits(registers.qword(offset::IQT)).units();
        (runs && head != tail).then_some(QueueView {
            setup: self.queue,
            head: u32::from(head),
            tail: u32::from(tail),
            mode: self.root.mode,
        })
    }

    /// Moves the head to `units` * 16 bytes.
    pub(crate) fn set_queue_head(&mut self, units: u16) {
        self.registers.set_qword(
            offset::IQH,
            QueueOffset::new().with_units(units).into_bits(),
        );
    }
}

impl QueueView {
    /// Descriptors between head and tail.
    pub(crate) const fn pending(&self) -> u32 {
        let units = self.setup.units();
        (units + self.tail % units - self.head % units) % units / self.setup.stride()
    }

    /// Descriptors that fit the queue.
    pub(crate) const fn capacity(&self) -> u32 {
        self.setup.units() / self.setup.stride()
    }

    /// The next step.
    pub(crate) fn step(&self, caps: &Capabilities, memory: &dyn PhysMem) -> QueueStep {
        let mut step = QueueStep {
            invalidations: Vec::new(),
            responses: Vec::new(),
            descriptors: 0,
            head: units(self.head),
            end: StepEnd::Continue,
        };
        if let Some(error) = self.error(caps) {
            step.end = StepEnd::Stop(error);
            return step;
        }
        let mut head = self.head;
        while step.descriptors < STEP_DESCRIPTORS && head != self.tail {
            let decoded = self.fetch(memory, head).and_then(|raw| decode(raw, caps));
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    step.end = StepEnd::Stop(error);
                    break;
                }
            };
            let at = units(head);
            head = (head + self.setup.stride()) % self.setup.units();
            step.head = units(head);
            step.descriptors += 1;
            match decoded {
                Decoded::Invalidation(invalidation) => step.invalidations.push(invalidation),
                Decoded::Response(response) => step.responses.push(response),
                Decoded::Wait(wait) => {
                    step.end = StepEnd::Wait { wait, at };
                    break;
                }
            }
        }
        step
    }

    /// What is wrong with the queue as a whole.
    fn error(&self, caps: &Capabilities) -> Option<QueueError> {
        if self.setup.wide && !caps.wide_descriptors() {
            return Some(QueueError::Width);
        }
        if self.tail >= self.setup.units() {
            return Some(QueueError::Tail);
        }
        if !self.tail.is_multiple_of(self.setup.stride()) {
            return Some(QueueError::TailAlignment);
        }
        if !caps.table_mode(self.mode) {
            return Some(QueueError::TableMode);
        }
        (self.mode == TableMode::Scalable && !self.setup.wide).then_some(QueueError::Width)
    }

    /// The descriptor at `head`.
    fn fetch(&self, memory: &dyn PhysMem, head: u32) -> Result<Raw, QueueError> {
        let mut bytes = [0; 32];
        let len = if self.setup.wide { 32 } else { 16 };
        let address = self.setup.base.0.checked_add(u64::from(head) * 16);
        let address = GuestAddress(address.ok_or(QueueError::Read)?);
        memory
            .read(address, &mut bytes[..len])
            .map_err(|_| QueueError::Read)?;
        let word = |from: usize| {
            let mut word = [0; 16];
            word.copy_from_slice(&bytes[from..from + 16]);
            u128::from_le_bytes(word)
        };
        Ok(if self.setup.wide {
            Raw::Wide([word(0), word(16)])
        } else {
            Raw::Narrow(word(0))
        })
    }
}

/// Head and tail have 15 bits, so no queue has more units.
fn units(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
