// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One device and four-level tables that map many times the pages that the IOTLB keeps, in raw values.

use iommu::address::Iova;
use iommu::capabilities::{Capabilities, LegacyOptions, ScalableOptions};
use iommu::ids::SourceId;
use iommu::memory::Ram;
use iommu::request::{Access, Request};
use iommu::translator::{CacheSizes, RootPointer, TableMode, Translator};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

/// Pages that the tables map, from IOVA 0 on.
pub const PAGES: u64 = 65536;
/// The lowest tables, one after the other: the entry of page n is the n-th word.
pub const LEAVES: u64 = 0x10_0000;

const DEVICE: SourceId = SourceId(0x0008);
const ROOT: u64 = 0x1000;

/// What requests go through.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Legacy,
    SecondStage,
    FirstStage,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Legacy, Self::SecondStage, Self::FirstStage];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::SecondStage => "scalable, second stage",
            Self::FirstStage => "scalable, first stage",
        }
    }

    /// The bits that make a table entry and a leaf usable.
    const fn entry_bits(self) -> u64 {
        match self {
            Self::Legacy | Self::SecondStage => 0x3,
            Self::FirstStage => 0x67,
        }
    }

    fn capabilities(self) -> Capabilities {
        match self {
            Self::Legacy => Capabilities::legacy(&LegacyOptions::default()),
            _ => Capabilities::scalable(&ScalableOptions::default()),
        }
        .expect("the default options")
    }

    /// Root, context, PASID directory and PASID entry.
    const fn entries(self) -> &'static [(u64, u64)] {
        match self {
            Self::Legacy => &[(0x1000, 0x2001), (0x2080, 0x1_0001), (0x2088, 0x0302)],
            Self::SecondStage => &[
                (0x1000, 0x2001),
                (0x2100, 0x4001),
                (0x4000, 0x5001),
                (0x5000, 0x1_0089),
                (0x5008, 0x3),
            ],
            Self::FirstStage => &[
                (0x1000, 0x2001),
                (0x2100, 0x4001),
                (0x4000, 0x5001),
                (0x5000, 0x49),
                (0x5008, 0x3),
                (0x5010, 0x1_0000),
            ],
        }
    }
}

/// The guest's RAM: below and above the hole under 4 GiB, as the machine has it.
pub fn ram() -> Arc<Ram> {
    let ranges = [(GuestAddress(0), 4 << 20), (GuestAddress(4 << 30), 4 << 20)];
    Arc::new(Ram::from_ranges(&ranges).expect("memory for a guest"))
}

/// A translator that finds its tables in `ram`.
pub fn translator(ram: &Arc<Ram>, kind: Kind) -> Translator {
    let set = |gpa: u64, word: u64| {
        ram.write_obj(word, GuestAddress(gpa))
            .expect("tables lie in RAM");
    };
    for (gpa, word) in kind.entries() {
        set(*gpa, *word);
    }
    let bits = kind.entry_bits();
    set(0x1_0000, 0x1_1000 | bits);
    set(0x1_1000, 0x1_2000 | bits);
    for table in 0..PAGES / 512 {
        set(0x1_2000 + 8 * table, (LEAVES + 0x1000 * table) | bits);
    }
    for page in 0..PAGES {
        set(LEAVES + 8 * page, (0x1_0000_0000 + 0x1000 * page) | bits);
    }
    let sizes = CacheSizes {
        tables: 0,
        ..CacheSizes::default()
    };
    let translator =
        Translator::with_cache_sizes(Arc::new(kind.capabilities()), Arc::clone(ram) as _, sizes);
    translator.set_translation(Some(RootPointer {
        table: GuestAddress(ROOT),
        mode: match kind {
            Kind::Legacy => TableMode::Legacy,
            _ => TableMode::Scalable,
        },
    }));
    translator
}

/// A read of `page`.
pub const fn read_of(page: u64) -> Request {
    Request::untranslated(DEVICE, address(page), Access::Read)
}

/// An address in `page`.
pub const fn address(page: u64) -> Iova {
    Iova(page << 12 | 0x10)
}
