// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page request status register, PRS (0xDC, 32 bits).

use bitfield_struct::bitfield;

/// Page request status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PageRequestStatus {
    /// PPR: a page request was queued. Cleared by writing 1.
    pub ppr: bool,
    /// PRO: a page request found the queue full. Cleared by writing 1; no request is queued meanwhile.
    pub pro: bool,
    #[bits(30)]
    __: u32,
}

impl PageRequestStatus {
    /// Whether some condition is pending that a page request event was due for.
    #[must_use]
    pub const fn pending(self) -> bool {
        self.ppr() || self.pro()
    }
}
