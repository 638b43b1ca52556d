// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The register file: storage, and which bits software reads, writes and clears.
//!
//! Storage is 32-bit words, because every register may be accessed in 32-bit pieces and each piece acts on its own; a 64-bit
//! access is the low piece and then the high one. What a write sets off stands elsewhere; here it is only stored.

mod access;

pub(crate) use access::RegisterMap;

use crate::spec::regs::{FaultStatus, GlobalStatus, offset};

/// The contents of the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    words: Vec<u32>,
}

impl Registers {
    /// The 32-bit word at byte `offset`, which must be one of a register.
    pub(crate) fn dword(&self, offset: u16) -> u32 {
        self.words[usize::from(offset / 4)]
    }

    /// Sets the 32-bit word at byte `offset`, which must be one of a register.
    pub(crate) fn set_dword(&mut self, offset: u16, value: u32) {
        self.words[usize::from(offset / 4)] = value;
    }

    /// Every 32-bit word, from offset 0 on.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// The 64-bit register at byte `offset`.
    pub(crate) fn qword(&self, offset: u16) -> u64 {
        u64::from(self.dword(offset + 4)) << 32 | u64::from(self.dword(offset))
    }

    /// Sets the 64-bit register at byte `offset`.
    pub(crate) fn set_qword(&mut self, offset: u16, value: u64) {
        let [low, high] = halves(value);
        self.set_dword(offset, low);
        self.set_dword(offset + 4, high);
    }

    /// GSTS.
    pub(crate) fn global_status(&self) -> GlobalStatus {
        GlobalStatus::from_bits(self.dword(offset::GSTS))
    }

    /// Sets GSTS.
    pub(crate) fn set_global_status(&mut self, status: GlobalStatus) {
        self.set_dword(offset::GSTS, status.into_bits());
    }

    /// FSTS.
    pub(crate) fn fault_status(&self) -> FaultStatus {
        FaultStatus::from_bits(self.dword(offset::FSTS))
    }

    /// Sets FSTS.
    pub(crate) fn set_fault_status(&mut self, status: FaultStatus) {
        self.set_dword(offset::FSTS, status.into_bits());
    }
}

/// The low and the high half of `value`.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
