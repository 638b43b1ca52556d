// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How many pages a guest domain maps. The tables are walked for that when somebody asks: an invalidation names ranges, and how
//! many pages were mapped there before is known to nobody.

use super::State;
use super::range_set::RangeSet;
use super::table::HostTable;
use super::walk::{SLICE, Survey};
use iommu::address::IovaRange;

impl State {
    /// A walk of everything that `table` is a copy of; `None` where it is no copy, or its domain is blocked.
    pub fn survey_all(&self, table: &HostTable) -> Option<Survey> {
        table.content.copied().filter(|_| table.trouble.is_none())?;
        let mut all = RangeSet::default();
        all.extend([IovaRange::ALL]);
        let memory = self.memory.clone();
        let budget = &self.options.budget;
        let survey = Survey::new(table.content, table.capabilities, memory, budget, &all);
        Some(survey)
    }
}

/// Pages that `survey` finds, within the domain's budget. No lock is needed.
pub fn count(mut survey: Survey) -> u64 {
    while survey.advance(SLICE) == Ok(false) {}
    survey.counts().map(|counts| counts.leaves).sum()
}
