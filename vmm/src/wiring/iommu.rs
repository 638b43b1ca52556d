// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The remapping unit on the board: registers on the bus, events to the processors, counters in the result.
//!
//! Everything that reaches memory or a processor on behalf of a device is made here, so there is one place where `--iommu
//! off` differs.

mod counters;

use self::counters::UnitCounters;
use crate::board::{self, Board};
use crate::config::Config;
use crate::error::Error;
use crate::interrupts::{IoapicRoutes, NoRemap, Processors, Remap, RemappedMessages};
use crate::{layout, offer};
use devices::bus::BusDevice;
use iommu::dma::DmaSpace;
use iommu::ids::{Pasid, Requester};
use iommu::memory::{PhysMem, Ram};
use iommu::msi::{MsiSender, MsiSink};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::{Arc, OnceLock, Weak};

/// The way of every device to memory and to the processors.
#[derive(Clone, Debug)]
pub struct Translation {
    ram: Arc<Ram>,
    unit: Option<Arc<Unit>>,
    routes: Arc<RouteListener>,
    remap: Arc<dyn Remap>,
    messages: Arc<RemappedMessages>,
}

impl Translation {
    /// Builds the unit that the configuration asks for. Its own events go to `processors`, and so do the messages of devices.
    ///
    /// # Errors
    /// The options contradict each other.
    pub fn new(
        config: &Config,
        ram: &Arc<Ram>,
        phys_bits: u8,
        processors: &Arc<Processors>,
    ) -> Result<Self, Error> {
        let routes = Arc::new(RouteListener::default());
        let unit = match &config.iommu {
            Some(options) => {
                let outputs = Outputs {
                    events: Arc::clone(processors) as _,
                    interrupts: Arc::clone(&routes) as _,
                };
                let capabilities = offer::capabilities(config, options, phys_bits)?;
                let ram = Arc::clone(ram) as Arc<dyn PhysMem>;
                Some(Unit::new(capabilities, ram, outputs))
            }
            None => None,
        };
        let remap: Arc<dyn Remap> = match &unit {
            Some(unit) => Arc::clone(unit) as _,
            None => Arc::new(NoRemap),
        };
        let sink: Arc<dyn MsiSink> = Arc::clone(processors) as _;
        Ok(Self {
            ram: Arc::clone(ram),
            routes,
            messages: RemappedMessages::new(Arc::clone(&remap), sink),
            remap,
            unit,
        })
    }

    /// Puts the unit's registers on the bus and its counters into the result.
    ///
    /// # Errors
    /// Its addresses are taken.
    pub fn install(&self, board: &mut Board) -> Result<(), Error> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let registers = Arc::new(Registers(Arc::clone(unit)));
        board
            .mmio
            .insert(layout::VTD.0, layout::VTD_SIZE, registers)
            .map_err(super::taken)?;
        board.counters = Some(Arc::new(UnitCounters(vec![Arc::clone(unit)])));
        Ok(())
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

    /// Refreshes `routes` whenever remapping changes, from now on.
    pub fn refresh_on_change(&self, routes: &Arc<IoapicRoutes>) {
        let _ = self.routes.0.set(Arc::downgrade(routes));
    }
}

/// The unit's registers as the bus sees them.
#[derive(Debug)]
struct Registers(Arc<Unit>);

impl BusDevice for Registers {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }
}

/// Tells the IOAPIC's routes of changes. They come to be after the unit, which they ask.
#[derive(Debug, Default)]
struct RouteListener(OnceLock<Weak<IoapicRoutes>>);

impl InterruptListener for RouteListener {
    fn interrupts_changed(&self) {
        if let Some(routes) = self.0.get().and_then(Weak::upgrade) {
            routes.refresh();
        }
    }
}

/// Puts the unit back at a reset and sums it up at the end.
#[derive(Debug)]
pub struct UnitReset(pub Arc<Unit>);

impl board::Reset for UnitReset {
    fn reset(&self) -> Result<(), Error> {
        self.0.reset();
        Ok(())
    }

    fn stop(&self) {
        let counters = self.0.counters();
        tracing::info!(
            "IOMMU: {} requests translated, {} interrupts, {} faults, {} invalidations",
            counters.translations,
            counters.interrupts,
            counters.faults_total(),
            counters.context_invalidations
                + counters.iotlb_invalidations
                + counters.page_invalidations
                + counters.interrupt_invalidations
        );
    }
}
