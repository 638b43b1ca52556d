// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation completion status register, ICS (0x9C, 32 bits).

use bitfield_struct::bitfield;

/// Invalidation completion status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CompletionStatus {
    /// IWC: a wait descriptor that asks for an interrupt has completed. Cleared by writing 1.
    pub iwc: bool,
    #[bits(31)]
    __: u32,
}
