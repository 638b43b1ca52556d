// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a batch of invalidations names, summed up, so that each device is looked at once however often it is named.
//!
//! All that the batch tells of was in memory before any of it is read, so the order inside it says nothing.

use super::device::NamedEntries;
use super::{FollowEvent, Invalidated};
use crate::address::{IovaRange, PAGE_SIZE};
use crate::ids::{DomainId, SourceId};
use crate::invalidation::{FunctionMask, Invalidation};
use std::collections::BTreeSet;

/// The contexts and PASID entries that a batch names, and the tables.
#[derive(Debug, Default)]
pub(super) struct Named {
    every_context: bool,
    context_domains: BTreeSet<DomainId>,
    functions: Vec<(SourceId, FunctionMask)>,
    pub(super) entries: NamedEntries,
    pub(super) tables: Vec<Invalidated>,
}

/// How a device's context is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextNamed<'a> {
    No,
    /// If it says one of these domains, or names none.
    Domains(&'a BTreeSet<DomainId>),
    Yes,
}

impl Named {
    pub(super) fn by(batch: &[Invalidation]) -> Self {
        let mut named = Self::default();
        for invalidation in batch {
            named.add(invalidation);
        }
        named
    }

    fn add(&mut self, invalidation: &Invalidation) {
        match *invalidation {
            Invalidation::ContextGlobal => self.every_context = true,
            Invalidation::ContextDomain(domain) => {
                self.context_domains.insert(domain);
            }
            Invalidation::ContextDevice { source, mask, .. } => {
                if !self.functions.contains(&(source, mask)) {
                    self.functions.push((source, mask));
                }
            }
            Invalidation::PasidCacheGlobal => self.entries.all = true,
            Invalidation::PasidCacheDomain(domain) => {
                self.entries.domains.insert(domain);
            }
            Invalidation::PasidCacheOne { domain, pasid } => {
                self.entries.ones.insert((domain, pasid));
            }
            _ => self.tables.extend(tables(invalidation)),
        }
    }

    /// How the context of `source` is named.
    pub(super) fn context(&self, source: SourceId) -> ContextNamed<'_> {
        let by_function = |(named, mask): &(SourceId, FunctionMask)| mask.matches(*named, source);
        if self.every_context || self.functions.iter().any(by_function) {
            ContextNamed::Yes
        } else if self.context_domains.is_empty() {
            ContextNamed::No
        } else {
            ContextNamed::Domains(&self.context_domains)
        }
    }
}

/// Pages that a short batch names at most.
const SHORT: u64 = 4096;

/// Whether what `batch` names is little enough to be looked at by a processor of the guest: some pages, or what nobody
/// follows.
pub(crate) fn is_short(batch: &[Invalidation]) -> bool {
    let mut left = SHORT;
    batch.iter().all(|invalidation| match invalidation {
        Invalidation::IotlbPages { range, .. } | Invalidation::PasidIotlbPages { range, .. } => {
            let pages = (range.last().0 - range.start().0) / PAGE_SIZE + 1;
            let fits = pages <= left;
            left = left.saturating_sub(pages);
            fits
        }
        _ => invalidation.names_interrupts() || invalidation.names_device(),
    })
}

/// What an invalidation says of tables.
fn tables(invalidation: &Invalidation) -> Option<Invalidated> {
    let all = Invalidated::ALL;
    Some(match *invalidation {
        Invalidation::IotlbGlobal => all,
        Invalidation::IotlbDomain(domain) => Invalidated {
            domain: Some(domain),
            ..all
        },
        Invalidation::IotlbPages {
            domain,
            range,
            leaf_only,
        } => Invalidated {
            domain: Some(domain),
            pasid: None,
            range,
            leaf_only,
        },
        Invalidation::PasidIotlbAll { domain, pasid } => Invalidated {
            domain: Some(domain),
            pasid: Some(pasid),
            ..all
        },
        Invalidation::PasidIotlbPages {
            domain,
            pasid,
            range,
            leaf_only,
        } => Invalidated {
            domain: Some(domain),
            pasid: Some(pasid),
            range,
            leaf_only,
        },
        _ => return None,
    })
}

impl Invalidated {
    /// Whether nothing is in `other` that is not in this.
    fn covers(&self, other: &Self) -> bool {
        let same_or_all = self.domain.is_none() || self.domain == other.domain;
        same_or_all
            && (self.pasid.is_none() || self.pasid == other.pasid)
            && (!self.leaf_only || other.leaf_only)
            && self.range.start() <= other.range.start()
            && other.range.last() <= self.range.last()
    }

    /// Both as one, where nothing comes in that is in neither.
    fn joined(&self, other: &Self) -> Option<Self> {
        let alike = Self {
            range: other.range,
            ..*self
        };
        let touches = |low: &IovaRange, high: &IovaRange| {
            low.last()
                .checked_add(1)
                .is_none_or(|next| next >= high.start())
        };
        let touch = touches(&self.range, &other.range) && touches(&other.range, &self.range);
        let start = self.range.start().min(other.range.start());
        let range = IovaRange::new(start, self.range.last().max(other.range.last()))?;
        (alike == *other && touch).then_some(Self { range, ..*self })
    }
}

/// Appends what `tables` say, in order, to `events`. What an earlier one says is not said again, and neighbours are one.
pub(super) fn tell_tables(
    tables: &[Invalidated],
    mut is_used: impl FnMut(&Invalidated) -> bool,
    events: &mut Vec<FollowEvent>,
) {
    let mut told: Vec<Invalidated> = Vec::new();
    for named in tables {
        if !is_used(named) || told.iter().any(|earlier| earlier.covers(named)) {
            continue;
        }
        match told.last_mut().map(|last| (last.joined(named), last)) {
            Some((Some(both), last)) => *last = both,
            _ => told.push(*named),
        }
    }
    events.extend(told.into_iter().map(FollowEvent::Invalidated));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Iova;
    use crate::ids::Pasid;

    fn pages(domain: u16, start: u64, last: u64) -> Invalidated {
        Invalidated {
            domain: Some(DomainId(domain)),
            range: IovaRange::new(Iova(start), Iova(last)).unwrap(),
            leaf_only: true,
            ..Invalidated::ALL
        }
    }

    fn told(tables: &[Invalidated]) -> Vec<Invalidated> {
        let mut events = Vec::new();
        tell_tables(tables, |_| true, &mut events);
        let range = |event| match event {
            FollowEvent::Invalidated(range) => range,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(range).collect()
    }

    #[test]
    fn neighbours_of_one_domain_are_one_event() {
        let low = pages(1, 0x1000, 0x1fff);
        let high = pages(1, 0x2000, 0x3fff);
        assert_eq!(told(&[low, high]), [pages(1, 0x1000, 0x3fff)]);
        assert_eq!(told(&[high, low]), [pages(1, 0x1000, 0x3fff)]);
        let far = pages(1, 0x5000, 0x5fff);
        assert_eq!(told(&[low, far]), [low, far]);
        let top = pages(1, 0x8000, u64::MAX);
        assert_eq!(told(&[top, low]), [top, low]);
        let other = pages(2, 0x2000, 0x2fff);
        assert_eq!(told(&[low, other]), [low, other]);
        let tables_too = Invalidated {
            leaf_only: false,
            ..high
        };
        assert_eq!(told(&[low, tables_too]), [low, tables_too]);
    }

    #[test]
    fn what_was_named_before_is_not_named_again() {
        let whole = Invalidated {
            domain: Some(DomainId(1)),
            ..Invalidated::ALL
        };
        let one = pages(1, 0x1000, 0x1fff);
        let pasid = Invalidated {
            pasid: Pasid::new(5),
            ..whole
        };
        assert_eq!(told(&[whole, one, pasid, whole]), [whole]);
        assert_eq!(told(&[one, whole]), [one, whole]);
        let other = pages(2, 0, 0xfff);
        assert_eq!(told(&[whole, other, Invalidated::ALL]).len(), 3);
        assert_eq!(told(&[Invalidated::ALL, other, pasid]), [Invalidated::ALL]);
    }
}
