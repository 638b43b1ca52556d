// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Addresses of the two spaces a remapping unit stands between, and checked ranges of them.
//!
//! There is no conversion between the spaces and no `+`: an IOVA becomes a guest-physical address only by translation.

use std::fmt;

/// A guest-physical address.
pub type Gpa = vm_memory::GuestAddress;

/// Bytes in the smallest page of every table of the unit.
pub const PAGE_SIZE: u64 = 4096;

/// An I/O virtual address: what a device puts on the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(pub u64);

impl Iova {
    /// The address of the 4 KiB page that contains this address.
    #[must_use]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The address `offset` bytes further on, or `None` beyond the last byte of the space.
    #[must_use]
    pub const fn checked_add(self, offset: u64) -> Option<Self> {
        match self.0.checked_add(offset) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A non-empty range of I/O virtual addresses, both ends inclusive, so that the whole 64-bit space is one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IovaRange {
    start: Iova,
    last: Iova,
}

impl IovaRange {
    /// Every I/O virtual address there is.
    pub const ALL: Self = Self {
        start: Iova(0),
        last: Iova(u64::MAX),
    };

    /// The range from `start` up to and including `last`; `None` when `last` lies before `start`.
    #[must_use]
    pub const fn new(start: Iova, last: Iova) -> Option<Self> {
        if start.0 <= last.0 {
            Some(Self { start, last })
        } else {
            None
        }
    }

    /// The `len` bytes from `start` on; `None` when `len` is 0 or the range passes the last byte of the space.
    #[must_use]
    pub const fn from_len(start: Iova, len: u64) -> Option<Self> {
        match len.checked_sub(1) {
            Some(extra) => match start.checked_add(extra) {
                Some(last) => Some(Self { start, last }),
                None => None,
            },
            None => None,
        }
    }

    /// The naturally aligned block of `PAGE_SIZE << order` bytes that contains `address`; orders of 52 and above are the
    /// whole space.
    #[must_use]
    pub const fn aligned_block(address: Iova, order: u32) -> Self {
        if order >= 52 {
            return Self::ALL;
        }
        let mask = (PAGE_SIZE << order) - 1;
        Self {
            start: Iova(address.0 & !mask),
            last: Iova(address.0 | mask),
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(&self) -> Iova {
        self.start
    }

    /// The last address, which belongs to the range.
    #[must_use]
    pub const fn last(&self) -> Iova {
        self.last
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub const fn contains(&self, address: Iova) -> bool {
        self.start.0 <= address.0 && address.0 <= self.last.0
    }

    /// Whether the two ranges share an address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start.0 <= other.last.0 && other.start.0 <= self.last.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_no_bytes_is_refused() {
        assert_eq!(IovaRange::from_len(Iova(0x1000), 0), None);
    }

    #[test]
    fn range_up_to_the_last_byte_is_accepted() {
        let range = IovaRange::from_len(Iova(u64::MAX - 0xfff), 0x1000).unwrap();
        assert_eq!(range.last(), Iova(u64::MAX));
    }

    #[test]
    fn range_beyond_the_last_byte_is_refused() {
        assert_eq!(IovaRange::from_len(Iova(u64::MAX), 2), None);
    }

    #[test]
    fn aligned_block_masks_the_low_bits() {
        let block = IovaRange::aligned_block(Iova(0x1234_5678), 9);
        assert_eq!(
            (block.start(), block.last()),
            (Iova(0x1220_0000), Iova(0x123f_ffff))
        );
    }

    #[test]
    fn aligned_block_of_a_huge_order_is_everything() {
        assert_eq!(IovaRange::aligned_block(Iova(0x1000), 63), IovaRange::ALL);
    }
}
