// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Global command register, GCMD (0x18, 32 bits, write-only).
//!
//! TE, EAFL, QIE, IRE and CFI are levels: they act when they differ from GSTS. The others act whenever written as 1.

use bitfield_struct::bitfield;

/// Global command register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GlobalCommand {
    #[bits(23)]
    __: u32,
    /// CFI: compatibility-format interrupts pass.
    pub cfi: bool,
    /// SIRTP: take over IRTA.
    pub sirtp: bool,
    /// IRE: remap interrupts.
    pub ire: bool,
    /// QIE: process the invalidation queue.
    pub qie: bool,
    /// WBF: flush the write buffer.
    pub wbf: bool,
    /// EAFL: log faults in memory.
    pub eafl: bool,
    /// SFL: take over the fault log address.
    pub sfl: bool,
    /// SRTP: take over RTADDR.
    pub srtp: bool,
    /// TE: translate DMA.
    pub te: bool,
}
