// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls of the host, counted, timed and logged.

use super::clock::{Clock, SinceStart};
use super::stats::{DeviceStats, HostCalls, Stats};
use crate::backend::{Backend, Endpoint, Features, HostError, Limits, Role, TableId};
use crate::nested::{Flush, NestedTable};
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Times that a call is made again while the host is busy with the object.
const ATTEMPTS: u32 = 3;

/// The counter of a kind of call.
type Counter = fn(&mut HostCalls) -> &mut u64;

/// A host and what was asked of it.
#[derive(Debug)]
pub struct Host {
    backend: Box<dyn Backend>,
    clock: Arc<dyn Clock>,
    /// Of everything.
    pub stats: Stats,
    /// Of tables in use.
    tables: BTreeMap<TableId, Stats>,
    devices: BTreeMap<DeviceHandle, DeviceStats>,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, Default)]
struct On {
    table: Option<TableId>,
    device: Option<DeviceHandle>,
}

impl On {
    const fn table(table: TableId) -> Self {
        Self {
            table: Some(table),
            device: None,
        }
    }

    const fn both(table: TableId, endpoint: Endpoint) -> Self {
        Self {
            table: Some(table),
            device: Some(endpoint.device),
        }
    }
}

impl Host {
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            backend,
            clock: Arc::new(SinceStart::default()),
            stats: Stats::default(),
            tables: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }

    pub fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// The time by the clock that calls are timed with.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Counts in all of the counters that `table` has a part in.
    pub fn count(&mut self, table: Option<TableId>, mut add: impl FnMut(&mut Stats)) {
        add(&mut self.stats);
        self.count_only(table, add);
    }

    /// Counts for `table`, but not among everything: what is done once for several tables.
    pub fn count_only(&mut self, table: Option<TableId>, mut add: impl FnMut(&mut Stats)) {
        if let Some(stats) = table.and_then(|id| self.tables.get_mut(&id)) {
            add(stats);
        }
    }

    /// Counts for `table` from now on.
    pub fn begin_counting(&mut self, table: TableId) {
        self.tables.entry(table).or_default();
    }

    pub fn stats_of(&self, table: TableId) -> Stats {
        self.tables.get(&table).cloned().unwrap_or_default()
    }

    pub fn forget_table(&mut self, table: TableId) {
        self.tables.remove(&table);
    }

    /// The counters of a device of this machine.
    pub fn device(&mut self, device: DeviceHandle) -> &mut DeviceStats {
        self.devices.entry(device).or_default()
    }

    pub fn stats_of_device(&self, device: DeviceHandle) -> DeviceStats {
        self.devices.get(&device).copied().unwrap_or_default()
    }

    pub fn forget_device(&mut self, device: DeviceHandle) {
        self.devices.remove(&device);
    }

    pub fn features(&self) -> Features {
        self.backend.features()
    }

    pub fn identity_table(&self) -> Option<TableId> {
        self.backend.identity_table()
    }

    pub fn fixed_table(&self, device: DeviceHandle) -> Option<TableId> {
        self.backend.fixed_table(device)
    }

    pub fn limits(&mut self, table: TableId) -> Result<Limits, HostError> {
        let what = "read the limits of a host table";
        let on = On::table(table);
        self.call(
            what,
            |calls| &mut calls.query,
            on,
            |host| host.limits(table),
        )
    }

    pub fn entries_left(&mut self, table: TableId) -> Option<u64> {
        let left = self.call(
            "read how many mappings are left",
            |calls| &mut calls.query,
            On::table(table),
            |host| host.entries_left(table),
        );
        left.ok().flatten().map(u64::from)
    }

    pub fn create_table(&mut self, role: Role) -> Result<TableId, HostError> {
        let what = "make a host table";
        let on = On::default();
        self.call(
            what,
            |calls| &mut calls.create,
            on,
            |host| host.create_table(role),
        )
    }

    pub fn create_nested(
        &mut self,
        parent: TableId,
        table: NestedTable,
    ) -> Result<TableId, HostError> {
        self.call(
            "make a nested host table",
            |calls| &mut calls.create,
            On::default(),
            |host| host.create_nested(parent, table),
        )
    }

    pub fn invalidate(&mut self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        let on = On::table(table);
        self.patiently(
            "invalidate a nested host table",
            |calls| &mut calls.invalidate,
            on,
            |host| host.invalidate(table, flushes),
        )
    }

    pub fn page_requests(&self, device: DeviceHandle) -> bool {
        self.backend.page_requests(device)
    }

    pub fn destroy_table(&mut self, table: TableId) -> Result<(), HostError> {
        self.call(
            "give up a host table",
            |calls| &mut calls.destroy,
            On::table(table),
            |host| host.destroy_table(table),
        )
    }

    pub fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError> {
        let on = On::table(table);
        self.patiently(
            "map",
            |calls| &mut calls.map,
            on,
            |backend| backend.map(table, run, host),
        )
    }

    /// Removes a range that cuts no mapping; returns the bytes.
    pub fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        let on = On::table(table);
        self.patiently(
            "unmap",
            |calls| &mut calls.unmap,
            on,
            |host| host.unmap(table, range),
        )
    }

    pub fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        let on = On::table(table);
        self.patiently(
            "cut a mapping",
            |calls| &mut calls.cut,
            on,
            |host| host.cut_out(table, range),
        )
    }

    pub fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        self.patiently(
            "empty a host table",
            |calls| &mut calls.unmap_all,
            On::table(table),
            |host| host.unmap_all(table),
        )
    }

    pub fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        self.call(
            "ready a host table for a device",
            |calls| &mut calls.prepare,
            On::both(table, endpoint),
            |host| host.prepare(table, endpoint),
        )
    }

    pub fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        self.device(endpoint.device).attach += 1;
        let on = On::both(table, endpoint);
        self.call(
            "attach a device",
            |calls| &mut calls.attach,
            on,
            |host| host.attach(endpoint, table),
        )
    }

    /// `place` is the table that the endpoint goes through.
    pub fn detach(&mut self, endpoint: Endpoint, place: Option<TableId>) -> Result<(), HostError> {
        self.device(endpoint.device).detach += 1;
        let on = On {
            table: place,
            device: Some(endpoint.device),
        };
        self.patiently(
            "detach a device",
            |calls| &mut calls.detach,
            on,
            |host| host.detach(endpoint),
        )
    }

    /// Makes a call again while the host is busy.
    fn patiently<T>(
        &mut self,
        what: &str,
        counter: Counter,
        on: On,
        mut call: impl FnMut(&mut dyn Backend) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut attempt = 1;
        loop {
            let result = self.call(what, counter, on, &mut call);
            let busy = matches!(result, Err(HostError::Busy));
            if !busy || attempt == ATTEMPTS {
                return result;
            }
            attempt += 1;
        }
    }

    fn call<T>(
        &mut self,
        what: &str,
        counter: Counter,
        on: On,
        call: impl FnOnce(&mut dyn Backend) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let start = self.clock.now();
        let result = call(self.backend.as_mut());
        let time = self.clock.now().saturating_sub(start);
        self.count(on.table, |stats| {
            *counter(&mut stats.calls) += 1;
            stats.times.add(time);
        });
        if let Err(error) = &result {
            if let Some(device) = on.device {
                self.device(device).refusals += 1;
            }
            self.refused(what, on.table, *error);
        }
        result
    }

    /// Counts a refusal. Each kind is told when it comes first, then ever more rarely: guests can cause them at will.
    pub fn refused(&mut self, what: &str, table: Option<TableId>, error: HostError) {
        self.count(table, |stats| stats.refusals.count(error));
        let times = self.stats.refusals.of(error);
        if times.is_power_of_two() {
            tracing::warn!(%error, times, "the host refused to {what}");
        }
    }
}
