// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables that serve nobody are given up, and what remains where the host does not allow that.

use super::State;
use super::content::Content;
use super::table::{HostTable, Trouble};
use crate::backend::{Endpoint, TableId};
use iommu::follow::DeviceHandle;
use std::collections::BTreeSet;

impl State {
    /// Gives up the tables that serve nobody.
    pub fn sweep(&mut self) {
        if !self.host.features().can_move {
            return;
        }
        for id in self.unused() {
            if self.is_stuck(id) {
                // The device cannot be detached: at least it reaches nothing.
                self.rename(id, Content::Nothing);
                if !self.empty(id) {
                    self.tables
                        .entry(id)
                        .and_modify(|table| table.trouble = Some(Trouble::Unclean));
                }
            } else if self.host.destroy_table(id).is_ok() {
                self.remove_table(id);
            } else {
                // Nobody hears of what changes in it any more, so nobody may find it.
                self.rename(id, Content::Nothing);
            }
        }
    }

    /// The tables that serve nobody; those that stand on others, which are younger than those, come before them.
    fn unused(&self) -> Vec<TableId> {
        let used = self.tables.values().filter(|it| !it.members.is_empty());
        let used: BTreeSet<TableId> = used
            .flat_map(|it| [Some(it.id), it.parent])
            .flatten()
            .collect();
        let ids = self.tables.keys().rev();
        ids.filter(|id| !used.contains(id)).copied().collect()
    }

    /// Whether something goes through a table that should not any more.
    fn is_stuck(&self, id: TableId) -> bool {
        let mut places = self.members.values().filter_map(|member| member.place);
        places.any(|place| {
            let parent = self.tables.get(&place).and_then(|table| table.parent);
            place == id || parent == Some(id)
        })
    }

    /// Devices that go through a table of which more may be left than the guest says, or through one that they should have
    /// been taken off and that still maps something.
    pub fn still_reachable(&self) -> BTreeSet<DeviceHandle> {
        let unclean = |table: &HostTable| table.trouble == Some(Trouble::Unclean);
        let reaches = |endpoint: &Endpoint, place: TableId| {
            let stays = self.restless.contains(endpoint);
            let maps = |table: &HostTable| !table.ledger.is_empty();
            match self.both_stages(place).last() {
                Some(last) if last.parent.is_none() => {
                    self.both_stages(place).any(unclean) || stays && maps(last)
                }
                Some(last) => unclean(last) || stays,
                // The host's own, of all RAM.
                None => stays,
            }
        };
        self.members
            .iter()
            .filter(|(endpoint, member)| member.place.is_some_and(|place| reaches(endpoint, place)))
            .map(|(endpoint, _)| endpoint.device)
            .collect()
    }
}
