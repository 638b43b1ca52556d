// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The IOTLB: pages, tagged with the domain, the PASID slot and the address, each in the size of its leaf.
//!
//! Software uses one domain id for one set of tables, so the tag needs no source.

use super::Stamp;
use super::lines::Lines;
use crate::address::{Iova, IovaRange};
use crate::ids::{DomainId, Pasid};
use crate::request::Perms;
use crate::sync::{AtomicU64, Ordering};
use crate::walk::Page;
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// Sizes of pages there are: 4 KiB, 2 MiB and 1 GiB.
const SIZES: u8 = 3;

/// The IOTLB.
#[derive(Debug)]
pub(crate) struct Iotlb {
    lines: Lines<2, 1>,
    /// Bit n is set when a page of size n was ever kept, so that a hit need not look for sizes that the guest never uses.
    sizes: AtomicU64,
}

/// The address space that a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) domain: DomainId,
    /// The PASID of pages that depend on it; second-stage pages do not.
    pub(crate) pasid: Option<Pasid>,
}

/// The first word of a tag; the second is the page's address.
#[bitfield(u64)]
struct Tag {
    domain: u16,
    #[bits(20)]
    pasid: u32,
    has_pasid: bool,
    /// 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB.
    #[bits(2)]
    size: u8,
    #[bits(24)]
    __: u32,
    /// A tag in use is not 0.
    in_use: bool,
}

/// The value: the rights, and the guest-physical page in the other bits.
#[bitfield(u64)]
struct Value {
    read: bool,
    write: bool,
    #[bits(10)]
    __: u16,
    #[bits(52)]
    page: u64,
}

fn tag(space: Space, size: u8, address: u64) -> [u64; 2] {
    let shift = shift(size);
    [
        Tag::new()
            .with_domain(space.domain.0)
            .with_pasid(space.pasid.map_or(0, Pasid::get))
            .with_has_pasid(space.pasid.is_some())
            .with_size(size)
            .with_in_use(true)
            .into_bits(),
        address >> shift << shift,
    ]
}

const fn shift(size: u8) -> u32 {
    12 + 9 * size as u32
}

impl Iotlb {
    pub(crate) fn new(lines: usize) -> Self {
        Self {
            lines: Lines::new(lines),
            sizes: AtomicU64::new(0),
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.lines.stamp()
    }

    /// The page of `space` that contains `address`.
    #[inline]
    pub(crate) fn get(&self, space: Space, address: Iova) -> Option<Page> {
        let sizes = self.sizes.load(Ordering::Relaxed);
        (0..SIZES)
            .filter(|size| sizes >> size & 1 != 0)
            .find_map(|size| {
                let [word] = self.lines.get(&tag(space, size, address.0))?;
                let value = Value::from_bits(word);
                Some(Page {
                    gpa: GuestAddress(value.page() << 12),
                    shift: shift(size),
                    perms: Perms {
                        read: value.read(),
                        write: value.write(),
                    },
                })
            })
    }

    /// Keeps `page`, which contains `address`.
    pub(crate) fn insert(&self, stamp: Stamp, space: Space, address: Iova, page: &Page) {
        let Some(size) = (0..SIZES).find(|size| shift(*size) == page.shift) else {
            return;
        };
        let value = Value::new()
            .with_read(page.perms.read)
            .with_write(page.perms.write)
            .with_page(page.gpa.0 >> 12);
        self.lines
            .insert(stamp, &tag(space, size, address.0), [value.into_bits()]);
        if self.sizes.load(Ordering::Relaxed) >> size & 1 == 0 {
            self.sizes.fetch_or(1 << size, Ordering::Relaxed);
        }
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.lines.start_drop().all()
    }

    /// Drops every page of `domain`.
    pub(crate) fn drop_domain(&self, domain: DomainId) -> u64 {
        self.lines
            .start_drop()
            .matching(|tag, _| Tag::from_bits(tag[0]).domain() == domain.0)
    }

    /// Drops the pages of `domain` that share an address with `range`, large ones that merely contain it included.
    pub(crate) fn drop_pages(&self, domain: DomainId, range: &IovaRange) -> u64 {
        let dropper = self.lines.start_drop();
        let space = Space {
            domain,
            pasid: None,
        };
        let blocks = [0, 1, 2].map(|size: u8| {
            let first = range.start().0 >> shift(size);
            (size, first, range.last().0 >> shift(size))
        });
        let total = blocks.iter().fold(0u64, |sum, (_, first, last)| {
            sum.saturating_add(last - first)
        });
        if total <= self.lines.sets() as u64 {
            return blocks
                .into_iter()
                .flat_map(|(size, first, last)| (first..=last).map(move |block| (size, block)))
                .map(|(size, block)| dropper.tag(&tag(space, size, block << shift(size))))
                .sum();
        }
        dropper.matching(|tag, _| {
            let held = Tag::from_bits(tag[0]);
            let order = shift(held.size()) - 12;
            held.domain() == domain.0
                && IovaRange::aligned_block(Iova(tag[1]), order).overlaps(range)
        })
    }
}
