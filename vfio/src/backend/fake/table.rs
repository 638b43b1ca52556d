// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One table of the fake host: its mappings, each with the borders that it was made or cut with.

use super::super::{Features, HostError, Limits, Role};
use crate::ram::HostVa;
use crate::run::{Rights, Run, around};
use iommu::address::{Iova, IovaRange, PAGE_SIZE};
use std::collections::BTreeMap;

/// One table.
#[derive(Clone, Debug)]
pub struct FakeTable {
    limits: Limits,
    entry_limit: Option<u32>,
    features: Features,
    role: Role,
    mappings: BTreeMap<u64, Mapping>,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    run: Run,
    host: HostVa,
}

impl FakeTable {
    pub(super) fn new(
        limits: &Limits,
        entry_limit: Option<u32>,
        features: Features,
        role: Role,
    ) -> Self {
        Self {
            limits: limits.clone(),
            entry_limit,
            features,
            role,
            mappings: BTreeMap::new(),
        }
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many more mappings fit.
    #[must_use]
    pub fn entries_left(&self) -> Option<u32> {
        let used = u32::try_from(self.mappings.len()).unwrap_or(u32::MAX);
        self.entry_limit.map(|limit| limit.saturating_sub(used))
    }

    /// Mapping by mapping, ascending.
    #[must_use]
    pub fn mappings(&self) -> Vec<Run> {
        self.mappings.values().map(|mapping| mapping.run).collect()
    }

    /// Takes `range` from what can be mapped.
    pub(super) fn reserve(&mut self, range: IovaRange) -> Result<(), HostError> {
        if self.touched(range).next().is_some() {
            return Err(HostError::AddressInUse);
        }
        let parts = |usable: &IovaRange| {
            if usable.overlaps(&range) {
                let (before, after) = around(*usable, range);
                [before, after]
            } else {
                [Some(*usable), None]
            }
        };
        let ranges = self.limits.ranges.iter().flat_map(parts).flatten();
        self.limits.ranges = ranges.collect();
        Ok(())
    }

    pub(super) fn map(&mut self, run: &Run, host: HostVa) -> Result<(), HostError> {
        let granule = self.limits.granule();
        let aligned = [run.iova.start().0, run.len(), run.gpa.0, host.0]
            .iter()
            .all(|value| value.is_multiple_of(granule));
        let fits =
            |range: &IovaRange| range.contains(run.iova.start()) && range.contains(run.iova.last());
        let refused = self.role == Role::Parent && run.rights == Rights::Read;
        if !aligned || refused || !self.limits.ranges.iter().any(fits) {
            return Err(HostError::Invalid);
        }
        if host == HostVa(0) {
            return Err(HostError::Unpinnable);
        }
        if self.touched(run.iova).next().is_some() {
            return Err(HostError::Overlap);
        }
        if self.entries_left() == Some(0) {
            return Err(HostError::EntryLimit);
        }
        let mapping = Mapping { run: *run, host };
        self.mappings.insert(run.iova.start().0, mapping);
        Ok(())
    }

    pub(super) fn unmap(&mut self, range: IovaRange) -> Result<u64, HostError> {
        self.check_aligned(range)?;
        let whole = |run: &Run| range.contains(run.iova.start()) && range.contains(run.iova.last());
        let touched: Vec<Run> = self.touched(range).map(|mapping| mapping.run).collect();
        let cuts = !touched.iter().all(whole);
        if cuts && !self.features.can_move {
            return Err(HostError::Invalid);
        }
        // iommufd goes from mapping to mapping, and ends at the first that sticks out (iopt_unmap_iova_range).
        let gone: Vec<Run> = touched.into_iter().take_while(whole).collect();
        for run in &gone {
            self.mappings.remove(&run.iova.start().0);
        }
        Ok(if cuts {
            0
        } else {
            gone.iter().map(Run::len).sum()
        })
    }

    pub(super) fn cut_out(&mut self, range: IovaRange) -> Result<u64, HostError> {
        if !self.features.can_cut {
            return Err(HostError::Unsupported);
        }
        self.check_aligned(range)?;
        let touched: Vec<Mapping> = self.touched(range).copied().collect();
        for mapping in touched {
            self.mappings.remove(&mapping.run.iova.start().0);
            let (before, after) = around(mapping.run.iova, range);
            let inside = crate::run::intersection(mapping.run.iova, range);
            for part in before.into_iter().chain(inside).chain(after) {
                self.mappings.extend(mapping.part(part));
            }
        }
        self.unmap(range)
    }

    fn check_aligned(&self, range: IovaRange) -> Result<(), HostError> {
        let end = range.last().0.wrapping_add(1);
        if range.start().0.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE) {
            Ok(())
        } else {
            Err(HostError::Invalid)
        }
    }

    fn touched(&self, range: IovaRange) -> impl Iterator<Item = &Mapping> {
        let first = self
            .mappings
            .range(..=range.start().0)
            .next_back()
            .filter(|(_, mapping)| mapping.run.iova.overlaps(&range))
            .map_or(range.start(), |(start, _)| Iova(*start));
        self.mappings
            .range(first.0..=range.last().0)
            .map(|(_, mapping)| mapping)
    }
}

impl Mapping {
    /// The mapping of a part, by its first address.
    fn part(&self, range: IovaRange) -> Option<(u64, Self)> {
        let run = self.run.clip(range)?;
        let offset = run.iova.start().0 - self.run.iova.start().0;
        let host = HostVa(self.host.0 + offset);
        Some((run.iova.start().0, Self { run, host }))
    }
}
