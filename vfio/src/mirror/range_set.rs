// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A set of addresses as ranges that neither overlap nor touch.

use iommu::address::{Iova, IovaRange};
use std::collections::BTreeMap;

/// Ranges by their first address, each with its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds `range`, as one with whatever it overlaps or touches.
    pub fn insert(&mut self, range: IovaRange) {
        let mut start = range.start().0;
        let mut last = range.last().0;
        if let Some((before, end)) = self.ranges.range(..start).next_back()
            && end.saturating_add(1) >= start
        {
            start = *before;
            last = last.max(*end);
        }
        loop {
            let next = self.ranges.range(start..=last.saturating_add(1)).next();
            let Some((at, end)) = next.map(|(at, end)| (*at, *end)) else {
                break;
            };
            self.ranges.remove(&at);
            last = last.max(end);
        }
        self.ranges.insert(start, last);
    }

    /// Adds `range` to at most `most` ranges: a set that is full takes it, with what lies between, into its neighbour.
    pub fn insert_within(&mut self, range: IovaRange, most: usize) {
        self.insert(range);
        if self.ranges.len() > most {
            let neighbour = self.ranges.range(..range.start().0).next_back();
            let neighbour = neighbour.map(|(start, _)| *start);
            let from = neighbour.unwrap_or(range.start().0);
            let to = self.ranges.range(from..).nth(1).map(|(_, last)| *last);
            if let Some(hull) = to.and_then(|last| IovaRange::new(Iova(from), Iova(last))) {
                self.insert(hull);
            }
        }
    }

    /// Takes `range` out.
    pub fn remove(&mut self, range: IovaRange) {
        loop {
            let next = self.ranges.range(..=range.last().0).next_back();
            let found = next.map(|(start, last)| (*start, *last));
            let Some((start, last)) = found.filter(|(_, last)| *last >= range.start().0) else {
                return;
            };
            self.ranges.remove(&start);
            if last > range.last().0 {
                self.ranges.insert(range.last().0 + 1, last);
            }
            if start < range.start().0 {
                self.ranges.insert(start, range.start().0 - 1);
            }
        }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = IovaRange> {
        self.ranges
            .iter()
            .filter_map(|(start, last)| IovaRange::new(Iova(*start), Iova(*last)))
    }

    /// Whether `iova` is in the set.
    #[must_use]
    pub fn contains(&self, iova: Iova) -> bool {
        let before = self.ranges.range(..=iova.0).next_back();
        before.is_some_and(|(_, last)| *last >= iova.0)
    }

    /// The lowest address.
    #[must_use]
    pub fn first(&self) -> Option<Iova> {
        self.ranges.keys().next().map(|start| Iova(*start))
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no address in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether every address is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ranges.get(&0) == Some(&u64::MAX)
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }
}

impl Extend<IovaRange> for RangeSet {
    fn extend<T: IntoIterator<Item = IovaRange>>(&mut self, ranges: T) {
        for range in ranges {
            self.insert(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange::new(Iova(start), Iova(last)).unwrap()
    }

    #[test]
    fn insert_joins_what_touches_up_to_the_last_byte() {
        let mut set = RangeSet::default();
        set.extend([
            range(0x2000, u64::MAX),
            range(0, 0xfff),
            range(0x1000, 0x1fff),
        ]);
        assert!(set.is_all());
        assert_eq!(set.len(), 1);
        set.insert(IovaRange::ALL);
        assert!(set.is_all());
    }

    #[test]
    fn insert_within_covers_what_it_was_given() {
        let mut set = RangeSet::default();
        for start in [0x9000, 0x1000, 0x5000, 0x3000] {
            set.insert_within(range(start, start + 0xfff), 2);
            assert!(set.len() <= 2);
        }
        for start in [0x9000, 0x1000, 0x5000, 0x3000] {
            assert!(set.iter().any(|range| range.contains(Iova(start))));
        }
    }

    proptest! {
        #[test]
        fn set_equals_a_set_of_addresses(
            steps in prop::collection::vec((any::<bool>(), 0..40u64, 0..10u64), 1..30),
        ) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (insert, start, more) in steps {
                let addresses = start..=start + more;
                if insert {
                    set.insert(range(start, start + more));
                    model.extend(addresses);
                } else {
                    set.remove(range(start, start + more));
                    model.retain(|address| !addresses.contains(address));
                }
                let listed: Vec<u64> = set.iter().flat_map(|range| range.start().0..=range.last().0).collect();
                prop_assert_eq!(listed, model.iter().copied().collect::<Vec<u64>>());
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].last().0 + 1 < pair[1].start().0));
            }
        }
    }
}
