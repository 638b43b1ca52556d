// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fake host's nested tables and PASIDs, with the rules of drivers/iommu/iommufd/{hw_pagetable,device}.c and
//! drivers/iommu/intel/{nested,pasid}.c of Linux 7.2.
//!
//! A nested table stands on one that was made for that, or on that of all RAM, which stays as long; a unit that does not nest
//! has page tables for neither. Making a nested table checks little; attaching one checks the hardware, when what was attached
//! before is torn down already. PASID 0 and PASIDs beyond the device's width are refused before. Replacing by another table,
//! whatever the outcome, is a moment in which the endpoint is blocked: counted. Replacing one nested table with page requests by
//! another on requests without PASID loses a reference, which real kernels complain about at the end: counted as well.

use super::super::{Endpoint, HostError, Role, TableId};
use super::{Call, FakeBackend, FakeTable, Logged, State};
use crate::hardware::Support;
use crate::nested::{Flush, NestedTable};
use iommu::follow::DeviceHandle;
use std::collections::BTreeMap;

/// ENODEV: page requests are not enabled for the device.
const NO_PAGE_REQUESTS: HostError = HostError::Other(19);

/// What is nested, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Nested {
    pub(super) tables: BTreeMap<TableId, Standing>,
    /// What devices can do that are unlike the others.
    pub(super) support: BTreeMap<DeviceHandle, Support>,
    flushes: Vec<(TableId, Vec<Flush>)>,
    pub(super) replaced: BTreeMap<Endpoint, u64>,
    leaks: u64,
}

/// A nested table and the one that it stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    table: NestedTable,
    parent: TableId,
}

impl Nested {
    /// The table whose mappings count for `table`: itself, or the one that it stands on.
    pub(super) fn ground(&self, table: TableId) -> TableId {
        self.tables
            .get(&table)
            .map_or(table, |nested| nested.parent)
    }

    /// Whether something stands on `table`.
    pub(super) fn stands_on(&self, table: TableId) -> bool {
        self.tables.values().any(|nested| nested.parent == table)
    }
}

impl FakeBackend {
    /// What the host can do for a device, instead of what it can do for all.
    pub fn set_support(&self, device: DeviceHandle, support: Support) {
        self.state().nested.support.insert(device, support);
    }

    /// The nested tables that exist.
    #[must_use]
    pub fn nested_tables(&self) -> BTreeMap<TableId, NestedTable> {
        let state = self.state();
        let tables = state.nested.tables.iter();
        tables.map(|(id, nested)| (*id, nested.table)).collect()
    }

    /// The guest's table that an endpoint's requests really go through, if they go through one.
    #[must_use]
    pub fn walks(&self, endpoint: Endpoint) -> Option<NestedTable> {
        let table = self.reaches(endpoint)?;
        let state = self.state();
        state.nested.tables.get(&table).map(|nested| nested.table)
    }

    /// The table whose mappings an endpoint's requests really end in: that which it is attached to, or the one beneath.
    #[must_use]
    pub fn ground(&self, endpoint: Endpoint) -> Option<TableId> {
        let table = self.reaches(endpoint)?;
        Some(self.state().nested.ground(table))
    }

    /// What was invalidated since this was taken last, call by call.
    #[must_use]
    pub fn take_flushes(&self) -> Vec<(TableId, Vec<Flush>)> {
        std::mem::take(&mut self.state().nested.flushes)
    }

    /// How often an endpoint was blocked for a moment, because another table took the place of one.
    #[must_use]
    pub fn replaced(&self, endpoint: Endpoint) -> u64 {
        let state = self.state();
        state
            .nested
            .replaced
            .get(&endpoint)
            .copied()
            .unwrap_or_default()
    }

    /// References that were lost.
    #[must_use]
    pub fn leaks(&self) -> u64 {
        self.state().nested.leaks
    }

    /// Endpoints that the host remembers, blocked or not.
    #[must_use]
    pub fn attached(&self) -> Vec<Endpoint> {
        self.state().endpoints.keys().copied().collect()
    }

    pub(super) fn make_nested(
        &self,
        parent: TableId,
        table: NestedTable,
    ) -> Result<TableId, HostError> {
        let mut state = self.state();
        let id = TableId(state.next);
        let call = Call::CreateNested(id, table, parent);
        let below = state.tables.get(&parent).map(FakeTable::role);
        let able = match below {
            _ if !self.options.features.nesting => Err(HostError::Unsupported),
            Some(Role::Parent) => Ok(()),
            Some(Role::Plain) | None => Err(HostError::Invalid),
        };
        let result = able.and_then(|()| state.injected(&call)).map(|()| {
            state.next += 1;
            state.nested.tables.insert(id, Standing { table, parent });
            id
        });
        state.log.push(Logged {
            call,
            result: result.map(|_| 0),
        });
        result
    }

    pub(super) fn flush(&self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        let mut state = self.state();
        let call = Call::Invalidate(table, flushes.len());
        let result = if state.nested.tables.contains_key(&table) {
            state.injected(&call)
        } else {
            Err(HostError::NotFound)
        };
        if result.is_ok() {
            state.nested.flushes.push((table, flushes.to_vec()));
        }
        state.log.push(Logged {
            call,
            result: result.map(|()| 0),
        });
        result
    }

    pub(super) fn support_of(&self, device: DeviceHandle) -> Support {
        let known = self.state().nested.support.get(&device).copied();
        known.unwrap_or(self.options.support)
    }
}

/// What is refused before anything is touched: a PASID that the device cannot have.
pub(super) fn check_pasid(endpoint: Endpoint, support: &Support) -> Result<(), HostError> {
    match endpoint.pasid {
        None => Ok(()),
        Some(_) if support.pasid_bits == 0 => Err(HostError::Unsupported),
        Some(pasid) if pasid.get() == 0 || pasid.get() >> support.pasid_bits != 0 => {
            Err(HostError::Invalid)
        }
        Some(_) => Ok(()),
    }
}

impl State {
    /// Whether the kernel has a page table for the unit of a device: one to stand on only where the unit nests.
    pub(super) fn can_serve(&self, table: TableId, support: &Support) -> Result<(), HostError> {
        let role = self.tables.get(&table).map(FakeTable::role);
        let stood_on = role == Some(Role::Parent) && self.identity != Some(table);
        if stood_on && !support.first_stage {
            return Err(HostError::Unsupported);
        }
        self.walkable(table, support)
    }

    /// What the hardware says when `table` is to be attached for a device.
    pub(super) fn walkable(&self, table: TableId, support: &Support) -> Result<(), HostError> {
        let Some(Standing { table: nested, .. }) = self.nested.tables.get(&table) else {
            return Ok(());
        };
        support.serves(nested)?;
        if nested.page_requests && !support.page_requests {
            return Err(NO_PAGE_REQUESTS);
        }
        Ok(())
    }

    /// Notes that `table` is to take the place of `before`.
    pub(super) fn note_replacement(&mut self, endpoint: Endpoint, before: TableId, table: TableId) {
        *self.nested.replaced.entry(endpoint).or_default() += 1;
        let asks = |id| {
            let nested = self.nested.tables.get(&id);
            nested.is_some_and(|nested| nested.table.page_requests)
        };
        if endpoint.pasid.is_none() && asks(before) && asks(table) {
            self.nested.leaks += 1;
        }
    }
}
