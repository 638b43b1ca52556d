// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The remapping units on the board: registers on the bus, events to the processors, counters in the result.
//!
//! The first unit is for the IOAPIC and for every device that no other unit is for; each other unit is for some root ports and
//! all that is below them. A unit knows nothing of the others: it has its own tables, queue, caches and faults.

mod counters;
mod inspect;
mod observer;
mod translation;

pub use translation::Translation;

use self::counters::UnitCounters;
use self::inspect::UnitView;
use self::observer::Telling;
use crate::board::{self, Board};
use crate::config::Config;
use crate::error::Error;
use crate::interrupts::{IoapicRoutes, NoRemap, Processors, VectorRoutes};
use crate::{layout, offer};
use devices::bus::BusDevice;
use iommu::memory::{PhysMem, Ram};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::{Arc, OnceLock, Weak};

/// The units of the machine, and which of them is for whom.
#[derive(Debug)]
pub struct Units {
    /// One for each unit, in the order of their registers; one without unit in a machine without any.
    translations: Vec<Translation>,
    /// The root ports in the order of the configuration.
    ports: Vec<String>,
    routes: Arc<RouteListener>,
}

impl Units {
    /// Builds the units that the configuration asks for. Their own events go to `processors`, and so do the messages of
    /// devices.
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
        let mut translations = Vec::new();
        if let Some(options) = &config.iommu {
            let capabilities = offer::capabilities(config, options, phys_bits)?;
            for _ in 0..options.units {
                let outputs = Outputs {
                    events: Arc::clone(processors) as _,
                    interrupts: Arc::clone(&routes) as _,
                };
                let memory = Arc::clone(ram) as Arc<dyn PhysMem>;
                let unit = Unit::new(capabilities, memory, outputs);
                let remap = Arc::clone(&unit) as _;
                translations.push(Translation::new(ram, Some(unit), remap, processors));
            }
        } else {
            translations.push(Translation::new(ram, None, Arc::new(NoRemap), processors));
        }
        Ok(Self {
            translations,
            ports: config.root_ports.iter().map(|p| p.id.clone()).collect(),
            routes,
        })
    }

    /// Puts the registers of every unit on the bus and their counters into the result, and lets the machine look into them.
    ///
    /// # Errors
    /// Their addresses are taken.
    pub fn install(&self, board: &mut Board) -> Result<(), Error> {
        for (number, unit) in self.units().enumerate() {
            let registers = Arc::new(Registers(Arc::clone(unit)));
            board
                .mmio
                .insert(layout::vtd(number).0, layout::VTD_SIZE, registers)
                .map_err(super::taken)?;
            let name = format!("unit{number}");
            let view = UnitView {
                number,
                unit: Arc::clone(unit),
            };
            board.inspected.push((name, Arc::new(view)));
            unit.observe(Arc::new(Telling {
                unit: number,
                events: Arc::clone(&board.events),
            }));
        }
        let units: Vec<_> = self.units().cloned().collect();
        if !units.is_empty() {
            board.counters = Some(Arc::new(UnitCounters(units)));
        }
        Ok(())
    }

    /// The units in the order of their registers; none in a machine without.
    pub fn units(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.translations.iter().filter_map(Translation::unit)
    }

    /// The way of whatever is on the root bus, root ports apart.
    #[must_use]
    pub fn root(&self) -> &Translation {
        &self.translations[0]
    }

    /// The way of the root port `port` and of what is below it; without a port, or with one that is not there, as
    /// [`Self::root`].
    #[must_use]
    pub fn behind(&self, port: Option<&String>) -> &Translation {
        let index = port.and_then(|id| self.ports.iter().position(|known| known == id));
        index.map_or(self.root(), |index| {
            &self.translations[self.unit_of_port(index)]
        })
    }

    /// The number of the unit that the root port `index` belongs to: equal shares, in the order of the ports.
    #[must_use]
    pub fn unit_of_port(&self, index: usize) -> usize {
        match self.translations.len() - 1 {
            0 => 0,
            others => 1 + index * others / self.ports.len(),
        }
    }

    /// Refreshes the IOAPIC's `routes` whenever remapping changes, from now on.
    pub fn refresh_pins_on_change(&self, routes: &Arc<IoapicRoutes>) {
        let _ = self.routes.pins.set(Arc::downgrade(routes));
    }

    /// Refreshes the `routes` of passed-through devices whenever remapping changes, from now on.
    pub fn refresh_vectors_on_change(&self, routes: &Arc<VectorRoutes>) {
        let _ = self.routes.vectors.set(Arc::downgrade(routes));
    }
}

/// A unit's registers as the bus sees them.
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

/// Tells routes that were computed in advance of changes. They come to be after the units, which they ask.
#[derive(Debug, Default)]
struct RouteListener {
    pins: OnceLock<Weak<IoapicRoutes>>,
    vectors: OnceLock<Weak<VectorRoutes>>,
}

impl InterruptListener for RouteListener {
    fn interrupts_changed(&self) {
        if let Some(routes) = self.pins.get().and_then(Weak::upgrade) {
            routes.refresh();
        }
        if let Some(routes) = self.vectors.get().and_then(Weak::upgrade) {
            routes.refresh();
        }
    }
}

/// Puts a unit back at a reset and sums it up at the end.
#[derive(Debug)]
pub struct UnitReset {
    /// Its number.
    pub number: usize,
    /// The unit.
    pub unit: Arc<Unit>,
}

impl board::Reset for UnitReset {
    fn reset(&self) -> Result<(), Error> {
        self.unit.reset();
        Ok(())
    }

    fn stop(&self) {
        let counters = self.unit.counters();
        tracing::info!(
            "IOMMU {}: {} requests translated, {} interrupts, {} faults, {} invalidations",
            self.number,
            counters.translations,
            counters.interrupts,
            counters.faults_total(),
            counters.context_invalidations
                + counters.iotlb_invalidations
                + counters.page_invalidations
                + counters.pasid_invalidations
                + counters.pasid_iotlb_invalidations
                + counters.device_tlb_invalidations
                + counters.interrupt_invalidations
        );
    }
}
