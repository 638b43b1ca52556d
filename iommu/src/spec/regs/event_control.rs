// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Event control registers: FECTL (0x38) for faults, IECTL (0xA0) for completed invalidations, PECTL (0xE0) for page
//! requests (32 bits).

use bitfield_struct::bitfield;

/// Event control register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventControl {
    #[bits(30)]
    __: u32,
    /// IP: a message is due and could not be sent yet. Read-only.
    pub ip: bool,
    /// IM: messages are held back.
    pub im: bool,
}
