// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The page request queue (VT-d spec 7.4).

use super::unit::{PEADDR, PECTL, PEDATA, PEUADDR, PPR, PQA, PQH, PQT, PRO, PRS, Unit};
use crate::arch;
use crate::mem;

/// Bytes of the smallest queue: 128 requests.
pub const BYTES: u64 = mem::PAGE;

/// What a request says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    pub low: u64,
    pub high: u64,
    pub rest: u64,
}

impl PageRequest {
    /// PRGI: the group, 9 bits.
    pub fn group(&self) -> u64 {
        self.high >> 3 & 0x1FF
    }
}

pub struct PageQueue {
    unit: Unit,
    pub base: u64,
}

impl PageQueue {
    /// An empty queue of one page whose events go to `vector` of the CPU with this APIC id.
    pub fn start(unit: Unit, apic_id: u32, vector: u8) -> PageQueue {
        let (address, _) = arch::halves(super::irte::compatible(apic_id));
        unit.write32(PEDATA, vector.into());
        unit.write32(PEADDR, address);
        unit.write32(PEUADDR, 0);
        unit.write32(PRS, PPR | PRO);
        unit.write32(PECTL, 0);
        let queue = PageQueue {
            unit,
            base: mem::page(),
        };
        queue.set_ends(0, 0);
        unit.write64(PQA, queue.base);
        queue
    }

    /// Moves head and tail.
    pub fn set_ends(&self, head: u64, tail: u64) {
        self.unit.write64(PQH, head);
        self.unit.write64(PQT, tail);
    }

    pub fn tail(&self) -> u64 {
        self.unit.read64(PQT)
    }

    /// Waits for a request; the head moves behind it and PPR is cleared.
    pub fn take(&self) -> Option<PageRequest> {
        let head = self.unit.read64(PQH);
        if !arch::poll(arch::SHORT, || self.tail() != head) {
            return None;
        }
        self.unit.write32(PRS, PPR);
        let at = self.base + head;
        let request = PageRequest {
            low: mem::read64(at),
            high: mem::read64(at + 8),
            rest: mem::read64(at + 16) | mem::read64(at + 24),
        };
        self.unit.write64(PQH, (head + 32) % BYTES);
        Some(request)
    }
}
