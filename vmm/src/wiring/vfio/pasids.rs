// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs and page requests of passed-through devices: what their functions show, how many PASIDs may be bound, and the way of
//! page requests to the units.

use super::host::{Host, PageService};
use super::taken::{Device, unusable};
use crate::error::Error;
use ::iommu::follow::{DeviceHandle, PasidBudget};
use ::iommu::ids::Requester;
use ::iommu::unit::Unit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vfio::device::config::Services;

/// Bytes of guest RAM for each PASID that may be bound: what the host keeps of one is a small part of that.
const RAM_PER_PASID: u64 = 64 << 10;

/// The PASIDs of all devices of a machine.
#[derive(Debug)]
pub struct Pasids {
    /// That may be bound of one device, and PASID tables that are read for it.
    most: u32,
    /// `None` as long as no device asks for pages.
    pages: Mutex<Option<PageService>>,
}

impl Pasids {
    /// Of a machine with so many bytes of RAM.
    pub fn for_ram(bytes: u64) -> Self {
        let most = (bytes / RAM_PER_PASID).clamp(1024, 1 << 20);
        Self {
            most: u32::try_from(most).unwrap_or(1024),
            pages: Mutex::default(),
        }
    }

    /// What the function of `device` offers drivers behind `unit`.
    ///
    /// # Errors
    /// The host has no table for it at all.
    pub(super) fn services(
        host: &Host,
        device: &Device,
        unit: Option<&Arc<Unit>>,
    ) -> Result<Services, Error> {
        let Some(unit) = unit else {
            return Ok(Services::default());
        };
        let services = host.services(device.handle, &device.host, unit.capabilities());
        services.map_err(|error| unusable(device.host.address, error))
    }

    /// The device called `handle`, whose requests are `requester`'s, is on the bus with `services`. How many PASIDs may be
    /// bound, if it has any.
    ///
    /// # Errors
    /// Its page requests cannot be served.
    pub fn add(
        &self,
        host: &Host,
        handle: DeviceHandle,
        services: &Services,
        (unit, requester): (Option<&Arc<Unit>>, &Arc<Requester>),
    ) -> Result<Option<PasidBudget>, Error> {
        if let Some(unit) = unit.filter(|_| services.page_requests) {
            let mut pages = self.pages();
            if pages.is_none() {
                *pages = host.serve_page_requests()?;
            }
            if let Some(pages) = &*pages {
                pages.add(handle, unit, Arc::clone(requester));
            }
        }
        Ok(services.pasid.map(|pasid| PasidBudget {
            bits: u32::from(pasid.bits),
            bindings: self.most,
            tables: self.most,
        }))
    }

    /// A device is about to be closed.
    pub fn remove(&self, handle: DeviceHandle) {
        if let Some(pages) = &*self.pages() {
            pages.remove(handle);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Option<PageService>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
