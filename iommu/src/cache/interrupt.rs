// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The interrupt entry cache: valid interrupt remapping table entries, tagged with the index.

use super::Stamp;
use super::lines::Lines;
use crate::spec::irte::{Irte, IrteHigh, IrteLow};
use bitfield_struct::bitfield;

/// The interrupt entry cache.
#[derive(Debug)]
pub(crate) struct InterruptCache(Lines<1, 2>);

#[bitfield(u64)]
struct Tag {
    index: u16,
    #[bits(47)]
    __: u64,
    /// A tag in use is not 0.
    in_use: bool,
}

fn tag(index: u16) -> [u64; 1] {
    [Tag::new().with_index(index).with_in_use(true).into_bits()]
}

impl InterruptCache {
    pub(crate) fn new(lines: usize) -> Self {
        Self(Lines::new(lines))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    pub(crate) fn get(&self, index: u16) -> Option<Irte> {
        let [low, high] = self.0.get(&tag(index))?;
        Some(Irte {
            low: IrteLow::from_bits(low),
            high: IrteHigh::from_bits(high),
        })
    }

    pub(crate) fn insert(&self, stamp: Stamp, index: u16, entry: Irte) {
        let value = [entry.low.into_bits(), entry.high.into_bits()];
        self.0.insert(stamp, &tag(index), value);
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.0.start_drop().all()
    }

    /// Drops `count` entries from index `first` on; indices beyond 65535 do not exist.
    pub(crate) fn drop_block(&self, first: u16, count: u32) -> u64 {
        let dropper = self.0.start_drop();
        let named = u32::from(first)..u32::from(first).saturating_add(count);
        if u64::from(count) > self.0.sets() as u64 {
            return dropper
                .matching(|tag, _| named.contains(&u32::from(Tag::from_bits(tag[0]).index())));
        }
        named
            .map_while(|index| u16::try_from(index).ok())
            .map(|index| dropper.tag(&tag(index)))
            .sum()
    }
}
