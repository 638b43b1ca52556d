// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slots on the board: builds the devices that come while the guest runs.

use super::ioapic::Lines;
use super::iommu::Units;
use super::pci::PciBus;
use super::{dmatest, virtio};
use crate::board::Board;
use crate::error::Error;
use crate::hotplug::{Arrival, Hotplug, Made, Maker};
use crate::slots::DeviceOption;
use devices::pci::{PciFunction, firmware};
use std::sync::Arc;

/// Looks after the hotplug slots of `bus`, if it has any. The first of the reset hooks.
///
/// # Errors
/// The host has no thread for it.
pub fn install(
    board: &mut Board,
    units: &Arc<Units>,
    lines: &Arc<Lines>,
    bus: &PciBus,
) -> Result<(), Error> {
    let places = bus.places();
    if places.is_empty() {
        return Ok(());
    }
    let maker = Arc::new(Builder::new(units, lines));
    let (root, events) = (Arc::clone(bus.root()), Arc::clone(&board.events));
    let hotplug = Hotplug::new(root, maker, events, places, bus.fixed_names());
    hotplug.start()?;
    board.slots = Some(Arc::clone(&hotplug) as _);
    board.resets.push(hotplug);
    Ok(())
}

/// Builds devices behind the unit of their port.
#[derive(Debug)]
pub(super) struct Builder {
    units: Arc<Units>,
    lines: Arc<Lines>,
}

impl Builder {
    pub(super) fn new(units: &Arc<Units>, lines: &Arc<Lines>) -> Self {
        Self {
            units: Arc::clone(units),
            lines: Arc::clone(lines),
        }
    }
}

impl Maker for Builder {
    fn make(&self, arrival: &Arrival<'_>) -> Result<Made, Error> {
        let port = arrival.bus.to_owned();
        let function: Arc<dyn PciFunction> = match arrival.device {
            DeviceOption::Disk(config) => {
                let disk = virtio::disk(config, arrival.id)?;
                virtio::function(&self.units, Some(&port), disk)
            }
            DeviceOption::Net(config) => {
                let net = virtio::net(config)?;
                virtio::function(&self.units, Some(&port), net)
            }
            DeviceOption::Dmatest(config) => {
                let mut config = config.clone();
                config.bus = Some(port);
                dmatest::device(&config, self.units.behind(config.bus.as_ref()))?
            }
        };
        if let Some(gsi) = firmware::interrupt_below(arrival.devfn, &function) {
            function.connect_intx(gsi, self.lines.source(gsi));
        }
        Ok(Made {
            function,
            release: None,
        })
    }
}
