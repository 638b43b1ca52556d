// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Global status register, GSTS (0x1C, 32 bits, read-only).

use bitfield_struct::bitfield;

/// Global status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GlobalStatus {
    #[bits(23)]
    __: u32,
    /// CFIS: compatibility-format interrupts pass.
    pub cfis: bool,
    /// IRTPS: IRTA has been taken over.
    pub irtps: bool,
    /// IRES: interrupts are remapped.
    pub ires: bool,
    /// QIES: the invalidation queue is processed.
    pub qies: bool,
    /// WBFS: the write buffer is being flushed.
    pub wbfs: bool,
    /// AFLS: faults are logged in memory.
    pub afls: bool,
    /// FLS: the fault log address has been taken over.
    pub fls: bool,
    /// RTPS: RTADDR has been taken over.
    pub rtps: bool,
    /// TES: DMA is translated.
    pub tes: bool,
}
