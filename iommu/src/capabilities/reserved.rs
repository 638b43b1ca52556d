// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bits that must be 0 in present paging entries, which depend on what the unit can do.

use super::Capabilities;
use crate::spec::first_stage::FirstStageEntry;
use crate::spec::regs::Cap;
use crate::spec::second_stage::SecondStageEntry;

/// All address bits that a paging entry can hold, above the page offset.
const ADDRESS_BITS: u64 = SecondStageEntry::new().with_page((1 << 40) - 1).into_bits();

/// The reserved bits of one stage's entries, in one word for each place that an entry can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBits {
    table: u64,
    /// Of 4 KiB, 2 MiB and 1 GiB.
    pages: [u64; 3],
    /// The bit that makes an entry a page, reserved where there is no page of that size.
    page_size: u64,
}

impl ReservedBits {
    /// Those of an entry in a table of `level`, 1 for the lowest, that maps a page or points to a table.
    #[must_use]
    #[inline]
    pub const fn at(&self, level: u32, is_page: bool) -> u64 {
        if !is_page {
            return self.table;
        }
        match level {
            1 => self.pages[0],
            2 => self.pages[1],
            3 => self.pages[2],
            _ => self.page_size,
        }
    }

    /// Those of the second stage.
    pub(super) const fn second_stage(
        cap: Cap,
        snoop_control: bool,
        host_address_width: u8,
    ) -> Self {
        let page_size = SecondStageEntry::new().with_page_size(true).into_bits();
        let snoop = SecondStageEntry::new().with_snoop(true).into_bits();
        let always =
            SecondStageEntry::new().with_reserved(true).into_bits() | beyond(host_address_width);
        let page = if snoop_control {
            always
        } else {
            always | snoop
        };
        Self {
            table: always | snoop,
            pages: [
                page,
                page | large(2) | if cap.sslps() & 1 == 0 { page_size } else { 0 },
                page | large(3) | if cap.sslps() & 2 == 0 { page_size } else { 0 },
            ],
            page_size,
        }
    }

    /// Those of the first stage.
    pub(super) const fn first_stage(cap: Cap, host_address_width: u8) -> Self {
        let page_size = FirstStageEntry::new().with_page_size(true).into_bits();
        let always = beyond(host_address_width);
        // The lowest bit of a large page's number is PAT.
        let pat = FirstStageEntry::new().with_page(1).into_bits();
        Self {
            table: always,
            pages: [
                always,
                always | large(2) & !pat,
                always | large(3) & !pat | if cap.fs1gp() { 0 } else { page_size },
            ],
            page_size,
        }
    }
}

/// Address bits beyond the host address width.
const fn beyond(host_address_width: u8) -> u64 {
    ADDRESS_BITS & (u64::MAX << host_address_width)
}

/// Address bits that a page as large as an entry of `level` maps has no use for.
const fn large(level: u32) -> u64 {
    ADDRESS_BITS & ((1 << (12 + 9 * (level - 1))) - 1)
}

impl Capabilities {
    /// The bits that are reserved in second-stage entries.
    #[must_use]
    pub const fn second_stage_reserved(&self) -> &ReservedBits {
        &self.second_stage_reserved
    }

    /// The bits that are reserved in first-stage entries.
    #[must_use]
    pub const fn first_stage_reserved(&self) -> &ReservedBits {
        &self.first_stage_reserved
    }
}
