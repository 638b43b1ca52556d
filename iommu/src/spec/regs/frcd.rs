// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fault recording register, FRCD (128 bits, read-only but for F).

use bitfield_struct::bitfield;

/// Fault recording register.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct FaultRecord {
    /// FI: bits 63:12 the page of the request's address, or 63:48 the index of an interrupt; the rest is 0.
    pub fi: u64,
    /// SID: who sent the request.
    pub sid: u16,
    #[bits(12)]
    __: u16,
    /// T2: with T1, 00 write, 10 read, 11 atomic, 01 page request.
    pub t2: bool,
    /// PRIV: the request has supervisor privilege.
    pub privileged: bool,
    /// EXE: the request asks for instruction fetch.
    pub exe: bool,
    /// PP: PASID is valid.
    pub pp: bool,
    /// FR: the reason.
    pub reason: u8,
    /// PV: the address space of the request.
    #[bits(20)]
    pub pasid: u32,
    /// AT: 0 untranslated, 1 translation request, 2 translated.
    #[bits(2)]
    pub at: u8,
    /// T1: see T2.
    pub t1: bool,
    /// F: the register holds a fault. Cleared by writing 1.
    pub f: bool,
}
