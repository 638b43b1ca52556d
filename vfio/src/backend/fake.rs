// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host in memory, with the rules of the kernel's (drivers/vfio/vfio_iommu_type1.c and drivers/iommu/iommufd of Linux 7.2)
//! and a log of what it was asked, for tests.
//!
//! The rules: mappings never overlap; an unmap that would cut a mapping does nothing and is an error (type1) or looks like
//! an empty range, once whole mappings before it are gone (iommufd); only iommufd has the cut; type1 has an entry limit and no
//! moves; addresses outside the aperture, misaligned ones and such without RAM behind are refused; a device that reserves addresses
//! takes them from the tables that it is attached to; a failed replacement leaves the endpoint blocked, and attaching the table
//! that the host still remembers then does nothing; a table in use cannot be destroyed, nor one on which another stands; one that
//! is made to be stood on takes nothing for reading only.

mod calls;
mod faults;
mod nested;
mod table;

pub use faults::{CallKind, Injection};
pub use table::FakeTable;

use super::{Endpoint, Features, HostError, Limits, Role, TableId};
use crate::hardware::Support;
use crate::nested::NestedTable;
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::{Iova, IovaRange};
use iommu::follow::DeviceHandle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One call, as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A table was made.
    Create(TableId),
    /// A nested table was made, on another table.
    CreateNested(TableId, NestedTable, TableId),
    /// So many ranges of a nested table were invalidated.
    Invalidate(TableId, usize),
    /// A table was given up.
    Destroy(TableId),
    /// What a table can hold was asked; not logged, since it changes nothing.
    Limits(TableId),
    /// A run was mapped, from this process's memory.
    Map(TableId, Run, HostVa),
    /// A range was removed.
    Unmap(TableId, IovaRange),
    /// A range was cut out.
    CutOut(TableId, IovaRange),
    /// Everything was removed.
    UnmapAll(TableId),
    /// An endpoint was attached.
    Attach(Endpoint, TableId),
    /// An endpoint was detached.
    Detach(Endpoint),
}

/// A call and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The call.
    pub call: Call,
    /// Bytes removed by calls that remove, otherwise 0; or the refusal.
    pub result: Result<u64, HostError>,
}

/// What kind of host it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeOptions {
    /// What it can do.
    pub features: Features,
    /// What each table can hold.
    pub limits: Limits,
    /// Mappings that a table can hold.
    pub entry_limit: Option<u32>,
    /// What it can do for PASIDs and guests' own tables.
    pub support: Support,
    /// Tables that can be attached to something at a time: each needs a domain id of the unit.
    pub domain_ids: Option<usize>,
}

impl FakeOptions {
    /// iommufd with page-size entries, 48-bit addresses and the interrupt window reserved.
    #[must_use]
    pub fn iommufd() -> Self {
        Self {
            features: Features {
                can_cut: true,
                can_move: true,
                device_memory: false,
                pasid: true,
                nesting: false,
            },
            limits: Limits {
                page_sizes: 0x1000,
                ranges: usable(47),
            },
            entry_limit: None,
            support: Support {
                pasid_bits: 20,
                ..Support::NOTHING
            },
            domain_ids: None,
        }
    }

    /// iommufd on a unit that nests, and can do all else.
    #[must_use]
    pub fn nesting() -> Self {
        let plain = Self::iommufd();
        Self {
            features: Features {
                nesting: true,
                ..plain.features
            },
            support: Support::EVERYTHING,
            ..plain
        }
    }

    /// iommufd with large pages in every table: mappings cannot be cut.
    #[must_use]
    pub fn iommufd_with_large_pages() -> Self {
        let cutting = Self::iommufd();
        Self {
            features: Features {
                can_cut: false,
                ..cutting.features
            },
            ..cutting
        }
    }

    /// A type1 container with its default limit, 48-bit addresses and the interrupt window reserved.
    #[must_use]
    pub fn type1() -> Self {
        Self {
            features: Features {
                can_cut: false,
                can_move: false,
                device_memory: true,
                pasid: false,
                nesting: false,
            },
            limits: Limits {
                page_sizes: !0xfff,
                ranges: usable(47),
            },
            entry_limit: Some(65_535),
            support: Support::NOTHING,
            domain_ids: None,
        }
    }
}

/// All addresses of `1 << bits` bytes but for the interrupt window.
fn usable(bits: u32) -> Vec<IovaRange> {
    let below = IovaRange::new(Iova(0), Iova(0xfedf_ffff));
    let above = IovaRange::new(Iova(0xfef0_0000), Iova((1 << bits) - 1));
    below.into_iter().chain(above).collect()
}

/// A host in memory. Clones are the same host, so that a test can look at what it gave away.
#[derive(Clone, Debug)]
pub struct FakeBackend {
    options: FakeOptions,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableId, FakeTable>,
    next: u32,
    identity: Option<TableId>,
    fixed: BTreeMap<DeviceHandle, TableId>,
    endpoints: BTreeMap<Endpoint, Attached>,
    reserved: BTreeMap<DeviceHandle, IovaRange>,
    beyond: BTreeMap<DeviceHandle, IovaRange>,
    closed: BTreeSet<DeviceHandle>,
    log: Vec<Logged>,
    injections: Vec<Injection>,
    nested: nested::Nested,
}

/// What an endpoint is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attached {
    /// What the host remembers.
    table: TableId,
    /// A replacement failed, so that the hardware's entry is clear whatever the host remembers.
    blocked: bool,
}

impl FakeBackend {
    /// A host without devices. One whose endpoints move has a table of all RAM.
    #[must_use]
    pub fn new(options: FakeOptions) -> Self {
        let mut state = State::default();
        if options.features.can_move {
            state.identity = Some(state.add_table(&options, Role::Parent));
        }
        Self {
            options,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Opens a device. Where endpoints cannot move it comes with a table of its own, and is attached to it for good.
    pub fn open(&self, device: DeviceHandle) {
        let mut state = self.state();
        state.closed.remove(&device);
        if !self.options.features.can_move {
            let table = state.add_table(&self.options, Role::Plain);
            state.put(device, table);
        }
    }

    /// Closes a device: nothing of it is attached any more, and its name is unknown until it is opened again.
    pub fn close(&self, device: DeviceHandle) {
        let mut state = self.state();
        state.closed.insert(device);
        state.fixed.remove(&device);
        state
            .endpoints
            .retain(|endpoint, _| endpoint.device != device);
    }

    /// Opens a device of the same group as `other`: both share a table for good.
    pub fn open_beside(&self, device: DeviceHandle, other: DeviceHandle) {
        let mut state = self.state();
        if let Some(table) = state.fixed.get(&other).copied() {
            state.put(device, table);
        }
    }

    /// A device reserves a range: a table that it is attached to can no longer map it, and one that does refuses the device.
    pub fn reserve(&self, device: DeviceHandle, range: IovaRange) {
        self.state().reserved.insert(device, range);
    }

    /// The unit of a device cannot translate `range`: a table that is readied for the device can no longer map it.
    pub fn narrow(&self, device: DeviceHandle, range: IovaRange) {
        self.state().beyond.insert(device, range);
    }

    /// Loses what `table` maps in `range`, which cuts nothing, without anybody having asked.
    pub fn lose(&self, table: TableId, range: IovaRange) {
        if let Some(table) = self.state().tables.get_mut(&table) {
            let _ = table.unmap(range);
        }
    }

    /// Makes calls fail from now on.
    pub fn inject(&self, injection: Injection) {
        self.state().injections.push(injection);
    }

    /// Takes back all injections.
    pub fn heal(&self) {
        self.state().injections.clear();
    }

    /// All calls since the log was taken last.
    #[must_use]
    pub fn take_log(&self) -> Vec<Logged> {
        std::mem::take(&mut self.state().log)
    }

    /// The table of all RAM.
    #[must_use]
    pub fn identity(&self) -> Option<TableId> {
        self.state().identity
    }

    /// What `table` holds, ascending, mapping by mapping; `None` when there is no such table.
    #[must_use]
    pub fn mappings(&self, table: TableId) -> Option<Vec<Run>> {
        let state = self.state();
        state.tables.get(&table).map(FakeTable::mappings)
    }

    /// The tables that exist and are not nested.
    #[must_use]
    pub fn tables(&self) -> Vec<TableId> {
        self.state().tables.keys().copied().collect()
    }

    /// The table that an endpoint's requests really go through; `None` when they are blocked.
    #[must_use]
    pub fn reaches(&self, endpoint: Endpoint) -> Option<TableId> {
        let state = self.state();
        let attached = state.endpoints.get(&endpoint)?;
        (!attached.blocked).then_some(attached.table)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a call on a table, unless it is to fail, and logs it.
    fn on_table(
        &self,
        call: Call,
        table: TableId,
        act: impl FnOnce(&mut FakeTable) -> Result<u64, HostError>,
    ) -> Result<u64, HostError> {
        let mut state = self.state();
        let result = state.injected(&call).and_then(|()| {
            let table = state.tables.get_mut(&table).ok_or(HostError::NotFound)?;
            act(table)
        });
        state.log.push(Logged { call, result });
        result
    }
}

impl State {
    fn add_table(&mut self, options: &FakeOptions, role: Role) -> TableId {
        let id = TableId(self.next);
        self.next += 1;
        let table = FakeTable::new(&options.limits, options.entry_limit, options.features, role);
        self.tables.insert(id, table);
        id
    }

    fn put(&mut self, device: DeviceHandle, table: TableId) {
        self.fixed.insert(device, table);
        let endpoint = Endpoint {
            device,
            pasid: None,
        };
        let attached = Attached {
            table,
            blocked: false,
        };
        self.endpoints.insert(endpoint, attached);
    }

    /// The error that the first injection that means `call` has for it.
    fn injected(&mut self, call: &Call) -> Result<(), HostError> {
        let error = self
            .injections
            .iter_mut()
            .find_map(|injection| injection.strike(call));
        error.map_or(Ok(()), Err)
    }

    fn attach(
        &mut self,
        endpoint: Endpoint,
        table: TableId,
        options: &FakeOptions,
        support: &Support,
    ) -> Result<(), HostError> {
        let known = self.tables.contains_key(&table) || self.nested.tables.contains_key(&table);
        if !known || self.closed.contains(&endpoint.device) {
            return Err(HostError::NotFound);
        }
        nested::check_pasid(endpoint, support)?;
        let before = self.endpoints.get(&endpoint).copied();
        if let Some(before) = before {
            if before.table == table {
                // The host remembers it, blocked or not.
                return Ok(());
            }
            self.note_replacement(endpoint, before.table, table);
        }
        let allowed = self
            .injected(&Call::Attach(endpoint, table))
            .and_then(|()| self.walkable(table, support))
            .and_then(|()| self.has_domain_id(table, options))
            .and_then(|()| self.narrow_in(endpoint.device, table))
            .and_then(|()| self.reserve_in(endpoint.device, table));
        match (allowed, self.endpoints.get_mut(&endpoint)) {
            (Ok(()), _) => {
                let attached = Attached {
                    table,
                    blocked: false,
                };
                self.endpoints.insert(endpoint, attached);
                Ok(())
            }
            (Err(error), Some(before)) => {
                before.blocked = true;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// A table that nothing is attached to yet needs a domain id.
    fn has_domain_id(&self, table: TableId, options: &FakeOptions) -> Result<(), HostError> {
        let Some(most) = options.domain_ids else {
            return Ok(());
        };
        let used: BTreeSet<TableId> = self.endpoints.values().map(|at| at.table).collect();
        if !used.contains(&table) && used.len() >= most {
            return Err(HostError::EntryLimit);
        }
        Ok(())
    }

    /// Takes what the unit of a device cannot translate from what a table, or the one that it stands on, can hold.
    fn narrow_in(&mut self, device: DeviceHandle, table: TableId) -> Result<(), HostError> {
        let table = self.nested.ground(table);
        match (self.beyond.get(&device), self.tables.get_mut(&table)) {
            (Some(range), Some(table)) => table.reserve(*range),
            _ => Ok(()),
        }
    }

    /// The same with what a device reserves.
    fn reserve_in(&mut self, device: DeviceHandle, table: TableId) -> Result<(), HostError> {
        let table = self.nested.ground(table);
        match (self.reserved.get(&device), self.tables.get_mut(&table)) {
            (Some(range), Some(table)) => table.reserve(*range),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
