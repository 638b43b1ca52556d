// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! IOTLB invalidate register, IOTLB (64 bits).

use bitfield_struct::bitfield;

/// IOTLB invalidate register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IotlbInvalidate {
    __: u32,
    /// DID: domain.
    pub did: u16,
    /// DW: drain writes.
    pub dw: bool,
    /// DR: drain reads.
    pub dr: bool,
    #[bits(7)]
    __: u8,
    /// IAIG: granularity carried out; 0 when the command was refused. Read-only.
    #[bits(2)]
    pub iaig: u8,
    __: bool,
    /// IIRG: granularity asked for; 1 global, 2 domain, 3 page.
    #[bits(2)]
    pub iirg: u8,
    __: bool,
    /// IVT: invalidate; reads as 1 until done.
    pub ivt: bool,
}
