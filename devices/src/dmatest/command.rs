// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The commands: what 40 bytes of a slot say, and what the remaining 24 answer. docs/dmatest.md has the tables.

use bitfield_struct::bitfield;
use iommu::address::{Iova, IovaRange};
use iommu::ids::Pasid;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 64;
/// Bytes of a slot that are the command's; the rest is the answer's.
pub(super) const COMMAND_BYTES: usize = 0x28;
/// The most bytes of memory that one command touches on one side.
pub(super) const MAX_LENGTH: u32 = 16 << 20;
/// Bytes of the buffer.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// The first dword of a command.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub(super) struct Control {
    /// Bits 7:0.
    pub opcode: u8,
    /// Bit 8: the requests have the PASID of the command.
    pub pasid: bool,
    /// Bit 9: with supervisor privilege.
    pub privileged: bool,
    /// Bit 10: as instruction fetches.
    pub execute: bool,
    /// Bit 11: translated by the device.
    pub translated: bool,
    /// Bit 12: pages that are missing are asked for.
    pub page_requests: bool,
    /// Bit 13: interrupt at the end.
    pub interrupt: bool,
    /// Bit 14, touch: for writing.
    pub write: bool,
    __: bool,
    /// Bits 23:16: the interrupt's vector.
    pub vector: u8,
    /// Bits 31:24.
    pub reserved: u8,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    Done = 1,
    /// No such command, or its fields contradict each other.
    BadCommand = 2,
    /// Length, alignment or buffer range.
    BadRange = 3,
    /// A register of the PASID, ATS or PRI capability forbids it, or the capability is not there.
    NotEnabled = 4,
    NotBusMaster = 5,
    /// An untranslated or translated request was blocked.
    Blocked = 6,
    /// The address is not RAM.
    NoRam = 7,
    /// A translation request was granted too little.
    NoTranslation = 8,
    /// A translation request was not supported or aborted.
    TranslationRefused = 9,
    PageInvalid = 10,
    PageFailure = 11,
    PageTimeout = 12,
    /// Page requests were stopped while one was outstanding.
    PageStopped = 13,
    /// A reset ended the command.
    Cancelled = 14,
}

/// The answer in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Where memory could not be accessed.
    pub(super) fault_address: u64,
    pub(super) status: Status,
    /// Bytes that were moved.
    pub(super) done: u32,
    pub(super) result: u64,
}

impl Completion {
    pub(super) const fn refused(status: Status) -> Self {
        Self {
            fault_address: 0,
            status,
            done: 0,
            result: 0,
        }
    }

    pub(super) fn bytes(&self) -> [u8; SLOT_BYTES - COMMAND_BYTES] {
        let mut bytes = [0; SLOT_BYTES - COMMAND_BYTES];
        bytes[..8].copy_from_slice(&self.fault_address.to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.status as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.done.to_le_bytes());
        bytes[16..].copy_from_slice(&self.result.to_le_bytes());
        bytes
    }
}

/// How the requests of a command travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) pasid: Option<Pasid>,
    pub(super) privileged: bool,
    pub(super) execute: bool,
    pub(super) translated: bool,
    pub(super) page_requests: bool,
}

/// What the capabilities' control registers allow at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Bits of a PASID, if requests may have one.
    pub(super) pasid_bits: Option<u8>,
    pub(super) execute: bool,
    pub(super) privileged: bool,
    pub(super) ats: bool,
    pub(super) page_requests: bool,
}

impl Route {
    pub(super) fn check(&self, allowed: &Allowed) -> Result<(), Status> {
        let pasid = self.pasid.is_none_or(|pasid| {
            let bits = allowed.pasid_bits;
            bits.is_some_and(|bits| pasid.get() >> bits == 0)
        });
        let good = pasid
            && (allowed.execute || !self.execute)
            && (allowed.privileged || !self.privileged)
            && (allowed.ats || !self.translated)
            && (allowed.page_requests || !self.page_requests);
        good.then_some(()).ok_or(Status::NotEnabled)
    }
}

/// What to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Nothing,
    /// Memory to buffer.
    Read {
        buffer: usize,
    },
    /// Buffer to memory.
    Write {
        buffer: usize,
    },
    Copy {
        to: Iova,
    },
    Fill {
        pattern: u64,
    },
    Checksum,
    FetchAdd {
        addend: u64,
    },
    CompareSwap {
        new: u64,
        expected: u64,
    },
    Touch {
        write: bool,
    },
}

/// A command that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) operation: Operation,
    pub(super) route: Route,
    pub(super) address: Iova,
    pub(super) length: usize,
}

/// The vector of the interrupt at the end of the command in `slot`.
pub(super) fn interrupt(slot: &[u8; SLOT_BYTES]) -> Option<u16> {
    let control = Control::from_bits(dword(slot, 0x00));
    control.interrupt().then(|| control.vector().into())
}

impl Command {
    /// Understands a slot.
    pub(super) fn decode(slot: &[u8; SLOT_BYTES]) -> Result<Self, Status> {
        let control = Control::from_bits(dword(slot, 0x00));
        let route = route(control, dword(slot, 0x04))?;
        let (operand, compare) = (qword(slot, 0x10), qword(slot, 0x18));
        let buffer = usize::try_from(dword(slot, 0x24)).unwrap_or(usize::MAX);
        let operation = match control.opcode() {
            0 => Operation::Nothing,
            1 => Operation::Read { buffer },
            2 => Operation::Write { buffer },
            3 => Operation::Copy { to: Iova(operand) },
            4 => Operation::Fill { pattern: operand },
            5 => Operation::Checksum,
            6 => Operation::FetchAdd { addend: operand },
            7 => Operation::CompareSwap {
                new: operand,
                expected: compare,
            },
            8 => Operation::Touch {
                write: control.write(),
            },
            _ => return Err(Status::BadCommand),
        };
        let fetches = matches!(
            operation,
            Operation::Read { .. } | Operation::Checksum | Operation::Touch { write: false }
        );
        let touch = matches!(operation, Operation::Touch { .. });
        if control.execute() && !fetches || control.write() && !touch {
            return Err(Status::BadCommand);
        }
        let command = Self {
            operation,
            route,
            address: Iova(qword(slot, 0x08)),
            length: length(dword(slot, 0x20), operation)?,
        };
        command.check_ranges()?;
        Ok(command)
    }

    fn check_ranges(&self) -> Result<(), Status> {
        let fits = |at| {
            self.length == 0
                || u64::try_from(self.length)
                    .is_ok_and(|length| IovaRange::from_len(at, length).is_some())
        };
        let good = match self.operation {
            Operation::Read { buffer } | Operation::Write { buffer } => buffer
                .checked_add(self.length)
                .is_some_and(|end| end <= BUFFER_BYTES),
            Operation::Copy { to } => fits(to),
            Operation::FetchAdd { .. } | Operation::CompareSwap { .. } => {
                matches!(self.length, 4 | 8) && self.address.0.is_multiple_of(self.length as u64)
            }
            _ => true,
        };
        (good && fits(self.address))
            .then_some(())
            .ok_or(Status::BadRange)
    }
}

fn route(control: Control, pasid: u32) -> Result<Route, Status> {
    let alone = (control.privileged() || control.execute()) && !control.pasid();
    let vain = control.page_requests() && !control.translated();
    if control.reserved() != 0 || control.into_bits() >> 15 & 1 != 0 || alone || vain {
        return Err(Status::BadCommand);
    }
    let pasid = if control.pasid() {
        Some(Pasid::new(pasid).ok_or(Status::BadCommand)?)
    } else {
        None
    };
    Ok(Route {
        pasid,
        privileged: control.privileged(),
        execute: control.execute(),
        translated: control.translated(),
        page_requests: control.page_requests(),
    })
}

fn length(field: u32, operation: Operation) -> Result<usize, Status> {
    if operation == Operation::Nothing {
        return Ok(0);
    }
    if field == 0 || field > MAX_LENGTH {
        return Err(Status::BadRange);
    }
    usize::try_from(field).map_err(|_| Status::BadRange)
}

fn dword(slot: &[u8; SLOT_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&slot[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn qword(slot: &[u8; SLOT_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&slot[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
