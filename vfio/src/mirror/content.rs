// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host table shall hold, and by which tags the guest names it.

use crate::nested::NestedTable;
use iommu::follow::{Attachment, GuestTables, Invalidated};
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
    /// The same, but for what may only be read: first-stage tables of the guest's stand on it.
    Parent(GuestTables),
    /// Nothing of its own: the host walks the guest's first-stage table.
    Nested(Nesting),
}

/// A first-stage table of the guest's, and what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nesting {
    /// The table.
    pub table: NestedTable,
    /// The guest's second-stage tables beneath; `None` for all guest RAM.
    pub on: Option<GuestTables>,
}

impl Content {
    /// What copy serves `attachment`; `None` where there are first-stage tables, whose changes software need not report, so that
    /// no copy of them can be kept.
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

    /// The second-stage tables of the guest's of which it is a copy.
    #[must_use]
    pub const fn copied(&self) -> Option<&GuestTables> {
        match self {
            Self::Guest(tables) | Self::Parent(tables) => Some(tables),
            Self::Nothing | Self::Identity | Self::Nested(_) => None,
        }
    }
}

/// A copy of second-stage tables, and the domain id by which the guest names those.
pub type Named = (DomainId, Content);

/// The tags that name copies of second-stage tables now, each with how many endpoints use it so.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    copies: BTreeMap<(UnitId, DomainId), BTreeMap<Content, u64>>,
}

impl Tags {
    /// An endpoint of `unit` goes by `copy` from now on.
    pub fn add(&mut self, unit: UnitId, copy: Option<Named>) {
        if let Some((id, content)) = copy {
            let named = self.copies.entry((unit, id)).or_default();
            *named.entry(content).or_insert(0) += 1;
        }
    }

    /// An endpoint of `unit` no longer goes by `copy`.
    pub fn remove(&mut self, unit: UnitId, copy: Option<Named>) {
        let Some((id, content)) = copy else {
            return;
        };
        if let Some(named) = self.copies.get_mut(&(unit, id)) {
            if let Some(users) = named.get_mut(&content) {
                *users -= 1;
                if *users == 0 {
                    named.remove(&content);
                }
            }
            if named.is_empty() {
                self.copies.remove(&(unit, id));
            }
        }
    }

    /// The contents that a tag names.
    pub fn of(&self, unit: UnitId, id: DomainId) -> impl Iterator<Item = Content> {
        let named = self.copies.get(&(unit, id)).into_iter();
        named.flat_map(BTreeMap::keys).copied()
    }

    /// The tags that name `content`.
    pub fn naming(&self, content: &Content) -> impl Iterator<Item = (UnitId, DomainId)> {
        let named = self.copies.iter();
        named
            .filter(|(_, named)| named.contains_key(content))
            .map(|(tag, _)| *tag)
    }

    /// The contents that an invalidation of `unit` names.
    pub fn named(&self, unit: UnitId, by: &Invalidated) -> impl Iterator<Item = Content> {
        let (first, last) = by
            .domain
            .map_or((DomainId(0), DomainId(u16::MAX)), |id| (id, id));
        // Second-stage translations belong to no PASID.
        let none = by.pasid.is_some();
        self.copies
            .range((unit, first)..=(unit, last))
            .filter(move |_| !none)
            .flat_map(|(_, named)| named.keys().copied())
    }
}
