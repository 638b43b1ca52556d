// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls of the host, counted and logged.

use super::stats::{HostCalls, Stats};
use crate::backend::{Backend, Endpoint, Features, HostError, Limits, TableId};
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use std::time::Instant;

/// Times that a call is made again while the host is busy with the object.
const ATTEMPTS: u32 = 3;

/// A host and what was asked of it.
#[derive(Debug)]
pub struct Host {
    backend: Box<dyn Backend>,
    pub stats: Stats,
}

impl Host {
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            backend,
            stats: Stats::default(),
        }
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
        let result = self.timed(|backend| backend.limits(table));
        self.judge("read the limits of a host table", result)
    }

    pub fn entries_left(&mut self, table: TableId) -> Option<u64> {
        let result = self.timed(|backend| backend.entries_left(table));
        let left = self.judge("read how many mappings are left", result);
        left.ok().flatten().map(u64::from)
    }

    pub fn create_table(&mut self) -> Result<TableId, HostError> {
        self.stats.calls.create += 1;
        let result = self.timed(|backend| backend.create_table());
        self.judge("make a host table", result)
    }

    pub fn destroy_table(&mut self, table: TableId) -> Result<(), HostError> {
        self.stats.calls.destroy += 1;
        let result = self.timed(|backend| backend.destroy_table(table));
        self.judge("give up a host table", result)
    }

    pub fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError> {
        self.patiently(
            "map",
            |calls| &mut calls.map,
            |backend| backend.map(table, run, host),
        )
    }

    /// Removes a range that cuts no mapping; returns the bytes.
    pub fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        self.patiently(
            "unmap",
            |calls| &mut calls.unmap,
            |backend| backend.unmap(table, range),
        )
    }

    pub fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        self.patiently(
            "cut a mapping",
            |calls| &mut calls.cut,
            |backend| backend.cut_out(table, range),
        )
    }

    pub fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        self.patiently(
            "empty a host table",
            |calls| &mut calls.unmap_all,
            |backend| backend.unmap_all(table),
        )
    }

    pub fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        let result = self.timed(|backend| backend.prepare(table, endpoint));
        self.judge("ready a host table for a device", result)
    }

    pub fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        self.stats.calls.attach += 1;
        let result = self.timed(|backend| backend.attach(endpoint, table));
        self.judge("attach a device", result)
    }

    pub fn detach(&mut self, endpoint: Endpoint) -> Result<(), HostError> {
        self.patiently(
            "detach a device",
            |calls| &mut calls.detach,
            |backend| backend.detach(endpoint),
        )
    }

    /// Makes a call again while the host is busy.
    fn patiently<T>(
        &mut self,
        what: &str,
        counter: impl Fn(&mut HostCalls) -> &mut u64,
        mut call: impl FnMut(&mut dyn Backend) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut attempt = 1;
        loop {
            *counter(&mut self.stats.calls) += 1;
            let result = self.timed(&mut call);
            let busy = matches!(result, Err(HostError::Busy));
            let result = self.judge(what, result);
            if !busy || attempt == ATTEMPTS {
                return result;
            }
            attempt += 1;
        }
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut dyn Backend) -> T) -> T {
        let start = Instant::now();
        let result = call(self.backend.as_mut());
        self.stats.times.add(start.elapsed());
        result
    }

    fn judge<T>(&mut self, what: &str, result: Result<T, HostError>) -> Result<T, HostError> {
        if let Err(error) = &result {
            self.refused(what, *error);
        }
        result
    }

    /// Counts a refusal. Each kind is told when it comes first, then ever more rarely: guests can cause them at will.
    pub fn refused(&mut self, what: &str, error: HostError) {
        self.stats.refusals.count(error);
        let times = self.stats.refusals.of(error);
        if times.is_power_of_two() {
            tracing::warn!(%error, times, "the host refused to {what}");
        }
    }
}
