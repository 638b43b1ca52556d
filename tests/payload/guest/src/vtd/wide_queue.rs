// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The invalidation queue with 256-bit descriptors (VT-d spec 6.5.2), and what exists only there.

use super::queue::{CONTEXT_GLOBAL, IOTLB_GLOBAL, WAIT, WAIT_STATUS};
use super::unit::{IQA, IQH, IQT, QIE, Unit};
use crate::arch;
use crate::mem;

/// Bytes of the smallest queue: 128 descriptors.
pub const BYTES: u64 = mem::PAGE;
/// IQA.DW.
pub const WIDE: u64 = 1 << 11;
/// Wait: let page requests on their way arrive first.
pub const WAIT_DRAIN: u64 = 1 << 7;
const DONE: u32 = 0x51A7_0002;

/// PASID-cache invalidations by their low word.
pub const PASID_CACHE_DOMAIN: u64 = 0x07;
pub const PASID_CACHE_ONE: u64 = 0x17;
pub const PASID_CACHE_GLOBAL: u64 = 0x37;
/// PASID-based IOTLB invalidations.
pub const PASID_IOTLB_ALL: u64 = 0x26;
pub const PASID_IOTLB_PAGE: u64 = 0x36;
/// Invalidation hint, in the high word.
pub const LEAF_ONLY: u64 = 1 << 6;

/// A PASID-cache or PASID-based IOTLB invalidation of one PASID of one domain.
pub fn of_pasid(kind: u64, domain: u16, pasid: u32) -> u64 {
    kind | u64::from(domain) << 16 | u64::from(pasid) << 32
}

/// A PASID-cache invalidation of all PASIDs of a domain.
pub fn of_domain(domain: u16) -> u64 {
    PASID_CACHE_DOMAIN | u64::from(domain) << 16
}

/// A device-TLB invalidation without PASID.
pub fn device_tlb(source: u16) -> u64 {
    0x03 | u64::from(source) << 32
}

/// A device-TLB invalidation of one PASID.
pub fn pasid_device_tlb(source: u16, pasid: u32) -> u64 {
    0x08 | u64::from(source) << 16 | u64::from(pasid) << 32
}

/// The high word of a device-TLB invalidation of the 2^`order` pages around `address`, at most 2^51.
pub fn device_range(address: u64, order: u32, with_pasid: bool) -> u64 {
    if order == 0 {
        return address;
    }
    let base = address >> (order + 12) << (order + 12);
    // A zero ends the ones that tell the size.
    let ones = (1 << (order + 11)) - mem::PAGE;
    base | ones | size(with_pasid)
}

/// The high word of a device-TLB invalidation of everything.
pub fn device_all(with_pasid: bool) -> u64 {
    0x7FFF_FFFF_FFFF_F000 | size(with_pasid)
}

/// S of a device-TLB invalidation: more than a page.
fn size(with_pasid: bool) -> u64 {
    if with_pasid { 1 << 11 } else { 1 }
}

/// A page group response: `code` 0 for success, 1 for an invalid request, 15 for a failure.
pub fn page_response(source: u16, pasid: Option<u32>, code: u64) -> u64 {
    let pasid = pasid.map_or(0, |pasid| 1 << 4 | u64::from(pasid) << 32);
    0x09 | code << 12 | u64::from(source) << 16 | pasid
}

pub struct WideQueue {
    unit: Unit,
    pub base: u64,
    status: u64,
    tail: u64,
}

impl WideQueue {
    /// A queue of 128 descriptors, not enabled yet.
    pub fn new(unit: Unit) -> WideQueue {
        WideQueue {
            unit,
            base: mem::page(),
            status: mem::page(),
            tail: 0,
        }
    }

    /// A new queue, enabled.
    pub fn start(unit: Unit) -> WideQueue {
        let queue = WideQueue::new(unit);
        queue.enable();
        queue
    }

    /// Programs tail 0 and the base, and enables the queue.
    pub fn enable(&self) -> bool {
        self.unit.write32(IQT, 0);
        self.unit.write64(IQA, self.base | WIDE);
        self.unit.set(QIE)
    }

    /// Byte offset of the next free descriptor.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Writes a descriptor without telling the unit.
    pub fn push(&mut self, low: u64, high: u64) {
        self.push_all([low, high, 0, 0]);
    }

    /// As `push`, with the upper half too.
    pub fn push_all(&mut self, words: [u64; 4]) {
        for (at, word) in (self.base + self.tail..).step_by(8).zip(words) {
            mem::write64(at, word);
        }
        self.tail = (self.tail + 32) % BYTES;
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
        self.flush_within(arch::SHORT)
    }

    /// As `flush`, where a host has to do something first, call by call.
    pub fn flush_to_host(&mut self) -> bool {
        self.flush_within(arch::LONG)
    }

    fn flush_within(&mut self, ticks: u64) -> bool {
        mem::write32(self.status, 0);
        self.push_wait(self.status, DONE);
        self.ring();
        arch::poll(ticks, || mem::read32(self.status) == DONE)
    }

    /// Runs one descriptor; whether it completed.
    pub fn run(&mut self, low: u64, high: u64) -> bool {
        self.push(low, high);
        self.flush()
    }

    /// Invalidates all contexts, PASID entries and translations.
    pub fn invalidate_all(&mut self) -> bool {
        self.push(CONTEXT_GLOBAL, 0);
        if self.unit.has_scalable() {
            self.push(PASID_CACHE_GLOBAL, 0);
        }
        self.push(IOTLB_GLOBAL, 0);
        self.flush()
    }

    /// Whether the unit has fetched everything.
    pub fn drained(&self) -> bool {
        arch::poll(arch::SHORT, || {
            u64::from(self.unit.read32(IQH)) == self.tail
        })
    }
}
