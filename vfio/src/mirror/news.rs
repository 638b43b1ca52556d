// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What one unit's events did to devices of another one, which shares its tables: no answer can say that.
//!
//! Told with no lock of the mirror held. A unit that heals a device at the same moment may say so before the bad news of it
//! come; so whoever told them looks again and takes them back.

use super::content::UnitId;
use super::{Mirror, State};
use crate::backend::Endpoint;
use iommu::follow::{DeviceHandle, Unmet};
use iommu::unit::Unit;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

/// Hears what is no answer to an event.
pub trait Listener: Send + Sync {
    /// `unmet` is not in effect any more; for the devices `resynced` everything is again. Called by the thread that carries
    /// out another unit's events or takes a device away, with that unit's turn held: it must not wait for any unit's turn.
    fn host_changed(&self, unmet: &[Unmet], resynced: &[DeviceHandle]);
}

impl Listener for Unit {
    fn host_changed(&self, unmet: &[Unmet], resynced: &[DeviceHandle]) {
        Self::host_changed(self, unmet, resynced);
    }
}

/// What one listener is to hear.
pub(super) struct News {
    listener: Weak<dyn Listener>,
    unmet: Vec<Unmet>,
}

impl Mirror {
    /// Lets `listener`, which is the unit itself as a rule, hear what befalls devices of `unit` by other units' events. It
    /// replaces an earlier one, and is not kept alive.
    pub fn listen<L: Listener + 'static>(&self, unit: UnitId, listener: &Arc<L>) {
        let listener: Weak<L> = Arc::downgrade(listener);
        self.state().listeners.insert(unit, listener);
    }

    pub(super) fn tell(&self, news: Vec<News>) {
        for News { listener, unmet } in news {
            let Some(listener) = listener.upgrade() else {
                continue;
            };
            listener.host_changed(&unmet, &[]);
            let overtaken = self.whole_again(&unmet);
            if !overtaken.is_empty() {
                listener.host_changed(&[], &overtaken);
            }
        }
    }

    fn whole_again(&self, unmet: &[Unmet]) -> Vec<DeviceHandle> {
        let state = self.state();
        let devices: BTreeSet<DeviceHandle> = unmet.iter().map(Unmet::device).collect();
        devices.difference(&state.faulted).copied().collect()
    }
}

impl State {
    /// What is not in effect any more for devices of other units than `answered`, and was not told yet. Counts as told.
    pub(super) fn news(&mut self, answered: Option<UnitId>) -> Vec<News> {
        if self.listeners.keys().all(|unit| Some(*unit) == answered) {
            return Vec::new();
        }
        let mut news: BTreeMap<UnitId, Vec<Unmet>> = BTreeMap::new();
        for endpoint in self.suspects() {
            let member = self.members.get(&endpoint);
            let Some(member) = member.filter(|member| {
                !member.gone
                    && Some(member.unit) != answered
                    && self.listeners.contains_key(&member.unit)
                    && !self.faulted.contains(&endpoint.device)
            }) else {
                continue;
            };
            let unmet = self.unmet_of(endpoint.device, endpoint.pasid);
            if !unmet.is_empty() {
                news.entry(member.unit).or_default().extend(unmet);
            }
        }
        self.mark_faulted(news.values().flatten().map(Unmet::device));
        news.into_iter()
            .filter_map(|(unit, unmet)| {
                let listener = self.listeners.get(&unit)?.clone();
                Some(News { listener, unmet })
            })
            .collect()
    }

    /// Endpoints of which something may not be in effect through no event of their own: those of tables that are not whole,
    /// and those that share a group.
    fn suspects(&self) -> BTreeSet<Endpoint> {
        let can_move = self.host.features().can_move;
        let tables = self.tables.values();
        let tables = tables.filter(|table| !can_move || !table.is_whole());
        let served = tables.flat_map(|table| self.served_by(table.id));
        served.chain(self.restless.iter().copied()).collect()
    }
}
