// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The IOTLB: pages, tagged with the domain, the PASID slot and the address, each in the size of its leaf. The
//! paging-structure cache is a second one, whose "pages" are tables with the regions that they map.
//!
//! Software uses one domain id for one set of tables, so the tag needs no source. First-stage and nested pages carry their
//! PASID, second-stage pages do not.

use super::Stamp;
use super::lines::{Dropper, Lines};
use crate::address::{Iova, IovaRange};
use crate::ids::{DomainId, Pasid};
use crate::sync::{AtomicU64, Ordering};
use crate::walk::Page;
use bitfield_struct::bitfield;

/// Sizes of pages there are: 4 KiB, 2 MiB and 1 GiB.
const SIZES: u8 = 3;
/// Words of a bitmap of all domains.
const DOMAIN_WORDS: usize = (1 << 16) / 64;

/// The IOTLB.
#[derive(Debug)]
pub(crate) struct Iotlb {
    lines: Lines<2, 1>,
    /// Bit n is set when a page of size n was ever kept, so that a hit need not look for sizes that the guest never uses.
    sizes: AtomicU64,
    /// Bit n is set when a piece of a first-stage page of size n was ever kept: an invalidation of any address in that page
    /// names every piece of it.
    pieces: AtomicU64,
    /// The domains that may have pages of PASIDs: a bit too many costs a search. Any
    /// invalidation of the domain's second stage names those pages.
    with_pasids: Box<[AtomicU64]>,
}

/// The address space that a page belongs to. With the page's size the first word of its tag; the second is its address.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub(crate) struct Space {
    domain: u16,
    #[bits(20)]
    pasid: Pasid,
    has_pasid: bool,
    /// 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB.
    #[bits(2)]
    size: u8,
    #[bits(24)]
    __: u32,
    /// A tag in use is not 0.
    in_use: bool,
}

impl Space {
    /// The pages of `domain`, those that depend on the PASID or the second-stage pages, which do not.
    #[inline]
    pub(crate) const fn of(domain: DomainId, pasid: Option<Pasid>) -> Self {
        let space = Self::new().with_domain(domain.0).with_in_use(true);
        match pasid {
            Some(pasid) => space.with_pasid(pasid).with_has_pasid(true),
            None => space,
        }
    }
}

#[inline]
const fn tag(space: Space, size: u8, address: u64) -> [u64; 2] {
    let shift = shift(size);
    [space.with_size(size).into_bits(), address >> shift << shift]
}

const fn shift(size: u8) -> u32 {
    12 + 9 * size as u32
}

/// The size of what an entry of `level` maps; `None` where that is no size of pages.
const fn size_of(level: u32) -> Option<u8> {
    match level {
        1 => Some(0),
        2 => Some(1),
        3 => Some(2),
        _ => None,
    }
}

impl Iotlb {
    pub(crate) fn new(lines: usize) -> Self {
        Self {
            lines: Lines::new(lines),
            sizes: AtomicU64::new(0),
            pieces: AtomicU64::new(0),
            with_pasids: (0..DOMAIN_WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.lines.stamp()
    }

    /// The page of `space` that contains `address`.
    #[inline]
    pub(crate) fn get(&self, space: Space, address: Iova) -> Option<Page> {
        let sizes = self.sizes.load(Ordering::Relaxed);
        for size in (0..SIZES).filter(|size| sizes >> size & 1 != 0) {
            if let Some([word]) = self.lines.get(&tag(space, size, address.0)) {
                return Some(Page::from_bits(word));
            }
        }
        None
    }

    /// Keeps `page`, which contains `address` and is a piece of a first-stage page of level `whole`, or all of it.
    #[inline]
    pub(crate) fn insert(&self, stamp: Stamp, space: Space, address: Iova, page: Page, whole: u32) {
        let Some(size) = size_of(page.level()) else {
            return;
        };
        if self.lines.sets() == 0 {
            // No size is ever kept, so that none is looked for.
            return;
        }
        // Before the line is there, so that whoever drops sees it.
        if space.has_pasid() {
            let (word, bit) = self.domain_bit(DomainId(space.domain()));
            set(word, bit);
        }
        if let Some(whole) = size_of(whole)
            && whole > size
        {
            set(&self.pieces, 1 << whole);
        }
        let tag = tag(space, size, address.0);
        self.lines.insert(stamp, &tag, [page.into_bits()]);
        set(&self.sizes, 1 << size);
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.lines.start_drop().all()
    }

    /// Drops every page of `domain`.
    pub(crate) fn drop_domain(&self, domain: DomainId) -> u64 {
        let (word, bit) = self.domain_bit(domain);
        clear(word, bit);
        self.lines
            .start_drop()
            .matching(|tag, _| Space::from_bits(tag[0]).domain() == domain.0)
    }

    /// Drops every page of `pasid` in `domain`.
    pub(crate) fn drop_pasid(&self, domain: DomainId, pasid: Pasid) -> u64 {
        let space = Space::of(domain, Some(pasid));
        self.lines
            .start_drop()
            .matching(|tag, _| Space::from_bits(tag[0]).with_size(0) == space)
    }

    /// Drops the second-stage pages of `domain` that share an address with `range`, large ones that merely contain it
    /// included, and all its pages of PASIDs: which of those go through the range cannot be told from their addresses.
    pub(crate) fn drop_pages(&self, domain: DomainId, range: &IovaRange) -> u64 {
        let (word, bit) = self.domain_bit(domain);
        // A page that is kept after the bit is cleared and before the drop starts has set it again by then.
        let had_pasids = clear(word, bit);
        let dropper = self.lines.start_drop();
        let with_pasids = had_pasids || word.load(Ordering::SeqCst) & bit != 0;
        let space = Space::of(domain, None);
        if with_pasids {
            return dropper.matching(|tag, _| {
                let held = Space::from_bits(tag[0]);
                held.domain() == domain.0 && (held.has_pasid() || overlaps(tag, range))
            });
        }
        self.drop_range(&dropper, space, range)
    }

    /// Drops the pages of `pasid` in `domain` that share an address with `range`, or are pieces of a page that does.
    pub(crate) fn drop_pasid_pages(
        &self,
        domain: DomainId,
        pasid: Pasid,
        range: &IovaRange,
    ) -> u64 {
        let dropper = self.lines.start_drop();
        let space = Space::of(domain, Some(pasid));
        let pieces = self.pieces.load(Ordering::SeqCst);
        let whole = (0..SIZES).rev().find(|size| pieces >> size & 1 != 0);
        let mask = whole.map_or(0, |size| (1 << shift(size)) - 1);
        let widened = IovaRange::new(Iova(range.start().0 & !mask), Iova(range.last().0 | mask));
        self.drop_range(&dropper, space, &widened.unwrap_or(IovaRange::ALL))
    }

    fn drop_range(&self, dropper: &Dropper<'_, 2, 1>, space: Space, range: &IovaRange) -> u64 {
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
            Space::from_bits(tag[0]).with_size(0) == space && overlaps(tag, range)
        })
    }

    fn domain_bit(&self, domain: DomainId) -> (&AtomicU64, u64) {
        let word = &self.with_pasids[usize::from(domain.0 / 64)];
        (word, 1 << (domain.0 % 64))
    }
}

/// Whether the page with this tag shares an address with `range`.
fn overlaps(tag: &[u64; 2], range: &IovaRange) -> bool {
    let order = shift(Space::from_bits(tag[0]).size()) - 12;
    IovaRange::aligned_block(Iova(tag[1]), order).overlaps(range)
}

/// Sets a bit that is usually set.
fn set(word: &AtomicU64, bit: u64) {
    if word.load(Ordering::SeqCst) & bit == 0 {
        word.fetch_or(bit, Ordering::SeqCst);
    }
}

/// Clears a bit that is usually clear. Returns whether it was set.
fn clear(word: &AtomicU64, bit: u64) -> bool {
    word.load(Ordering::SeqCst) & bit != 0 && word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
}
