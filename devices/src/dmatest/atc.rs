// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The address translation cache: pages that translation requests were granted, at most [`CAPACITY`], the oldest making room.
//!
//! What is found may be used within the DMA section in which it was looked up: an invalidation drops first and then waits for
//! sections. A grant that was asked for before a drop is not kept after it ([`Stamp`]).

use super::upstream::Grant;
use iommu::address::{Iova, IovaRange};
use iommu::ids::Pasid;
use iommu::invalidation::DeviceSpaces;
use std::collections::{HashMap, VecDeque};

/// Pages that are kept.
pub(super) const CAPACITY: usize = 1024;

/// What a page is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) pasid: Option<Pasid>,
    pub(super) privileged: bool,
    /// The page's untranslated address.
    pub(super) page: Iova,
}

/// A moment in the cache's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// The cache.
#[derive(Debug, Default)]
pub(super) struct Atc {
    pages: HashMap<Key, Grant>,
    order: VecDeque<Key>,
    drops: u64,
}

impl Atc {
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The moment before a translation is asked for.
    pub(super) const fn stamp(&self) -> Stamp {
        Stamp(self.drops)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Grant> {
        self.pages.get(key).copied()
    }

    /// Keeps a grant that was asked for at `stamp`, unless something was dropped since.
    pub(super) fn insert(&mut self, stamp: Stamp, key: Key, grant: Grant) {
        if stamp != self.stamp() {
            return;
        }
        if self.pages.insert(key, grant).is_some() {
            return;
        }
        if self.order.len() >= CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.pages.remove(&oldest);
        }
        self.order.push_back(key);
    }

    /// Drops the pages of `range` in `spaces`.
    pub(super) fn invalidate(&mut self, spaces: DeviceSpaces, range: IovaRange) {
        self.drop_where(|key| {
            let meant = match spaces {
                DeviceSpaces::WithoutPasid => key.pasid.is_none(),
                DeviceSpaces::Pasid(pasid) => key.pasid == Some(pasid),
                DeviceSpaces::AllPasids => key.pasid.is_some(),
            };
            meant && range.contains(key.page)
        });
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.drop_where(|_| true);
    }

    fn drop_where(&mut self, named: impl Fn(&Key) -> bool) {
        self.drops = self.drops.wrapping_add(1);
        self.pages.retain(|key, _| !named(key));
        self.order.retain(|key| !named(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    fn key(pasid: Option<u32>, page: u64) -> Key {
        Key {
            pasid: pasid.map(|p| Pasid::new(p).unwrap()),
            privileged: false,
            page: Iova(page),
        }
    }

    fn grant(page: u64) -> Grant {
        Grant {
            page: GuestAddress(page),
            read: true,
            ..Grant::default()
        }
    }

    fn filled() -> Atc {
        let mut atc = Atc::default();
        for pasid in [None, Some(1), Some(2)] {
            for page in [0x1000, 0x2000, 0x8000] {
                atc.insert(atc.stamp(), key(pasid, page), grant(page));
            }
        }
        atc
    }

    #[test]
    fn invalidation_drops_what_it_names_and_nothing_else() {
        let range = IovaRange::new(Iova(0x2000), Iova(0x3fff)).unwrap();
        let pasid = Pasid::new(1).unwrap();
        let table = [
            (DeviceSpaces::WithoutPasid, [false, true, true]),
            (DeviceSpaces::Pasid(pasid), [true, false, true]),
            (DeviceSpaces::AllPasids, [true, false, false]),
        ];
        for (spaces, kept) in table {
            let mut atc = filled();
            atc.invalidate(spaces, range);
            let found = [None, Some(1), Some(2)].map(|p| atc.get(&key(p, 0x2000)).is_some());
            assert_eq!(found, kept, "{spaces:?}");
            for pasid in [None, Some(1), Some(2)] {
                assert_eq!(atc.get(&key(pasid, 0x1000)), Some(grant(0x1000)));
                assert_eq!(atc.get(&key(pasid, 0x8000)), Some(grant(0x8000)));
            }
        }
    }

    #[test]
    fn grant_that_was_asked_for_before_a_drop_is_not_kept() {
        let mut atc = Atc::default();
        let stamp = atc.stamp();
        let elsewhere = IovaRange::new(Iova(0x9000), Iova(0x9fff)).unwrap();
        atc.invalidate(DeviceSpaces::WithoutPasid, elsewhere);
        atc.insert(stamp, key(None, 0x1000), grant(0x1000));
        assert_eq!(atc.len(), 0);
    }

    #[test]
    fn full_cache_forgets_the_oldest() {
        let mut atc = Atc::default();
        for page in 0..1025 {
            atc.insert(atc.stamp(), key(None, page << 12), grant(page << 12));
        }
        assert_eq!(atc.len(), 1024);
        assert_eq!(atc.get(&key(None, 0)), None);
        assert!(atc.get(&key(None, 1 << 12)).is_some());
        assert!(atc.get(&key(None, 1024 << 12)).is_some());
        atc.clear();
        assert_eq!((atc.len(), atc.order.len()), (0, 0));
    }
}
