// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fault records (VT-d spec 11.4.8.5, FRCD_REG).

use super::unit::{FSTS, PPF, Unit};
use crate::arch;

/// Access type of a DMA fault, as T1 and T2 encode it in the record.
pub const READ: u8 = 0b10;
pub const WRITE: u8 = 0b00;
pub const ATOMIC: u8 = 0b11;
pub const PAGE_REQUEST: u8 = 0b01;

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub reason: u8,
    pub source: u16,
    /// Page address, or interrupt index << 48.
    pub info: u64,
    /// T1 in bit 1, T2 in bit 0.
    pub access: u8,
    /// PASID, where PP is set.
    pub pasid: Option<u32>,
    /// AT: 0 untranslated, 1 translation request, 2 translated.
    pub address_type: u8,
    /// EXE.
    pub execute: bool,
    /// PRIV.
    pub privileged: bool,
}

impl Fault {
    pub fn dma(reason: u8, source: u16, address: u64, access: u8) -> Fault {
        Fault {
            reason,
            source,
            info: address & !0xFFF,
            access,
            pasid: None,
            address_type: 0,
            execute: false,
            privileged: false,
        }
    }

    pub fn interrupt(reason: u8, source: u16, index: u64) -> Fault {
        Fault {
            info: index << 48,
            ..Fault::dma(reason, source, 0, 0)
        }
    }
}

impl Unit {
    /// Index of the first pending record (FSTS.FRI).
    pub fn fault_index(self) -> u64 {
        u64::from(self.read32(FSTS) >> 8 & 0xFF)
    }

    /// The record at `index` if its F is set.
    pub fn fault_at(self, index: u64) -> Option<Fault> {
        let at = self.record(index);
        let (middle, top) = (self.read32(at + 8), self.read32(at + 12));
        let [source_low, source_high, ..] = middle.to_le_bytes();
        let [reason, .., flags] = top.to_le_bytes();
        let (t1, t2) = (top >> 30 & 1 != 0, middle >> 28 & 1 != 0);
        (top >> 31 != 0).then(|| Fault {
            reason,
            source: u16::from_le_bytes([source_low, source_high]),
            info: self.read64(at),
            access: u8::from(t1) << 1 | u8::from(t2),
            pasid: (middle >> 31 != 0).then_some(top >> 8 & 0xF_FFFF),
            address_type: flags >> 4 & 3,
            execute: middle >> 30 & 1 != 0,
            privileged: middle >> 29 & 1 != 0,
        })
    }

    /// Takes the first pending fault and clears all.
    pub fn take_fault(self) -> Option<Fault> {
        let pending = self.read32(FSTS) & PPF != 0;
        let index = self.fault_index();
        let fault = if pending && index < self.records() {
            self.fault_at(index)
        } else {
            None
        };
        self.clear_faults();
        fault
    }

    /// As `take_fault`, for a fault that may still be under way.
    pub fn wait_fault(self) -> Option<Fault> {
        arch::poll(arch::SHORT / 8, || self.read32(FSTS) & PPF != 0);
        self.take_fault()
    }
}
