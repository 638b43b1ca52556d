// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `dmatest` device (1234:d7a7, docs/dmatest.md): commands that read and write memory with or without PASID, with
//! privilege, as instruction fetch, and through translations that the device asks for.

use crate::arch;
use crate::mem::{read32, read64, write32, write64};
use crate::pci::Config;

const CONTROL: u64 = 0x18;
const STATUS: u64 = 0x1C;
const TAIL: u64 = 0x24;
const PAGE_TIMEOUT: u64 = 0x2C;
pub const ATC_ENTRIES: u64 = 0x40;
pub const ATC_HITS: u64 = 0x44;
pub const ATC_MISSES: u64 = 0x48;
pub const ATC_INVALIDATIONS: u64 = 0x4C;
pub const PAGE_RESPONSES: u64 = 0x54;
const RING: u64 = 0x1000;
const BUFFER: u64 = 0x1_0000;
const SLOTS: u32 = 64;

/// CONTROL: device-TLB invalidations are never completed, or answered wrongly.
pub const WITHHOLD: u32 = 1 << 0;
pub const WRONG: u32 = 1 << 1;

/// How a command ended.
pub const DONE: u32 = 1;
pub const BLOCKED: u32 = 6;
pub const NO_RIGHT: u32 = 8;
pub const REFUSED: u32 = 9;
pub const PAGE_INVALID: u32 = 10;
pub const PAGE_FAILURE: u32 = 11;

const ATS: u16 = 0x0F;
const PRI: u16 = 0x13;
const PASID: u16 = 0x1B;

/// How the requests of a command travel.
#[derive(Clone, Copy)]
pub struct Via {
    flags: u32,
    pub pasid: Option<u32>,
}

impl Via {
    /// Without PASID.
    pub const PLAIN: Via = Via {
        flags: 0,
        pasid: None,
    };

    pub const fn pasid(pasid: u32) -> Via {
        Via {
            flags: 1 << 8,
            pasid: Some(pasid),
        }
    }

    const fn with(self, flags: u32) -> Via {
        Via {
            flags: self.flags | flags,
            ..self
        }
    }

    pub const fn privileged(self) -> Via {
        self.with(1 << 9)
    }

    /// As instruction fetches.
    pub const fn execute(self) -> Via {
        self.with(1 << 10)
    }

    /// By translations that the device asks for.
    pub const fn translated(self) -> Via {
        self.with(1 << 11)
    }

    /// As `translated`, and asks for pages that are not there.
    pub const fn asking(self) -> Via {
        self.with(1 << 11 | 1 << 12)
    }

    pub const fn is_privileged(self) -> bool {
        self.flags & 1 << 9 != 0
    }

    pub const fn is_execute(self) -> bool {
        self.flags & 1 << 10 != 0
    }
}

/// What a command left in its slot.
#[derive(Clone, Copy)]
pub struct Answer {
    /// 0 when it never ended.
    pub status: u32,
    pub result: u64,
}

/// What to do.
#[derive(Clone, Copy)]
pub enum Operation {
    /// Reads 8 bytes into the buffer.
    Load,
    /// Writes these 8 bytes.
    Store(u64),
    /// Writes these 8 bytes over and over, so many bytes.
    Fill(u64, u64),
    /// Writes these 4 bytes.
    Store4(u32),
    /// Adds to 8 bytes.
    Add(u64),
    /// Asks for access without reading or writing anything.
    Touch,
    TouchForWriting,
}

impl Operation {
    /// Operation and flags, operand, bytes.
    fn words(self) -> (u32, u64, u64) {
        match self {
            Operation::Load => (1, 0, 8),
            Operation::Store(value) => (4, value, 8),
            Operation::Fill(value, length) => (4, value, length),
            Operation::Store4(_) => (2, 0, 4),
            Operation::Add(value) => (6, value, 8),
            Operation::Touch => (8, 0, 1),
            Operation::TouchForWriting => (8 | 1 << 14, 0, 1),
        }
    }
}

/// Commands that were started together.
pub struct Batch {
    device: Dmatest,
    /// The first one's slot.
    first: u32,
    count: u32,
}

impl Batch {
    /// Waits for each to end, in their order.
    pub fn finish(self) -> impl Iterator<Item = Answer> {
        let slots = (0..self.count).map(move |number| (self.first + number) % SLOTS);
        slots.map(move |number| self.device.finish(self.device.slot(number)))
    }
}

#[derive(Clone, Copy)]
pub struct Dmatest {
    config: Config,
    registers: u64,
    ats: Option<u16>,
    pri: Option<u16>,
    pasid: Option<u16>,
}

impl Dmatest {
    /// Finds the last such device, and enables all that it has.
    pub fn find(ecam: Option<u64>) -> Option<Dmatest> {
        Config::find_last(ecam, 0x1234, 0xD7A7).map(Dmatest::at)
    }

    /// The device with this configuration space, of which all is enabled.
    pub fn at(config: Config) -> Dmatest {
        config.write(0x04u16, config.read(0x04u16) & 0xFFFF | 1 << 1 | 1 << 2);
        let device = Dmatest {
            config,
            registers: u64::from(config.read(0x10u16) & !0xF),
            ats: config.extended_capability(ATS),
            pri: config.extended_capability(PRI),
            pasid: config.extended_capability(PASID),
        };
        if let Some(at) = device.pasid {
            device.config.write(at + 4, 0x7 << 16);
        }
        if let Some(at) = device.ats {
            device.config.write(at + 4, 1 << 31);
        }
        if let Some(at) = device.pri {
            device.config.write(at + 12, 1);
            device.config.write(at + 4, 1);
        }
        device
    }

    pub fn source(self) -> u16 {
        self.config.source
    }

    pub fn has_ats(self) -> bool {
        self.ats.is_some()
    }

    pub fn has_pri(self) -> bool {
        self.pri.is_some()
    }

    /// Width of the PASIDs it can send; 0 for none.
    pub fn pasid_bits(self) -> u32 {
        self.pasid
            .map_or(0, |at| self.config.read(at + 4) >> 8 & 0x1F)
    }

    pub fn register(self, offset: u64) -> u32 {
        read32(self.registers + offset)
    }

    pub fn set_control(self, value: u32) {
        write32(self.registers + CONTROL, value);
    }

    /// How long it waits for the answer to a page request.
    pub fn set_page_timeout(self, milliseconds: u32) {
        write32(self.registers + PAGE_TIMEOUT, milliseconds);
    }

    /// Whether software answered that no page can be had; that is cleared, and so is the note of unexpected answers.
    pub fn take_response_failure(self) -> bool {
        let Some(at) = self.pri else {
            return false;
        };
        let failed = self.config.read(at + 4) >> 16 & 1 != 0;
        // The control register beside it stays enabled.
        self.config.write(at + 4, 3 << 16 | 1);
        failed
    }

    /// Starts a command; its slot.
    pub fn start(self, via: Via, operation: Operation, address: u64) -> u64 {
        let tail = self.register(TAIL);
        let slot = self.put(tail, via, operation, address);
        write32(self.registers + TAIL, (tail + 1) % SLOTS);
        slot
    }

    /// Starts commands, 63 at most, all at once.
    pub fn start_all(self, commands: impl Iterator<Item = (Via, Operation, u64)>) -> Batch {
        let first = self.register(TAIL);
        let mut next = first;
        for (via, operation, address) in commands {
            self.put(next, via, operation, address);
            next = (next + 1) % SLOTS;
        }
        write32(self.registers + TAIL, next);
        Batch {
            device: self,
            first,
            count: next.wrapping_sub(first) % SLOTS,
        }
    }

    /// Whether there are commands that have not ended.
    pub fn is_busy(self) -> bool {
        self.register(STATUS) & 1 != 0
    }

    fn slot(self, number: u32) -> u64 {
        self.registers + RING + u64::from(number) * 64
    }

    /// Writes a command into slot `number`.
    fn put(self, number: u32, via: Via, operation: Operation, address: u64) -> u64 {
        let slot = self.slot(number);
        let (control, operand, length) = operation.words();
        let pasid = u64::from(via.pasid.unwrap_or(0));
        if let Operation::Store4(value) = operation {
            write32(self.registers + BUFFER, value);
        }
        write64(slot, u64::from(control | via.flags) | pasid << 32);
        write64(slot + 0x08, address);
        write64(slot + 0x10, operand);
        write64(slot + 0x20, length);
        slot
    }

    /// Waits for the command in `slot` to end.
    pub fn finish(self, slot: u64) -> Answer {
        let mut status = 0;
        arch::poll(arch::LONG, || {
            status = read32(slot + 0x30);
            status != 0
        });
        Answer {
            status,
            result: read64(slot + 0x38),
        }
    }

    /// Whether the command in `slot` has ended.
    pub fn is_finished(self, slot: u64) -> bool {
        read32(slot + 0x30) != 0
    }

    /// Runs a command to its end.
    pub fn run(self, via: Via, operation: Operation, address: u64) -> Answer {
        self.finish(self.start(via, operation, address))
    }

    /// What the last `Load` read.
    pub fn loaded(self) -> u64 {
        read64(self.registers + BUFFER)
    }
}
