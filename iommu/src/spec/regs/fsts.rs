// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fault status register, FSTS (0x34, 32 bits).

use bitfield_struct::bitfield;

/// Fault status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FaultStatus {
    /// PFO: a fault was lost. Cleared by writing 1.
    pub pfo: bool,
    /// PPF: some fault recording register holds a fault. Read-only.
    pub ppf: bool,
    /// AFO: a fault was lost by the log in memory.
    pub afo: bool,
    /// APF: the log in memory holds a fault.
    pub apf: bool,
    /// IQE: the invalidation queue stopped at an error. Cleared by writing 1.
    pub iqe: bool,
    /// ICE: a device answered an invalidation wrongly. Cleared by writing 1.
    pub ice: bool,
    /// ITE: a device did not answer an invalidation. Cleared by writing 1.
    pub ite: bool,
    __: bool,
    /// FRI: index of the fault recording register that PPF became 1 with. Read-only.
    pub fri: u8,
    __: u16,
}

impl FaultStatus {
    /// Whether some condition is pending that a fault event was due for.
    #[must_use]
    pub const fn pending(self) -> bool {
        self.pfo() || self.ppf() || self.iqe() || self.ice() || self.ite()
    }

    /// Whether the invalidation queue must not be processed.
    #[must_use]
    pub const fn queue_frozen(self) -> bool {
        self.iqe() || self.ite()
    }
}
