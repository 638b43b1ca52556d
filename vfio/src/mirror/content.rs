// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host table shall hold, and by which tags the guest names it.

use crate::nested::NestedTable;
use iommu::follow::{Attachment, Domain, GuestTables, Invalidated};
use iommu::ids::DomainId;
use iommu::translate::paging::Stages;
use std::collections::BTreeMap;

/// A remapping unit of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

/// What a host table shall hold. Equal contents share a table where endpoints can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Nothing at all.
    Nothing,
    /// All guest RAM one to one.
    Identity,
    /// What the guest's second-stage tables map.
    Guest(GuestTables),
    /// Nothing of its own: the host walks the guest's first-stage table.
    Nested(NestedTable),
}

impl Content {
    /// What copy serves `attachment`; `None` for first-stage tables, whose changes software need not report, so that no copy
    /// of them can be kept.
    #[must_use]
    pub const fn of(attachment: Attachment) -> Option<Self> {
        match attachment {
            Attachment::Blocked => Some(Self::Nothing),
            Attachment::Identity => Some(Self::Identity),
            Attachment::Domain(domain) => match domain.tables.stages {
                Stages::Second(_) => Some(Self::Guest(domain.tables)),
                Stages::First(_) | Stages::Nested(..) => None,
            },
        }
    }
}

/// The domain of an attachment whose tables are copied.
const fn copied(attachment: Attachment) -> Option<Domain> {
    match attachment {
        Attachment::Domain(domain) if matches!(domain.tables.stages, Stages::Second(_)) => {
            Some(domain)
        }
        _ => None,
    }
}

/// The tags that name second-stage tables now, each with how many endpoints use it so.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    tables: BTreeMap<(UnitId, DomainId), BTreeMap<GuestTables, u64>>,
}

impl Tags {
    /// An endpoint of `unit` goes by `attachment` from now on.
    pub fn add(&mut self, unit: UnitId, attachment: Attachment) {
        if let Some(domain) = copied(attachment) {
            let named = self.tables.entry((unit, domain.id)).or_default();
            *named.entry(domain.tables).or_insert(0) += 1;
        }
    }

    /// An endpoint of `unit` no longer goes by `attachment`.
    pub fn remove(&mut self, unit: UnitId, attachment: Attachment) {
        let Some(domain) = copied(attachment) else {
            return;
        };
        if let Some(named) = self.tables.get_mut(&(unit, domain.id)) {
            if let Some(users) = named.get_mut(&domain.tables) {
                *users -= 1;
                if *users == 0 {
                    named.remove(&domain.tables);
                }
            }
            if named.is_empty() {
                self.tables.remove(&(unit, domain.id));
            }
        }
    }

    /// The contents that a tag names.
    pub fn of(&self, unit: UnitId, id: DomainId) -> impl Iterator<Item = Content> {
        let named = self.tables.get(&(unit, id)).into_iter();
        named
            .flat_map(BTreeMap::keys)
            .map(|tables| Content::Guest(*tables))
    }

    /// The tags that name `tables`.
    pub fn naming(&self, tables: &GuestTables) -> impl Iterator<Item = (UnitId, DomainId)> {
        let named = self.tables.iter();
        named
            .filter(|(_, named)| named.contains_key(tables))
            .map(|(tag, _)| *tag)
    }

    /// The contents that an invalidation of `unit` names.
    pub fn named(&self, unit: UnitId, by: &Invalidated) -> impl Iterator<Item = Content> {
        let (first, last) = by
            .domain
            .map_or((DomainId(0), DomainId(u16::MAX)), |id| (id, id));
        // Second-stage translations belong to no PASID.
        let none = by.pasid.is_some();
        self.tables
            .range((unit, first)..=(unit, last))
            .filter(move |_| !none)
            .flat_map(|(_, named)| named.keys())
            .map(|tables| Content::Guest(*tables))
    }
}
