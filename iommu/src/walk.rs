// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walks of paging structures: functions of the tables in memory and the capabilities, without any state.
//!
//! A walk reads each entry once and judges what it read, because the guest may change the tables meanwhile.

pub mod second_stage;

use crate::address::{Gpa, Iova};
use crate::request::Perms;

/// A page that a leaf maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its first byte.
    pub gpa: Gpa,
    /// Its size as a power of two in bytes: 12, 21 or 30.
    pub shift: u32,
    /// The rights of the whole walk.
    pub perms: Perms,
}

impl Page {
    const fn offset_mask(&self) -> u64 {
        (1 << self.shift) - 1
    }

    /// What `address`, which lies in the page, translates to.
    #[must_use]
    pub const fn translate(&self, address: Iova) -> Gpa {
        vm_memory::GuestAddress(self.gpa.0 | address.0 & self.offset_mask())
    }

    /// Bytes from `address` to the end of the page, at least 1.
    #[must_use]
    pub const fn len_from(&self, address: Iova) -> u64 {
        self.offset_mask() - (address.0 & self.offset_mask()) + 1
    }

    /// The last byte of the page.
    #[must_use]
    pub const fn last(&self) -> Gpa {
        vm_memory::GuestAddress(self.gpa.0 | self.offset_mask())
    }
}
