// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A backend with two users: the mirror, which tells it what to map, and the machine, which opens and closes devices while
//! the guest runs.
//!
//! Lock rule: the backend's lock is taken for one call and nothing is taken under it, so it comes after the mirror's.

use crate::backend::{Backend, Endpoint, Features, HostError, Limits, Role, TableId};
use crate::nested::{Flush, NestedTable};
use crate::ram::HostVa;
use crate::run::Run;
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One of the users.
#[derive(Debug)]
pub struct Shared<B>(Arc<Mutex<B>>);

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Shared<B> {
    /// The first user of `backend`; clones are further ones.
    #[must_use]
    pub fn new(backend: B) -> Self {
        Self(Arc::new(Mutex::new(backend)))
    }

    /// The backend, for what is not in its trait.
    pub fn lock(&self) -> MutexGuard<'_, B> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Backend for Shared<B> {
    fn features(&self) -> Features {
        self.lock().features()
    }

    fn identity_table(&self) -> Option<TableId> {
        self.lock().identity_table()
    }

    fn fixed_table(&self, device: DeviceHandle) -> Option<TableId> {
        self.lock().fixed_table(device)
    }

    fn create_table(&mut self, role: Role) -> Result<TableId, HostError> {
        self.lock().create_table(role)
    }

    fn create_nested(&mut self, parent: TableId, table: NestedTable) -> Result<TableId, HostError> {
        self.lock().create_nested(parent, table)
    }

    fn invalidate(&mut self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        self.lock().invalidate(table, flushes)
    }

    fn page_requests(&self, device: DeviceHandle) -> bool {
        self.lock().page_requests(device)
    }

    fn destroy_table(&mut self, table: TableId) -> Result<(), HostError> {
        self.lock().destroy_table(table)
    }

    fn limits(&mut self, table: TableId) -> Result<Limits, HostError> {
        self.lock().limits(table)
    }

    fn entries_left(&mut self, table: TableId) -> Result<Option<u32>, HostError> {
        self.lock().entries_left(table)
    }

    fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError> {
        self.lock().map(table, run, host)
    }

    fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        self.lock().unmap(table, range)
    }

    fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        self.lock().cut_out(table, range)
    }

    fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        self.lock().unmap_all(table)
    }

    fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        self.lock().prepare(table, endpoint)
    }

    fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        self.lock().attach(endpoint, table)
    }

    fn detach(&mut self, endpoint: Endpoint) -> Result<(), HostError> {
        self.lock().detach(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fake::{FakeBackend, FakeOptions};

    #[test]
    fn users_share_one_backend() {
        let machine = Shared::new(FakeBackend::new(FakeOptions::iommufd()));
        let mut mirror: Box<dyn Backend> = Box::new(machine.clone());
        let table = mirror.create_table(Role::Plain).unwrap();
        assert!(machine.lock().tables().contains(&table));
        mirror.destroy_table(table).unwrap();
        assert!(!machine.lock().tables().contains(&table));
    }
}
