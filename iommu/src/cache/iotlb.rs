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
use crate::request::Perms;
use crate::sync::{AtomicU64, Ordering};
use crate::walk::{FirstStageRights, Page};
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

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
pub(crate) struct PageWord {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    pub(crate) first_write: bool,
    pub(crate) first_user: bool,
    pub(crate) first_execute: bool,
    global: bool,
    pub(crate) dirty: bool,
    #[bits(4)]
    __: u8,
    #[bits(52)]
    pub(crate) page: u64,
}

#[inline]
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

const fn size_of(shift: u32) -> Option<u8> {
    match shift {
        12 => Some(0),
        21 => Some(1),
        30 => Some(2),
        _ => None,
    }
}

fn encode(page: &Page) -> u64 {
    PageWord::new()
        .with_read(page.perms.read)
        .with_write(page.perms.write)
        .with_execute(page.perms.execute)
        .with_first_write(page.first_stage.write)
        .with_first_user(page.first_stage.user)
        .with_first_execute(page.first_stage.execute)
        .with_global(page.first_stage.global)
        .with_dirty(page.dirty)
        .with_page(page.gpa.0 >> 12)
        .into_bits()
}

#[inline]
fn decode(value: PageWord, shift: u32) -> Page {
    Page {
        gpa: GuestAddress(value.page() << 12),
        shift,
        perms: Perms {
            read: value.read(),
            write: value.write(),
            execute: value.execute(),
        },
        first_stage: FirstStageRights {
            write: value.first_write(),
            user: value.first_user(),
            execute: value.first_execute(),
            global: value.global(),
        },
        dirty: value.dirty(),
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
        let (value, shift) = self.peek(space, address)?;
        Some(decode(value, shift))
    }

    /// The page of `space` that contains `address` as it is kept, and its size as a power of two.
    #[inline]
    pub(crate) fn peek(&self, space: Space, address: Iova) -> Option<(PageWord, u32)> {
        let sizes = self.sizes.load(Ordering::Relaxed);
        for size in (0..SIZES).filter(|size| sizes >> size & 1 != 0) {
            if let Some([word]) = self.lines.get(&tag(space, size, address.0)) {
                return Some((PageWord::from_bits(word), shift(size)));
            }
        }
        None
    }

    /// Keeps `page`, which contains `address` and is a piece of a first-stage page of 2^`whole` bytes, or all of it.
    pub(crate) fn insert(
        &self,
        stamp: Stamp,
        space: Space,
        address: Iova,
        page: &Page,
        whole: u32,
    ) {
        let Some(size) = size_of(page.shift) else {
            return;
        };
        // Before the line is there, so that whoever drops sees it.
        if space.pasid.is_some() {
            let (word, bit) = self.domain_bit(space.domain);
            set(word, bit);
        }
        if let Some(whole) = size_of(whole)
            && whole > size
        {
            set(&self.pieces, 1 << whole);
        }
        let tag = tag(space, size, address.0);
        self.lines.insert(stamp, &tag, [encode(page)]);
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
            .matching(|tag, _| Tag::from_bits(tag[0]).domain() == domain.0)
    }

    /// Drops every page of `pasid` in `domain`.
    pub(crate) fn drop_pasid(&self, domain: DomainId, pasid: Pasid) -> u64 {
        self.lines.start_drop().matching(|tag, _| {
            let held = Tag::from_bits(tag[0]);
            held.domain() == domain.0 && held.has_pasid() && held.pasid() == pasid.get()
        })
    }

    /// Drops the second-stage pages of `domain` that share an address with `range`, large ones that merely contain it
    /// included, and all its pages of PASIDs: which of those go through the range cannot be told from their addresses.
    pub(crate) fn drop_pages(&self, domain: DomainId, range: &IovaRange) -> u64 {
        let (word, bit) = self.domain_bit(domain);
        // A page that is kept after the bit is cleared and before the drop starts has set it again by then.
        let had_pasids = clear(word, bit);
        let dropper = self.lines.start_drop();
        let with_pasids = had_pasids || word.load(Ordering::SeqCst) & bit != 0;
        let space = Space {
            domain,
            pasid: None,
        };
        if with_pasids {
            return dropper.matching(|tag, _| {
                let held = Tag::from_bits(tag[0]);
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
        let space = Space {
            domain,
            pasid: Some(pasid),
        };
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
        let named = tag(space, 0, 0)[0];
        dropper.matching(|tag, _| {
            let held = Tag::from_bits(tag[0]).with_size(0).into_bits();
            held == named && overlaps(tag, range)
        })
    }

    fn domain_bit(&self, domain: DomainId) -> (&AtomicU64, u64) {
        let word = &self.with_pasids[usize::from(domain.0 / 64)];
        (word, 1 << (domain.0 % 64))
    }
}

/// Whether the page with this tag shares an address with `range`.
fn overlaps(tag: &[u64; 2], range: &IovaRange) -> bool {
    let order = shift(Tag::from_bits(tag[0]).size()) - 12;
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
