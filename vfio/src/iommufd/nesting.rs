// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests' own first-stage tables: nested page tables on the parent's page table of the same unit, all with leave to be attached
//! to PASIDs. The parent is the identity table, or a copy of the guest's second-stage tables.
//!
//! There is one fault queue for all of them, made when the first device is found that has page requests. Its records name the
//! device.

use super::table::{Hwpt, Table};
use super::{IDENTITY, Iommufd, host_error};
use crate::backend::{HostError, TableId};
use crate::device::config::page_requests_enabled;
use crate::hardware::{HardwareInfo, Support};
use crate::nested::{Flush, NestedTable};
use crate::sysfs::HostDevice;
use crate::uapi::fault_queue::FaultQueue;
use crate::uapi::nesting::invalidate;
use iommu::follow::DeviceHandle;
use std::fs;
use std::sync::Arc;

impl Iommufd {
    /// What a guest can be offered with a device, found out by trying: the identity table's page table for its unit is made.
    ///
    /// # Errors
    /// There is no such device, or the host has no page table for it at all.
    pub fn support(&mut self, device: DeviceHandle) -> Result<Support, HostError> {
        let identity = self.paging_hwpt(IDENTITY, device)?;
        let opened = self.devices.get_mut(&device).ok_or(HostError::NotFound)?;
        if !identity.is_parent() {
            opened.support = opened.support.without_first_stage();
        }
        if !identity.takes_pasids() {
            opened.support.pasid_bits = 0;
        }
        let mut support = opened.support;
        if support.page_requests && self.fault_queue().is_err() {
            support.page_requests = false;
            if let Some(opened) = self.devices.get_mut(&device) {
                opened.support = support;
            }
        }
        Ok(support)
    }

    /// The queue by which page requests of devices come, made if there is none yet.
    ///
    /// # Errors
    /// The host has none (before Linux 6.11).
    pub fn fault_queue(&mut self) -> Result<Arc<FaultQueue>, HostError> {
        if let Some(queue) = &self.faults {
            return Ok(queue.clone());
        }
        let queue = Arc::new(FaultQueue::new(&self.fd).map_err(host_error)?);
        self.faults = Some(queue.clone());
        Ok(queue)
    }

    /// iommufd's name for an open device.
    #[must_use]
    pub fn id(&self, device: DeviceHandle) -> Option<u32> {
        self.devices.get(&device).map(|device| device.id)
    }

    /// The open device that iommufd, and so a record of the fault queue, calls `id`.
    #[must_use]
    pub fn named(&self, id: u32) -> Option<DeviceHandle> {
        let mut devices = self.devices.iter();
        devices.find_map(|(handle, device)| (device.id == id).then_some(*handle))
    }

    pub(super) fn add_nested(
        &mut self,
        parent: TableId,
        table: NestedTable,
    ) -> Result<TableId, HostError> {
        let below = self.tables.get(&parent).ok_or(HostError::NotFound)?;
        if !below.can_be_parent() {
            return Err(HostError::Invalid);
        }
        let id = TableId(self.name());
        self.tables.insert(id, Table::nested(parent, table));
        Ok(id)
    }

    /// The page table of `table` for the unit of `device`.
    pub(super) fn hwpt(&mut self, table: TableId, device: DeviceHandle) -> Result<u32, HostError> {
        let known = self.tables.get(&table).ok_or(HostError::NotFound)?;
        match known.guest() {
            Some((parent, guest)) => self.nested_hwpt(table, (parent, &guest), device),
            None => self.paging_hwpt(table, device).map(|hwpt| hwpt.id),
        }
    }

    /// The same of a table that is filled.
    fn paging_hwpt(&mut self, table: TableId, device: DeviceHandle) -> Result<Hwpt, HostError> {
        let device = self.devices.get(&device).ok_or(HostError::NotFound)?;
        let table = self.tables.get_mut(&table).ok_or(HostError::NotFound)?;
        let hwpt = table.hwpt(&self.fd, &device.unit, device.id);
        hwpt.map_err(host_error)
    }

    fn nested_hwpt(
        &mut self,
        table: TableId,
        (parent, guest): (TableId, &NestedTable),
        device: DeviceHandle,
    ) -> Result<u32, HostError> {
        let parent = self.paging_hwpt(parent, device)?;
        let opened = self.devices.get(&device).ok_or(HostError::NotFound)?;
        opened.support.serves(guest)?;
        if !parent.is_parent() {
            return Err(HostError::Unsupported);
        }
        let faults = if guest.page_requests {
            Some(self.fault_queue()?.id())
        } else {
            None
        };
        let opened = self.devices.get(&device).ok_or(HostError::NotFound)?;
        let table = self.tables.get_mut(&table).ok_or(HostError::NotFound)?;
        table
            .hwpt_on(&self.fd, (&opened.unit, parent), opened.id, faults)
            .map_err(host_error)
    }

    pub(super) fn invalidate_nested(
        &self,
        table: TableId,
        flushes: &[Flush],
    ) -> Result<(), HostError> {
        let table = self.tables.get(&table).ok_or(HostError::NotFound)?;
        if table.guest().is_none() {
            return Err(HostError::Unsupported);
        }
        // Every unit, whatever one of them says.
        table
            .hwpts()
            .map(|hwpt| invalidate(&self.fd, hwpt, flushes))
            .fold(Ok(()), Result::and)
            .map_err(host_error)
    }
}

/// What the host says it can do for a device. Page requests have to be enabled by the host's kernel already: it does not do
/// that for a device that is passed through.
pub(super) fn support(hardware: &HardwareInfo, device: &HostDevice) -> Support {
    let support = Support::of(hardware);
    let config = fs::read(device.path.join("config")).unwrap_or_default();
    Support {
        page_requests: support.page_requests && page_requests_enabled(&config),
        ..support
    }
}
