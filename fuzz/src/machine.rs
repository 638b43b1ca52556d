// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A unit in its memory, with one device that caches translations.

use crate::memory::{Memory, PAGES};
use iommu::address::IovaRange;
use iommu::ats::{AtsEndpoint, Completion, PageResponse};
use iommu::capabilities::{
    AddressWidth, Capabilities, LegacyOptions, PasidBits, ScalableOptions, Stages,
};
use iommu::ids::{Requester, SourceId};
use iommu::invalidation::DeviceSpaces;
use iommu::msi::{MsiMessage, MsiSink};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Accesses of memory that one register write makes at most: a queue full of descriptors for itself, another for other
/// writers, one step more, the status of each wait, and a page. No queue is larger than the memory.
const WRITE_BOUND: u64 = 2 * (2 * PAGES * 256 + 256) + 64;

/// The device that caches translations, in the first bus.
pub const DEVICE: SourceId = SourceId(0x18);

/// The unit and all around it.
#[derive(Debug)]
pub struct Machine {
    /// The unit.
    pub unit: Arc<Unit>,
    /// Its memory.
    pub memory: Arc<Memory>,
    outside: Arc<Outside>,
}

#[derive(Debug, Default)]
struct Outside {
    late: AtomicBool,
    messages: Mutex<Vec<MsiMessage>>,
}

impl MsiSink for Outside {
    fn deliver(&self, message: MsiMessage) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
    }
}

impl InterruptListener for Outside {
    fn interrupts_changed(&self) {}
}

impl AtsEndpoint for Outside {
    fn invalidate(&self, _: DeviceSpaces, _: IovaRange) -> Completion {
        if self.late.load(Ordering::Relaxed) {
            Completion::TimedOut
        } else {
            Completion::Completed
        }
    }

    fn respond(&self, _: PageResponse) {}
}

/// One of the capabilities that a unit can have.
pub fn capabilities(choice: u16) -> Capabilities {
    let bit = |index: u16| choice >> index & 1 == 1;
    let base = LegacyOptions {
        address_width: match choice & 3 {
            0 => AddressWidth::Bits39,
            1 => AddressWidth::Bits57,
            _ => AddressWidth::Bits48,
        },
        caching_mode: bit(2),
        ..LegacyOptions::default()
    };
    if bit(3) && bit(4) {
        return Capabilities::legacy(&base).expect("legacy mode can be had");
    }
    let pasid = bit(5).then_some(PasidBits::MAX);
    let stages = match (bit(6), bit(7)) {
        (true, false) => Stages::First,
        (false, true) => Stages::Second,
        _ => Stages::Both,
    };
    let options = ScalableOptions {
        base,
        stages,
        nesting: stages == Stages::Both,
        pasid,
        execute_requests: bit(8) && pasid.is_some(),
        supervisor_requests: bit(9) && pasid.is_some(),
        extended_accessed: bit(10) && pasid.is_some(),
        without_first_stage_gigabyte_pages: bit(8) && bit(9),
        device_tlb: bit(11),
        no_write_flag: bit(11) && bit(12),
        page_requests: bit(11) && bit(13),
        dirty_tracking: bit(14) && stages != Stages::First,
        abort_mode: bit(15),
        posted_interrupts: bit(4),
    };
    Capabilities::scalable(&options).expect("the options agree with each other")
}

impl Machine {
    /// A unit after power-on.
    pub fn new(capabilities: Capabilities) -> Self {
        let memory = Arc::new(Memory::default());
        let outside = Arc::new(Outside::default());
        let outputs = Outputs {
            events: Arc::clone(&outside) as _,
            interrupts: Arc::clone(&outside) as _,
        };
        let unit = Unit::new(capabilities, Arc::clone(&memory) as _, outputs);
        let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&outside) as _;
        unit.register_endpoint(Arc::new(Requester::new(DEVICE)), &endpoint);
        Self {
            unit,
            memory,
            outside,
        }
    }

    /// Reads a register of 32 bits.
    pub fn r32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes registers, and checks that little was done for it.
    pub fn write(&self, offset: u64, data: &[u8]) {
        self.memory.accesses();
        self.unit.write(offset, data);
        let accesses = self.memory.accesses();
        assert!(accesses <= WRITE_BOUND, "{accesses} accesses of one write");
    }

    /// Whether the device answers invalidations too late from now on.
    pub fn set_late(&self, late: bool) {
        self.outside.late.store(late, Ordering::Relaxed);
    }

    /// Whether the device answers too late.
    pub fn is_late(&self) -> bool {
        self.outside.late.load(Ordering::Relaxed)
    }

    /// What the unit has sent since the last call.
    pub fn messages(&self) -> Vec<MsiMessage> {
        let mut messages = self
            .outside
            .messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut messages)
    }

    /// Checks what must hold of the registers after each operation.
    pub fn check(&self) {
        let (gsts, fsts) = (self.r32(0x1c), self.r32(0x34));
        let records = u64::from(self.unit.capabilities().fault_records());
        let recorded = (0..records).any(|index| self.r32(0x22c + 16 * index) >> 31 == 1);
        assert_eq!(fsts >> 1 & 1 == 1, recorded, "PPF is the OR of F");
        if gsts >> 26 & 1 == 0 {
            assert_eq!(self.r32(0x80), 0, "the head of a queue that is off");
        } else if fsts & 0x50 == 0 {
            assert_eq!(self.r32(0x80), self.r32(0x88), "nothing is left undone");
        }
        for event in [0x38, 0xa0, 0xe0] {
            assert_ne!(
                self.r32(event) >> 30,
                0b01,
                "an event is held back by nothing"
            );
        }
    }
}
