// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One host table: what it shall hold, what it holds, and what it lacks.

use super::content::Content;
use super::range_set::RangeSet;
use super::stats::TableStatus;
use crate::backend::{Endpoint, HostError, Limits, TableId};
use crate::ledger::Ledger;
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::Capabilities;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Ranges remembered apart; more of them become coarser.
const MOST_RANGES: usize = 256;

/// Why nothing is attached to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The guest's tables cost more than they may. Everything is walked again when all of the domain is invalidated.
    OverBudget,
    /// The host did not remove what it was told to: what the table holds is not known.
    Unclean,
}

/// What a table does not hold although the guest says so.
#[derive(Clone, Debug, Default)]
pub struct Lacks {
    /// To be tried again.
    retry: RangeSet,
    /// Not to be tried again before they are invalidated: the host can never have them.
    refused: RangeSet,
    /// The refusals behind both, the latest last, as far as they are remembered.
    refusals: VecDeque<Refusal>,
}

/// A range that the host refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub range: IovaRange,
    pub error: HostError,
    /// When, by the mirror's clock.
    pub at: Duration,
}

impl Lacks {
    pub fn add(&mut self, range: IovaRange, error: HostError, at: Duration) {
        let set = match error {
            HostError::Aperture | HostError::Granularity | HostError::ReadOnly => &mut self.refused,
            _ => &mut self.retry,
        };
        set.insert_within(range, MOST_RANGES);
        if self.refusals.len() == MOST_RANGES {
            self.refusals.pop_front();
        }
        self.refusals.push_back(Refusal { range, error, at });
    }

    /// The latest refusal that left something unsynced.
    pub fn last(&self) -> Option<&Refusal> {
        self.refusals.back()
    }

    /// Whether `iova` is lacking, and the refusal behind that; the latest of all where that one is forgotten.
    pub fn refusal_of(&self, iova: Iova) -> Option<&Refusal> {
        let lacking = self.retry.contains(iova) || self.refused.contains(iova);
        let named = self.refusals.iter().rev();
        let named = named
            .into_iter()
            .find(|refusal| refusal.range.contains(iova));
        named.or_else(|| self.last()).filter(|_| lacking)
    }

    /// `range` is about to be synchronised.
    pub fn forget(&mut self, range: IovaRange) {
        self.retry.remove(range);
        self.refused.remove(range);
        self.refusals.retain(|refusal| {
            !range.contains(refusal.range.start()) || !range.contains(refusal.range.last())
        });
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is to be tried again.
    pub const fn retry(&self) -> &RangeSet {
        &self.retry
    }

    /// How many ranges there are.
    pub fn len(&self) -> u64 {
        (self.retry.len() + self.refused.len()) as u64
    }

    pub fn is_empty(&self) -> bool {
        self.retry.is_empty() && self.refused.is_empty()
    }

    pub fn first(&self) -> Option<Iova> {
        let firsts = [self.retry.first(), self.refused.first()];
        firsts.into_iter().flatten().min()
    }
}

/// One host table.
#[derive(Debug)]
pub struct HostTable {
    pub id: TableId,
    pub content: Content,
    /// The table that it stands on, where the host walks a first-stage table of the guest's.
    pub parent: Option<TableId>,
    /// Of a unit that names the content: how its tables are read.
    pub capabilities: Capabilities,
    pub ledger: Ledger,
    pub limits: Limits,
    /// Mappings that it can hold in all.
    pub entry_limit: Option<u64>,
    /// What should go through it.
    pub members: BTreeSet<Endpoint>,
    pub lacks: Lacks,
    pub trouble: Option<Trouble>,
    /// Grows when it is emptied or shall hold something else: what was planned for it before is void.
    pub generation: u64,
    /// Something that the guest maps leads to no memory, as far as walks since the last one of everything found.
    pub leads_nowhere: bool,
}

impl HostTable {
    /// An empty table.
    pub fn new(
        id: TableId,
        content: Content,
        capabilities: Capabilities,
        limits: Limits,
        joining: bool,
    ) -> Self {
        Self {
            id,
            content,
            parent: None,
            capabilities,
            ledger: Ledger::new(joining),
            limits,
            entry_limit: None,
            members: BTreeSet::new(),
            lacks: Lacks::default(),
            trouble: None,
            generation: 0,
            leads_nowhere: false,
        }
    }

    /// Whether it holds all that the guest says.
    pub fn is_whole(&self) -> bool {
        self.trouble.is_none() && self.lacks.is_empty()
    }

    /// The first address that is not as the guest says, in a table that is not whole.
    pub fn first_lack(&self) -> Iova {
        match self.trouble {
            Some(_) => Iova(0),
            None => self.lacks.first().unwrap_or_default(),
        }
    }

    /// How many more mappings it can hold.
    pub fn entries_left(&self) -> Option<u64> {
        let used = self.ledger.len() as u64;
        self.entry_limit.map(|limit| limit.saturating_sub(used))
    }

    pub fn status(&self) -> TableStatus {
        TableStatus {
            table: self.id,
            content: self.content,
            members: self.members.iter().copied().collect(),
            runs: self.ledger.len() as u64,
            bytes: self.ledger.bytes(),
            unsynced: self.lacks.len(),
            first_unsynced: (!self.is_whole()).then(|| self.first_lack()),
            last_refusal: self.lacks.last().map(|refusal| refusal.error),
            blocked: self.trouble.is_some(),
        }
    }
}
