// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fake host as a backend: each call is judged, carried out and logged.

use super::super::{Backend, Endpoint, Features, HostError, Limits, Role, TableId};
use super::{Call, FakeBackend, FakeTable, Logged};
use crate::nested::{Flush, NestedTable};
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;

impl Backend for FakeBackend {
    fn features(&self) -> Features {
        self.options.features
    }

    fn identity_table(&self) -> Option<TableId> {
        self.identity()
    }

    fn fixed_table(&self, device: DeviceHandle) -> Option<TableId> {
        self.state().fixed.get(&device).copied()
    }

    fn create_table(&mut self, role: Role) -> Result<TableId, HostError> {
        if !self.options.features.can_move {
            return Err(HostError::Unsupported);
        }
        let mut state = self.state();
        let call = Call::Create(TableId(state.next));
        let result = state.injected(&call);
        let result = result.map(|()| state.add_table(&self.options, role));
        state.log.push(Logged {
            call,
            result: result.map(|_| 0),
        });
        result
    }

    fn create_nested(&mut self, parent: TableId, table: NestedTable) -> Result<TableId, HostError> {
        self.make_nested(parent, table)
    }

    fn invalidate(&mut self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        self.flush(table, flushes)
    }

    fn page_requests(&self, device: DeviceHandle) -> bool {
        self.options.features.nesting && self.support_of(device).page_requests
    }

    fn destroy_table(&mut self, table: TableId) -> Result<(), HostError> {
        let mut state = self.state();
        let call = Call::Destroy(table);
        let used = state
            .endpoints
            .values()
            .any(|attached| attached.table == table);
        let used = used || state.nested.stands_on(table);
        let result = if used || state.identity == Some(table) {
            Err(HostError::Busy)
        } else {
            state.injected(&call).and_then(|()| {
                let plain = state.tables.remove(&table).is_some();
                let nested = state.nested.tables.remove(&table).is_some();
                (plain || nested).then_some(()).ok_or(HostError::NotFound)
            })
        };
        state.log.push(Logged {
            call,
            result: result.map(|()| 0),
        });
        result
    }

    fn limits(&mut self, table: TableId) -> Result<Limits, HostError> {
        let mut state = self.state();
        state.injected(&Call::Limits(table))?;
        let table = state.tables.get(&table).ok_or(HostError::NotFound)?;
        Ok(table.limits().clone())
    }

    fn entries_left(&mut self, table: TableId) -> Result<Option<u32>, HostError> {
        let state = self.state();
        let table = state.tables.get(&table).ok_or(HostError::NotFound)?;
        Ok(table.entries_left())
    }

    fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError> {
        let act = |table: &mut FakeTable| table.map(run, host).map(|()| 0);
        self.on_table(Call::Map(table, *run, host), table, act)
            .map(|_| ())
    }

    fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        self.on_table(Call::Unmap(table, range), table, |table| table.unmap(range))
    }

    fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        let act = |table: &mut FakeTable| table.cut_out(range);
        self.on_table(Call::CutOut(table, range), table, act)
    }

    fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        let act = |table: &mut FakeTable| table.unmap(IovaRange::ALL);
        self.on_table(Call::UnmapAll(table), table, act).map(|_| ())
    }

    fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        let support = self.support_of(endpoint.device);
        super::nested::check_pasid(endpoint, &support)?;
        let mut state = self.state();
        state.can_serve(table, &support)?;
        state.narrow_in(endpoint.device, table)
    }

    fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        let support = self.support_of(endpoint.device);
        let mut state = self.state();
        let result = if !self.options.features.can_move
            || endpoint.pasid.is_some() && !self.options.features.pasid
        {
            Err(HostError::Unsupported)
        } else {
            state.attach(endpoint, table, &self.options, &support)
        };
        state.log.push(Logged {
            call: Call::Attach(endpoint, table),
            result: result.map(|()| 0),
        });
        result
    }

    fn detach(&mut self, endpoint: Endpoint) -> Result<(), HostError> {
        let mut state = self.state();
        let call = Call::Detach(endpoint);
        let result = if !self.options.features.can_move {
            Err(HostError::Unsupported)
        } else if state.closed.contains(&endpoint.device) {
            Err(HostError::NotFound)
        } else {
            state.injected(&call)
        };
        if result.is_ok() {
            state.endpoints.remove(&endpoint);
        }
        state.log.push(Logged {
            call,
            result: result.map(|()| 0),
        });
        result
    }
}
