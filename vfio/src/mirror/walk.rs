// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of what one guest domain maps in some ranges, in slices and within the domain's budget. It touches nothing but
//! guest memory.

use super::budget::Budget;
use super::content::Content;
use super::range_set::RangeSet;
use iommu::address::IovaRange;
use iommu::capabilities::Capabilities;
use iommu::memory::PhysMem;
use iommu::walk::range::{Progress, RangeWalk, Run as GuestRun, WalkBudget, WalkCounts};
use std::collections::VecDeque;
use std::sync::Arc;

/// Tables that a walk may read for each range before the budget counts: the way down.
const WAY_DOWN: u64 = 8;

/// What is walked at once, before others have their turn.
pub const FIRST: WalkBudget = WalkBudget {
    tables: 64,
    runs: 1024,
};

/// What is walked then at a time.
pub const SLICE: WalkBudget = WalkBudget {
    tables: 512,
    runs: 8192,
};

/// What a domain's tables map in a range.
#[derive(Debug)]
pub struct Walked {
    pub range: IovaRange,
    pub runs: Vec<GuestRun>,
    pub counts: WalkCounts,
}

/// The guest's tables cost more than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

/// A walk under way.
#[derive(Debug)]
pub struct Survey {
    content: Content,
    capabilities: Capabilities,
    memory: Arc<dyn PhysMem>,
    left: WalkBudget,
    /// Ranges to be walked.
    ranges: VecDeque<IovaRange>,
    /// The walk of the first of them.
    walk: Option<(RangeWalk, Vec<GuestRun>)>,
    done: Vec<Walked>,
}

impl Survey {
    pub fn new(
        content: Content,
        capabilities: Capabilities,
        memory: Arc<dyn PhysMem>,
        budget: &Budget,
        ranges: &RangeSet,
    ) -> Self {
        Self {
            content,
            capabilities,
            memory,
            left: WalkBudget {
                tables: budget.tables + WAY_DOWN * ranges.len() as u64,
                runs: budget.runs,
            },
            ranges: ranges.iter().collect(),
            walk: None,
            done: Vec::with_capacity(ranges.len()),
        }
    }

    pub const fn content(&self) -> Content {
        self.content
    }

    /// Walks on for at most `slice`; whether everything is walked.
    ///
    /// # Errors
    /// The guest's tables cost more than they may.
    pub fn advance(&mut self, mut slice: WalkBudget) -> Result<bool, OverBudget> {
        while let Some(range) = self.ranges.front().copied() {
            let Some((mut walk, mut runs)) = self.walk.take().or_else(|| self.begin(&range)) else {
                self.end(range, Vec::new(), WalkCounts::default());
                continue;
            };
            let before = (walk.counts().tables, runs.len());
            let budget = WalkBudget {
                tables: slice.tables.min(self.left.tables),
                runs: slice.runs.min(self.left.runs),
            };
            let memory = self.memory.as_ref();
            let progress = walk.advance(memory, &self.capabilities, budget, &mut runs);
            let tables = walk.counts().tables - before.0;
            let found = (runs.len() - before.1) as u64;
            for budget in [&mut slice, &mut self.left] {
                budget.tables = budget.tables.saturating_sub(tables);
                budget.runs = budget.runs.saturating_sub(found);
            }
            match progress {
                Progress::Done => self.end(range, runs, walk.counts()),
                Progress::More(at) if self.left.tables == 0 || self.left.runs == 0 => {
                    tracing::warn!(%at, content = ?self.content, "a guest domain costs more than it may");
                    self.walk = Some((walk, runs));
                    return Err(OverBudget);
                }
                Progress::More(_) => {
                    self.walk = Some((walk, runs));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What every range that was walked cost so far.
    pub fn counts(&self) -> impl Iterator<Item = WalkCounts> {
        let walked = self.content.copied().is_some();
        let done = self.done.iter().map(|walked| walked.counts);
        let open = self.walk.iter().map(|(walk, _)| walk.counts());
        done.filter(move |_| walked).chain(open)
    }

    /// What was found in the ranges that are done.
    pub fn finish(self) -> Vec<Walked> {
        self.done
    }

    fn begin(&self, range: &IovaRange) -> Option<(RangeWalk, Vec<GuestRun>)> {
        let tables = self.content.copied()?;
        Some((tables.walk(&self.capabilities, range)?, Vec::new()))
    }

    fn end(&mut self, range: IovaRange, runs: Vec<GuestRun>, counts: WalkCounts) {
        self.ranges.pop_front();
        self.done.push(Walked {
            range,
            runs,
            counts,
        });
    }
}
