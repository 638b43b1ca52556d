// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The way of devices to memory and to the processors: through one unit, or past all of them.
//!
//! Everything that reaches memory or a processor on behalf of a device is made here, so there is one place where `--iommu
//! off` differs.

use crate::interrupts::{Processors, Remap, RemappedMessages};
use iommu::dma::DmaSpace;
use iommu::ids::{Pasid, Requester};
use iommu::memory::Ram;
use iommu::msi::{MsiSender, MsiSink};
use iommu::unit::Unit;
use std::sync::Arc;

/// The way of the devices that one unit is for.
#[derive(Clone, Debug)]
pub struct Translation {
    ram: Arc<Ram>,
    unit: Option<Arc<Unit>>,
    remap: Arc<dyn Remap>,
    messages: Arc<RemappedMessages>,
}

impl Translation {
    /// Through `unit`, or past all units; messages pass `remap` on their way to `processors`.
    pub(super) fn new(
        ram: &Arc<Ram>,
        unit: Option<Arc<Unit>>,
        remap: Arc<dyn Remap>,
        processors: &Arc<Processors>,
    ) -> Self {
        let sink: Arc<dyn MsiSink> = Arc::clone(processors) as _;
        Self {
            ram: Arc::clone(ram),
            unit,
            messages: RemappedMessages::new(Arc::clone(&remap), sink),
            remap,
        }
    }

    /// The unit, unless the machine has none.
    #[must_use]
    pub fn unit(&self) -> Option<&Arc<Unit>> {
        self.unit.as_ref()
    }

    /// The memory of `requester`: what the unit translates, or all of it in a machine without.
    #[must_use]
    pub fn dma_space(&self, requester: &Arc<Requester>) -> Arc<DmaSpace> {
        let (ram, requester) = (Arc::clone(&self.ram), Arc::clone(requester));
        match &self.unit {
            Some(unit) => unit.dma_space(ram, requester, None),
            None => DmaSpace::identity(ram, requester),
        }
    }

    /// The memory of one PASID of `requester`; `None` in a machine without unit, where nothing tells PASIDs apart.
    #[must_use]
    pub fn pasid_space(&self, requester: &Arc<Requester>, pasid: Pasid) -> Option<Arc<DmaSpace>> {
        let unit = self.unit.as_ref()?;
        Some(unit.dma_space(Arc::clone(&self.ram), Arc::clone(requester), Some(pasid)))
    }

    /// Where devices send their messages.
    #[must_use]
    pub fn messages(&self) -> Arc<dyn MsiSender> {
        Arc::clone(&self.messages) as _
    }

    /// How interrupts are remapped.
    #[must_use]
    pub fn remap(&self) -> Arc<dyn Remap> {
        Arc::clone(&self.remap)
    }
}
