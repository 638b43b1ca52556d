// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the unit is told of each event, once all of a batch are carried out.

use super::State;
use super::content::UnitId;
use super::place::Member;
use crate::backend::{Endpoint, TableId};
use iommu::follow::{Answer, DeviceHandle, FollowEvent, Refusal, Unmet};
use iommu::ids::Pasid;
use std::collections::BTreeSet;

impl State {
    /// The answer to `events` of `unit`; `named` are the tables that each event named.
    pub fn answer(
        &mut self,
        events: &[FollowEvent],
        named: &[BTreeSet<TableId>],
        unit: UnitId,
    ) -> Answer {
        let results: Vec<_> = events
            .iter()
            .zip(named)
            .map(|(event, named)| {
                let unmet = self.unmet(event, named, unit);
                if unmet.is_empty() {
                    Ok(())
                } else {
                    Err(Refusal { unmet })
                }
            })
            .collect();
        for refusal in results.iter().filter_map(|result| result.as_ref().err()) {
            self.mark_faulted(refusal.unmet.iter().map(Unmet::device));
        }
        Answer {
            results,
            resynced: self.resynced(unit),
        }
    }

    /// `devices` were told to lack something.
    pub fn mark_faulted(&mut self, devices: impl Iterator<Item = DeviceHandle>) {
        for device in devices {
            if self.faulted.insert(device) {
                self.host.device(device).faults += 1;
            }
        }
    }

    fn unmet(&self, event: &FollowEvent, named: &BTreeSet<TableId>, unit: UnitId) -> Vec<Unmet> {
        match *event {
            FollowEvent::Attach { device, .. } => self.unmet_of(device, None),
            FollowEvent::Bind { device, pasid, .. }
            | FollowEvent::Rebind { device, pasid, .. }
            | FollowEvent::Unbind { device, pasid } => self.unmet_of(device, Some(pasid)),
            FollowEvent::Invalidated(_) => self.unsynced(named, unit),
            FollowEvent::Reset => {
                let devices = self
                    .members
                    .iter()
                    .filter(|(endpoint, member)| member.unit == unit && endpoint.pasid.is_none());
                devices
                    .flat_map(|(endpoint, _)| self.unmet_of(endpoint.device, None))
                    .collect()
            }
        }
    }

    /// What an endpoint lacks.
    pub fn unmet_of(&self, device: DeviceHandle, pasid: Option<Pasid>) -> Vec<Unmet> {
        let endpoint = Endpoint { device, pasid };
        let Some(member) = self.members.get(&endpoint) else {
            return Vec::new();
        };
        match (self.is_refused(&endpoint, member), pasid) {
            (true, None) => vec![Unmet::Attachment(device)],
            (true, Some(pasid)) => vec![Unmet::Binding(device, pasid)],
            (false, _) => self.lack(&endpoint, member).into_iter().collect(),
        }
    }

    /// Whether the host did not let an endpoint go where it shall, or did not take it from where it was.
    fn is_refused(&self, endpoint: &Endpoint, member: &Member) -> bool {
        member.refused.is_some() || self.restless.contains(endpoint)
    }

    fn lack(&self, endpoint: &Endpoint, member: &Member) -> Option<Unmet> {
        // Of two stages the address is one of the stage that lacks something: hardware alone knows which requests need it.
        let table = self
            .both_stages(member.table?)
            .find(|table| !table.is_whole())?;
        Some(Unmet::Unsynced {
            device: endpoint.device,
            pasid: endpoint.pasid,
            first: table.first_lack(),
        })
    }

    /// What the devices of `unit` lack that go through `tables`, one thing for each device.
    fn unsynced(&self, tables: &BTreeSet<TableId>, unit: UnitId) -> Vec<Unmet> {
        let mut told = BTreeSet::new();
        tables
            .iter()
            .filter(|id| self.both_stages(**id).any(|table| !table.is_whole()))
            .flat_map(|id| self.served_by(*id))
            .filter_map(|endpoint| Some((endpoint, self.members.get(&endpoint)?)))
            .filter(|(_, member)| member.unit == unit)
            .filter_map(|(endpoint, member)| self.lack(&endpoint, member))
            .filter(|unmet| told.insert(unmet.device()))
            .collect()
    }

    /// Devices of `unit` that lacked something and lack nothing any more.
    fn resynced(&mut self, unit: UnitId) -> Vec<DeviceHandle> {
        let whole: Vec<DeviceHandle> = self
            .faulted
            .iter()
            .copied()
            .filter(|device| {
                self.endpoints_of(*device).all(|endpoint| {
                    let member = self.members.get(&endpoint);
                    member.is_none_or(|member| {
                        member.unit == unit
                            && !self.is_refused(&endpoint, member)
                            && self.lack(&endpoint, member).is_none()
                            && self.awaited(endpoint).is_none()
                    })
                })
            })
            .collect();
        for device in &whole {
            self.faulted.remove(device);
        }
        whole
    }

    /// The endpoints of a device.
    pub fn endpoints_of(&self, device: DeviceHandle) -> impl Iterator<Item = Endpoint> {
        let pasid = |value| Endpoint {
            device,
            pasid: value,
        };
        self.members
            .range(pasid(None)..=pasid(Pasid::new((1 << 20) - 1)))
            .map(|(endpoint, _)| *endpoint)
    }
}
