// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A batch is carried out in slices, between which others have their turn.
//!
//! A walk that is not over with its first slice goes on with the lock released, and long plans let others in every few calls
//! of the host. So a device can be attached to another domain, or taken away, and counters can be read, while a large domain
//! is walked. What keeps this safe:
//!
//! * Of a content that is being worked on (`busy`) nobody else changes tables by what they walked: who wants to, waits. Nobody
//!   waits while having a content to himself.
//! * An endpoint is not attached to a table before everything that was to be compared in it is. Whoever has such an endpoint
//!   waits, or does the work himself.
//! * Work on a table that was emptied, given up or put to another use meanwhile is dropped (its generation differs).

use super::carry_out::{Hands, Work};
use super::content::Content;
use super::sync::Update;
use super::walk::{FIRST, OverBudget, SLICE, Survey, Walked};
use super::{Held, Mirror, State};
use crate::backend::Endpoint;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// Calls of the host that change mappings, until others have their turn.
const CALLS: usize = 256;

/// What one batch has to see to.
#[derive(Debug, Default)]
pub struct Job {
    contents: BTreeSet<Content>,
    endpoints: BTreeSet<Endpoint>,
}

impl Mirror {
    /// Carries out what was noted since the lock was taken.
    pub(super) fn carry_out<'a>(&'a self, mut state: Held<'a>) -> Held<'a> {
        let job = state.prepare();
        for content in job.contents {
            state = self.sync(state, content);
        }
        self.settle(state, job.endpoints)
    }

    /// Ends a batch once its tables hold what they can: `endpoints` and those of earlier batches go where they shall.
    pub(super) fn settle<'a>(
        &'a self,
        mut state: Held<'a>,
        endpoints: BTreeSet<Endpoint>,
    ) -> Held<'a> {
        state.settle_troubled();
        state = self.place(state, endpoints);
        state.sweep();
        state
    }

    fn place<'a>(&'a self, mut state: Held<'a>, mut endpoints: BTreeSet<Endpoint>) -> Held<'a> {
        endpoints.extend(&state.restless);
        endpoints.extend(&state.returning);
        let mut synced = false;
        for endpoint in endpoints {
            while let Some(content) = state.awaited(endpoint) {
                state = self.sync(state, content);
                synced = true;
            }
            state.position(endpoint);
            state.prune(endpoint);
        }
        if synced {
            state.settle_troubled();
        }
        state
    }

    /// Makes every table that holds `content` hold what it shall wherever that may have changed.
    fn sync<'a>(&'a self, mut state: Held<'a>, content: Content) -> Held<'a> {
        while state.busy.contains(&content) {
            let idle = &self.shared.idle;
            state.waiting += 1;
            state = idle.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let Some((survey, updates)) = state.survey(content) else {
            return state;
        };
        state.busy.insert(content);
        let (mut state, walked) = self.walk(state, survey);
        match walked {
            Ok(walked) => {
                for update in updates {
                    state = self.update(state, &update, &walked);
                }
            }
            Err(OverBudget) => state.over_budget(content),
        }
        state.busy.remove(&content);
        if state.waiting != 0 {
            self.shared.idle.notify_all();
        }
        state
    }

    fn walk<'a>(
        &'a self,
        mut state: Held<'a>,
        mut survey: Survey,
    ) -> (Held<'a>, Result<Vec<Walked>, OverBudget>) {
        let mut result = survey.advance(FIRST);
        if result == Ok(false) {
            drop(state);
            result = self.walk_on(&mut survey);
            state = self.state();
        }
        for counts in survey.counts() {
            state.host.stats.add_walk(&counts);
        }
        (state, result.map(|_| survey.finish()))
    }

    /// Walks on without the lock.
    fn walk_on(&self, survey: &mut Survey) -> Result<bool, OverBudget> {
        while self.is_wanted(survey) {
            if survey.advance(SLICE)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what `survey` finds is still of use; the others have their turn before.
    fn is_wanted(&self, survey: &Survey) -> bool {
        !self.state().tables_of(survey.content()).is_empty()
    }

    /// Makes one table hold what was walked.
    fn update<'a>(&'a self, mut state: Held<'a>, update: &Update, walked: &[Walked]) -> Held<'a> {
        let Some(mut work) = state.plan(update, walked) else {
            return state;
        };
        while !state.carry_on(update, &mut work) {
            drop(state);
            state = self.state();
        }
        state.check_budget(update);
        state
    }
}

impl State {
    /// Finds out what is to be done for what was noted: tables are found or made, and what the guest took from endpoints is
    /// taken from them at once.
    fn prepare(&mut self) -> Job {
        self.assign();
        self.retry();
        self.flush();
        Job {
            contents: std::mem::take(&mut self.asked),
            endpoints: std::mem::take(&mut self.touched),
        }
    }

    /// Whether tables of `content` may not hold all that they shall.
    pub fn is_pending(&self, content: Content) -> bool {
        self.busy.contains(&content) || self.dirty.contains_key(&content)
    }

    /// What has to be done before an endpoint can be attached.
    pub fn awaited(&self, endpoint: Endpoint) -> Option<Content> {
        let table = self.members.get(&endpoint)?.table?;
        let mut contents = self.both_stages(table).map(|table| table.content);
        contents.find(|content| self.is_pending(*content))
    }

    /// Goes on with what is to be done in a table; whether that is over.
    pub fn carry_on(&mut self, update: &Update, work: &mut Work) -> bool {
        let Some(table) = self.tables.get_mut(&update.table) else {
            return true;
        };
        if table.generation != update.generation {
            return true;
        }
        let mut hands = Hands {
            host: &mut self.host,
            ram: &self.ram,
            compaction: self.options.compaction,
        };
        hands.carry_on(table, work, CALLS)
    }
}
