// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The invalidation queue with 128-bit descriptors (VT-d spec 6.5.2).

use super::unit::{IQA, IQH, IQT, QIE, Unit};
use crate::arch;
use crate::mem;

/// Bytes of the smallest queue: 256 descriptors.
pub const BYTES: u64 = mem::PAGE;
/// Status data of the waits that `Queue::flush` appends.
const DONE: u32 = 0x51A7_0001;

/// Descriptors by their low word; the comments name what is in them besides the type.
pub const CONTEXT_GLOBAL: u64 = 0x11;
pub const CONTEXT_DOMAIN: u64 = 0x21;
pub const CONTEXT_DEVICE: u64 = 0x31;
pub const IOTLB_GLOBAL: u64 = 0xD2;
pub const IOTLB_DOMAIN: u64 = 0xE2;
pub const IOTLB_PAGE: u64 = 0xF2;
pub const IEC_GLOBAL: u64 = 0x04;
pub const IEC_INDEX: u64 = 0x14;
/// Wait: status write, interrupt, fence.
pub const WAIT: u64 = 0x05;
pub const WAIT_INTERRUPT: u64 = 1 << 4;
pub const WAIT_STATUS: u64 = 1 << 5;
pub const WAIT_FENCE: u64 = 1 << 6;

/// A context invalidation of one device.
pub fn context_device(domain: u16, source: u16) -> u64 {
    CONTEXT_DEVICE | u64::from(domain) << 16 | u64::from(source) << 32
}

/// Low word of a domain-selective or page-selective IOTLB invalidation.
pub fn iotlb(kind: u64, domain: u16) -> u64 {
    kind | u64::from(domain) << 16
}

/// An interrupt entry invalidation of 2^`mask` entries.
pub fn iec_index(index: u16, mask: u64) -> u64 {
    IEC_INDEX | mask << 27 | u64::from(index) << 32
}

pub struct Queue {
    unit: Unit,
    pub base: u64,
    status: u64,
    tail: u64,
}

impl Queue {
    /// A queue of 256 descriptors, not enabled yet.
    pub fn new(unit: Unit) -> Queue {
        Queue {
            unit,
            base: mem::page(),
            status: mem::page(),
            tail: 0,
        }
    }

    /// A new queue, enabled.
    pub fn start(unit: Unit) -> Queue {
        let queue = Queue::new(unit);
        queue.enable();
        queue
    }

    /// Programs tail 0 and the base, and enables the queue.
    pub fn enable(&self) -> bool {
        self.unit.write32(IQT, 0);
        self.unit.write64(IQA, self.base);
        self.unit.set(QIE)
    }

    /// Byte offset of the next free descriptor.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Writes a descriptor without telling the unit.
    pub fn push(&mut self, low: u64, high: u64) {
        mem::write64(self.base + self.tail, low);
        mem::write64(self.base + self.tail + 8, high);
        self.tail = (self.tail + 16) % BYTES;
    }

    /// Tells the unit of all that was pushed.
    pub fn ring(&self) {
        let (tail, _) = arch::halves(self.tail);
        self.unit.write32(IQT, tail);
    }

    /// Pushes a wait that writes `data` to `address`.
    pub fn push_wait(&mut self, address: u64, data: u32) {
        self.push(WAIT | WAIT_STATUS | u64::from(data) << 32, address);
    }

    /// Runs what was pushed, with a wait behind it; whether the wait completed.
    pub fn flush(&mut self) -> bool {
        mem::write32(self.status, 0);
        self.push_wait(self.status, DONE);
        self.ring();
        arch::poll(arch::SHORT, || mem::read32(self.status) == DONE)
    }

    /// As `flush`, for what may take long.
    pub fn flush_patiently(&mut self) -> bool {
        self.flush() || arch::poll(arch::LONG, || mem::read32(self.status) == DONE)
    }

    /// Runs one descriptor; whether it completed.
    pub fn run(&mut self, low: u64, high: u64) -> bool {
        self.push(low, high);
        self.flush()
    }

    /// Invalidates all contexts and all translations.
    pub fn invalidate_all(&mut self) -> bool {
        self.push(CONTEXT_GLOBAL, 0);
        self.push(IOTLB_GLOBAL, 0);
        self.flush()
    }

    /// Whether the unit has fetched everything.
    pub fn drained(&self) -> bool {
        arch::poll(arch::SHORT, || {
            u64::from(self.unit.read32(IQH)) == self.tail
        })
    }

    /// Whether the unit, told of what was pushed, fetched it all.
    pub fn settle(&self) -> bool {
        self.ring();
        self.drained()
    }
}
