// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping table address register, IRTA (0xB8, 64 bits). Takes effect by GCMD.SIRTP.

use bitfield_struct::bitfield;

/// Interrupt remapping table address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptTableAddress {
    /// S: the table has 2^(S + 1) entries.
    #[bits(4)]
    pub s: u8,
    #[bits(7)]
    __: u8,
    /// EIME: destinations are 32-bit APIC ids.
    pub eime: bool,
    /// IRTA: guest-physical page number of the table.
    #[bits(52)]
    pub page: u64,
}
