// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which table each endpoint goes through.
//!
//! Where endpoints move, equal contents share a table: the first endpoint makes it, the last one takes it along. A replaced
//! attachment never goes through a state in which more is reachable than before or after. Where they cannot move, the table
//! of a device's group changes its content, and only when all devices of the group agree about it.

use super::State;
use super::content::{Content, Named, UnitId};
use super::nested::NestedTag;
use super::table::HostTable;
use crate::backend::{Endpoint, HostError, Limits, Role, TableId};
use iommu::address::IovaRange;
use iommu::capabilities::Capabilities;
use iommu::follow::{Attachment, DeviceHandle};
use std::collections::BTreeSet;

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The guest's unit that it sits behind.
    pub unit: UnitId,
    /// What the guest says.
    pub wants: Attachment,
    /// How that names a table of the guest's own that the host is to walk, if it does.
    pub nested: Option<NestedTag>,
    /// The table that serves that, if there is one.
    pub table: Option<TableId>,
    /// The table that its requests go through; `None` when they are blocked.
    pub place: Option<TableId>,
    /// The host did not do what the guest says.
    pub refused: Option<HostError>,
    /// The device left the machine: nothing is kept of it once it is detached.
    pub gone: bool,
}

impl Member {
    /// The copy of second-stage tables that it needs, and how the guest names it.
    fn copy(&self) -> Option<Named> {
        match (self.wants, self.nested) {
            (_, Some(tag)) => tag.copy(),
            (Attachment::Domain(domain), None) => {
                let content = Content::of(self.wants)?;
                Some((domain.id, content))
            }
            (Attachment::Blocked | Attachment::Identity, None) => None,
        }
    }
}

impl State {
    /// Notes what the guest says of an endpoint.
    pub fn want(&mut self, unit: UnitId, endpoint: Endpoint, wants: Attachment) {
        let place = self.host.fixed_table(endpoint.device);
        let nested = self.nested_tag(unit, endpoint, wants);
        let member = self.members.entry(endpoint).or_insert(Member {
            unit,
            wants: Attachment::Blocked,
            nested: None,
            table: None,
            place: place.filter(|_| endpoint.pasid.is_none()),
            refused: None,
            gone: false,
        });
        self.tags.remove(member.unit, member.copy());
        self.nested.remove(member.unit, member.nested);
        member.unit = unit;
        member.wants = wants;
        member.nested = nested;
        member.refused = None;
        member.gone = false;
        self.tags.add(unit, member.copy());
        self.nested.add(unit, nested);
        self.touched.insert(endpoint);
    }

    /// Finds or makes the tables for what changed, and takes away what the guest took away.
    pub fn assign(&mut self) {
        if self.host.features().can_move {
            for endpoint in self.touched.clone() {
                self.assign_moving(endpoint);
            }
            return;
        }
        let mut groups = BTreeSet::new();
        for endpoint in self.touched.clone() {
            match self.join_group(endpoint) {
                Ok(id) => {
                    groups.insert(id);
                }
                Err(error) => {
                    if let Some(member) = self.members.get_mut(&endpoint) {
                        let blocked = member.wants == Attachment::Blocked;
                        member.refused = (!blocked).then_some(error);
                    }
                }
            }
        }
        for id in groups {
            self.settle_group(id);
        }
    }

    fn assign_moving(&mut self, endpoint: Endpoint) {
        let Some(member) = self.members.get(&endpoint).copied() else {
            return;
        };
        let nested = member.nested.map(|tag| Content::Nested(tag.table));
        let table = match nested.or_else(|| Content::of(member.wants)) {
            Some(Content::Nothing) => Ok(None),
            Some(content) => self.table_for(content, member.unit).map(Some),
            None => Err(HostError::Unsupported),
        };
        let table = table.and_then(|id| match id.filter(|_| id != member.place) {
            Some(new) => self.ready(new, endpoint).map(|()| id),
            None => Ok(id),
        });
        self.leave(endpoint, member.table);
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.table = table.unwrap_or_default();
            member.refused = table.err();
        }
        if let Ok(Some(id)) = table
            && let Some(table) = self.tables.get_mut(&id)
        {
            table.members.insert(endpoint);
        }
        if !matches!(table, Ok(Some(_))) {
            self.position(endpoint);
        }
    }

    /// The table that holds `content`, made if need be.
    fn table_for(&mut self, content: Content, unit: UnitId) -> Result<TableId, HostError> {
        if content == Content::Identity
            && let Some(id) = self.host.identity_table()
        {
            return Ok(id);
        }
        if let Some(id) = self.tables_of(content).first() {
            return Ok(*id);
        }
        let capabilities = self.capabilities_of(unit)?;
        let role = match content {
            Content::Nested(nested) => {
                let below = nested.on.map_or(Content::Identity, Content::Parent);
                let parent = self.table_for(below, unit)?;
                return self.new_nested(nested, parent, capabilities);
            }
            Content::Parent(_) => Role::Parent,
            Content::Nothing | Content::Identity | Content::Guest(_) => Role::Plain,
        };
        let (id, limits) = self.new_table(role)?;
        let joining = self.host.features().can_cut;
        let table = HostTable::new(id, content, capabilities, limits, joining);
        self.add_table(table);
        self.ask(content, [IovaRange::ALL]);
        Ok(id)
    }

    /// An empty table and what it can hold. One of which the host does not say that is kept for the next time if the host does
    /// not take it back either: a guest that tries again and again costs one table.
    fn new_table(&mut self, role: Role) -> Result<(TableId, Limits), HostError> {
        let id = match self.spare.remove(&role) {
            Some(id) => id,
            None => self.host.create_table(role)?,
        };
        let limits = self.host.limits(id);
        if limits.is_err() && self.host.destroy_table(id).is_err() {
            self.spare.insert(role, id);
        }
        Ok((id, limits?))
    }

    /// Readies a table for an endpoint before anything is mapped for it, so that what the two can do together is known.
    fn ready(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        let known = self.tables.get(&table);
        if let Some(beneath) = known.and_then(|table| self.beneath(table)).map(|it| it.id) {
            self.host.prepare(beneath, endpoint)?;
        }
        self.host.prepare(table, endpoint)?;
        self.read_limits(table);
        Ok(())
    }

    /// Makes an endpoint a member of the table of its group; returns that table.
    fn join_group(&mut self, endpoint: Endpoint) -> Result<TableId, HostError> {
        let id = self.host.fixed_table(endpoint.device);
        let id = id.filter(|_| endpoint.pasid.is_none());
        let id = id.ok_or(HostError::Unsupported)?;
        let member = self.members.get_mut(&endpoint);
        let member = member.ok_or(HostError::NotFound)?;
        member.table = Some(id);
        let unit = member.unit;
        let capabilities = self.capabilities_of(unit)?;
        if !self.tables.contains_key(&id) {
            let limits = self.host.limits(id)?;
            let table = HostTable::new(id, Content::Nothing, capabilities, limits, false);
            self.add_table(table);
        }
        let table = self.tables.get_mut(&id).ok_or(HostError::NotFound)?;
        table.members.insert(endpoint);
        table.capabilities = capabilities;
        Ok(id)
    }

    /// Settles what the table of a group shall hold: what all its devices agree about, otherwise nothing.
    fn settle_group(&mut self, id: TableId) {
        let Some(table) = self.tables.get_mut(&id) else {
            return;
        };
        let members: Vec<Endpoint> = table.members.iter().copied().collect();
        let mut wanted = members
            .iter()
            .filter_map(|endpoint| self.members.get(endpoint))
            .map(|member| Content::of(member.wants));
        let first = wanted.next().flatten();
        let agreed = first.filter(|first| wanted.all(|other| other == Some(*first)));
        let content = agreed.unwrap_or(Content::Nothing);
        if content != table.content {
            self.rename(id, content);
            self.ask(content, [IovaRange::ALL]);
        }
        for endpoint in members {
            if let Some(member) = self.members.get_mut(&endpoint) {
                let served = Content::of(member.wants) == Some(content);
                member.refused = (!served).then_some(HostError::Unsupported);
            }
        }
    }

    /// Attaches an endpoint to its table, or detaches it where there is none that may be used.
    pub fn position(&mut self, endpoint: Endpoint) {
        let returning = self.returning.remove(&endpoint);
        if !self.host.features().can_move {
            return;
        }
        if self.restless.contains(&endpoint) {
            self.detach_again(endpoint);
        }
        let Some(member) = self.members.get(&endpoint).copied() else {
            return;
        };
        let usable = |id: &TableId| self.both_stages(*id).all(|table| table.trouble.is_none());
        let target = member.table.filter(usable);
        if target == member.place {
            return;
        }
        let (place, refused) = match target {
            Some(table) => {
                let (place, refused) = self.move_to(endpoint, member.place, table);
                if returning && refused.is_some() {
                    self.returning.insert(endpoint);
                }
                (place, refused)
            }
            None => (self.detach(endpoint, member.place), member.refused),
        };
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.place = place;
            member.refused = refused;
        }
    }

    /// Attaches an endpoint to `to`, in place of `from`. Returns where it is then, and why it is not there.
    fn move_to(
        &mut self,
        endpoint: Endpoint,
        from: Option<TableId>,
        to: TableId,
    ) -> (Option<TableId>, Option<HostError>) {
        let mut left = from;
        if let Some(before) = from {
            self.host.count(Some(to), |stats| stats.replaced += 1);
            if self.must_detach_first(endpoint, before, to) {
                left = self.detach(endpoint, from);
                if left.is_some() {
                    return (left, Some(HostError::Busy));
                }
            }
        }
        match self.host.attach(endpoint, to) {
            Ok(()) => {
                self.restless.remove(&endpoint);
                self.read_limits(to);
                (Some(to), None)
            }
            // What the host remembers of the endpoint must go before anything can be attached again.
            Err(error) => (self.detach(endpoint, left), Some(error)),
        }
    }

    /// What is known of an endpoint that was not detached may be wrong: its device may have been closed, and another one opened
    /// by the same name. So it is detached, which is no error then, before anything is concluded from its place.
    fn detach_again(&mut self, endpoint: Endpoint) {
        let place = self.members.get(&endpoint).and_then(|member| member.place);
        let place = self.detach(endpoint, place);
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.place = place;
        }
    }

    /// Detaches an endpoint from `place`, now or, if the host refuses, with one of the next batches; returns where it is.
    fn detach(&mut self, endpoint: Endpoint, place: Option<TableId>) -> Option<TableId> {
        // A device that the host does not know was closed, and goes through nothing.
        if matches!(
            self.host.detach(endpoint, place),
            Ok(()) | Err(HostError::NotFound)
        ) {
            self.restless.remove(&endpoint);
            return None;
        }
        self.restless.insert(endpoint);
        place
    }

    /// A table, or the one that it stands on, may be able to hold less since a device joined.
    fn read_limits(&mut self, id: TableId) {
        let table = self.tables.get(&id);
        let id = table.and_then(|table| table.parent).unwrap_or(id);
        if let Some(table) = self.tables.get_mut(&id)
            && let Ok(limits) = self.host.limits(id)
        {
            table.limits = limits;
        }
    }

    /// Forgets an endpoint that is gone for good.
    pub fn prune(&mut self, endpoint: Endpoint) {
        let gone = self.members.get(&endpoint).is_some_and(|member| {
            (endpoint.pasid.is_some() || member.gone)
                && member.wants == Attachment::Blocked
                && member.place.is_none()
        });
        if gone {
            self.members.remove(&endpoint);
        }
    }

    fn leave(&mut self, endpoint: Endpoint, table: Option<TableId>) {
        if let Some(table) = table.and_then(|id| self.tables.get_mut(&id)) {
            table.members.remove(&endpoint);
        }
    }

    fn capabilities_of(&self, unit: UnitId) -> Result<Capabilities, HostError> {
        self.units.get(&unit).copied().ok_or(HostError::NotFound)
    }

    /// A device is no longer there: whatever the guest says, it goes through nothing.
    pub fn forget(&mut self, device: DeviceHandle) {
        let endpoints: Vec<Endpoint> = self.endpoints_of(device).collect();
        for endpoint in endpoints {
            if let Some(member) = self.members.get(&endpoint).copied() {
                self.want(member.unit, endpoint, Attachment::Blocked);
            }
            if let Some(member) = self.members.get_mut(&endpoint) {
                member.gone = true;
            }
        }
    }

    /// Nothing is kept of a device that is gone, but where it could not be detached.
    pub fn drop_members(&mut self, device: DeviceHandle) {
        let restless = &self.restless;
        self.members.retain(|endpoint, member| {
            endpoint.device != device || restless.contains(endpoint) && member.place.is_some()
        });
    }

    /// The table of a device that cannot move and is gone goes with the last device of its group; until then the others may
    /// agree now, which is to be carried out.
    pub fn drop_fixed(&mut self, device: DeviceHandle) {
        let Some(id) = self.host.fixed_table(device) else {
            return;
        };
        let endpoint = Endpoint {
            device,
            pasid: None,
        };
        self.leave(endpoint, Some(id));
        let unused = |table: &HostTable| table.members.is_empty();
        if self.tables.get(&id).is_some_and(unused) {
            self.remove_table(id);
        } else {
            self.settle_group(id);
        }
    }
}
