// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page request queue address register, PQA (0xD0, 64 bits).

use bitfield_struct::bitfield;

/// Page request queue address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageQueueAddress {
    /// PQS: the queue has 2^PQS pages.
    #[bits(3)]
    pub pqs: u8,
    #[bits(9)]
    __: u16,
    /// PQA: guest-physical page number of the queue.
    #[bits(52)]
    pub page: u64,
}
