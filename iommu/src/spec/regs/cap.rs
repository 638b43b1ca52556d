// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Capability register, CAP (0x08, 64 bits, read-only).

use bitfield_struct::bitfield;

/// Capability register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Cap {
    /// ND: domain ids have 4 + 2 * ND bits; 7 is reserved.
    #[bits(3)]
    pub nd: u8,
    /// AFL: advanced fault logging.
    pub afl: bool,
    /// RWBF: software must flush the write buffer.
    pub rwbf: bool,
    /// PLMR: protected low-memory region.
    pub plmr: bool,
    /// PHMR: protected high-memory region.
    pub phmr: bool,
    /// CM: entries that are not present may be cached.
    pub cm: bool,
    /// SAGAW: second-stage table widths; bit 1 is 39 bits, bit 2 48 bits, bit 3 57 bits.
    #[bits(5)]
    pub sagaw: u8,
    #[bits(3)]
    __: u8,
    /// MGAW: the widest IOVA in bits, minus 1.
    #[bits(6)]
    pub mgaw: u8,
    /// ZLR: zero-length reads to write-only pages.
    pub zlr: bool,
    __: bool,
    /// FRO: offset of the first fault recording register, in units of 16 bytes.
    #[bits(10)]
    pub fro: u16,
    /// SSLPS: second-stage large pages; bit 0 is 2 MiB, bit 1 1 GiB.
    #[bits(4)]
    pub sslps: u8,
    __: bool,
    /// PSI: page-selective IOTLB invalidation.
    pub psi: bool,
    /// NFR: number of fault recording registers, minus 1.
    pub nfr: u8,
    /// MAMV: largest address mask of a second-stage page-selective invalidation.
    #[bits(6)]
    pub mamv: u8,
    /// DWD: writes are drained on invalidation.
    pub dwd: bool,
    /// DRD: reads are drained on invalidation.
    pub drd: bool,
    /// FS1GP: first-stage 1 GiB pages.
    pub fs1gp: bool,
    #[bits(2)]
    __: u8,
    /// PI: posted interrupts.
    pub pi: bool,
    /// FS5LP: five-level first-stage tables.
    pub fs5lp: bool,
    /// ECMDS: enhanced commands.
    pub ecmds: bool,
    /// ESIRTPS: setting the interrupt table pointer invalidates the interrupt entry cache.
    pub esirtps: bool,
    /// ESRTPS: setting the root table pointer invalidates context, PASID and IOTLB caches.
    pub esrtps: bool,
}
