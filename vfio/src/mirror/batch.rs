// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One batch: what its events say is noted, with what earlier ones left over.

use super::State;
use super::content::{Content, UnitId};
use super::table::{HostTable, Trouble};
use crate::backend::{Endpoint, TableId};
use iommu::address::IovaRange;
use iommu::follow::{Attachment, FollowEvent, Invalidated};
use std::collections::BTreeSet;

impl State {
    /// Notes what an event says; returns the tables that an invalidation names.
    pub fn note(&mut self, unit: UnitId, event: &FollowEvent) -> BTreeSet<TableId> {
        match *event {
            FollowEvent::Attach { device, to } => {
                self.want(
                    unit,
                    Endpoint {
                        device,
                        pasid: None,
                    },
                    to,
                );
            }
            FollowEvent::Bind { device, pasid, to } | FollowEvent::Rebind { device, pasid, to } => {
                let pasid = Some(pasid);
                self.want(unit, Endpoint { device, pasid }, to);
            }
            FollowEvent::Unbind { device, pasid } => {
                let pasid = Some(pasid);
                self.want(unit, Endpoint { device, pasid }, Attachment::Blocked);
            }
            FollowEvent::Invalidated(invalidated) => return self.invalidate(unit, &invalidated),
            FollowEvent::Reset => {
                let endpoints: Vec<Endpoint> = self
                    .members
                    .iter()
                    .filter(|(_, member)| member.unit == unit)
                    .map(|(endpoint, _)| *endpoint)
                    .collect();
                for endpoint in endpoints {
                    let wants = match endpoint.pasid {
                        None => Attachment::Identity,
                        Some(_) => Attachment::Blocked,
                    };
                    self.want(unit, endpoint, wants);
                }
            }
        }
        BTreeSet::new()
    }

    fn invalidate(&mut self, unit: UnitId, invalidated: &Invalidated) -> BTreeSet<TableId> {
        let contents: BTreeSet<Content> = self.tags.named(unit, invalidated).collect();
        let mut named = BTreeSet::new();
        for content in contents {
            let tables = self.tables_of(content);
            for id in &tables {
                self.host.count_only(Some(*id), |stats| stats.events += 1);
            }
            named.extend(tables);
            self.ask(content, [invalidated.range]);
        }
        for table in self.nested.invalidate(unit, invalidated) {
            let tables = self.tables_of(Content::Nested(table));
            for id in &tables {
                self.host.count_only(Some(*id), |stats| stats.events += 1);
            }
            named.extend(tables);
        }
        named
    }

    /// Adds what the host refused to what is to be synchronised, and empties what could not be cleaned.
    pub fn retry(&mut self) {
        let ids: Vec<TableId> = self.tables.keys().copied().collect();
        for id in ids {
            let unclean = |table: &HostTable| table.trouble == Some(Trouble::Unclean);
            if self.tables.get(&id).is_some_and(unclean) && self.empty(id) {
                self.recover(id);
            }
            let Some(table) = self.tables.get(&id) else {
                continue;
            };
            let content = table.content;
            let retry: Vec<IovaRange> = table.lacks.retry().iter().collect();
            // Whoever is at it already will come to know.
            if table.trouble.is_none() && !retry.is_empty() && !self.busy.contains(&content) {
                let retries = retry.len() as u64;
                self.host.count(Some(id), |stats| stats.retries += retries);
                self.ask(content, retry);
            }
        }
    }

    /// A table that is clean again gets everything, and its members with it.
    fn recover(&mut self, id: TableId) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.trouble = None;
            let content = table.content;
            self.returning.extend(self.served_by(id));
            self.ask(content, [IovaRange::ALL]);
        }
    }

    /// A domain that cost too much is tried again when all of it may have changed.
    pub fn lift_budget(&mut self, content: Content) {
        for id in self.tables_of(content) {
            if let Some(table) = self.tables.get_mut(&id)
                && table.trouble == Some(Trouble::OverBudget)
            {
                table.trouble = None;
                self.returning.extend(self.served_by(id));
            }
        }
    }

    /// Takes endpoints off the tables that may not be used, and empties those.
    pub fn settle_troubled(&mut self) {
        let troubled: Vec<TableId> = self
            .tables
            .values()
            .filter(|table| table.trouble.is_some())
            .map(|table| table.id)
            .collect();
        for id in troubled {
            for endpoint in self.served_by(id) {
                self.position(endpoint);
            }
            let Some(table) = self.tables.get(&id) else {
                continue;
            };
            // An unclean table stays out of use until the next events, so that no refusal is repeated for ever. It is emptied
            // already now, because not every device can be detached.
            let unclean = table.trouble == Some(Trouble::Unclean);
            if (unclean || !table.ledger.is_empty()) && !self.empty(id) {
                self.tables
                    .entry(id)
                    .and_modify(|table| table.trouble = Some(Trouble::Unclean));
            }
        }
    }
}
