// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The slots on the board: builds the devices that come while the guest runs.

use super::ioapic::Lines;
use super::iommu::Units;
use super::pci::PciBus;
use super::vfio::Passed;
use super::{dmatest, virtio};
use crate::board::Board;
use crate::config::VfioConfig;
use crate::error::Error;
use crate::hotplug::{Arrival, Hotplug, Made, Maker, Release};
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
    passed: Option<&Arc<Passed>>,
    bus: &PciBus,
) -> Result<(), Error> {
    let mut places = bus.places();
    if places.is_empty() {
        return Ok(());
    }
    for place in &mut places {
        let name = place.device.as_deref();
        let release = name.and_then(|name| passed?.release_of(name));
        place.release = release.map(|release| Box::new(release) as _);
    }
    let maker = Arc::new(Builder::new(units, lines, passed));
    let (root, events) = (Arc::clone(bus.root()), Arc::clone(&board.events));
    let hotplug = Hotplug::new(root, maker, events, places, bus.fixed_names());
    hotplug.start()?;
    if let Some(passed) = passed {
        let hotplug = Arc::downgrade(&hotplug);
        passed.give_back_by(Box::new(move |name| {
            if let Some(hotplug) = hotplug.upgrade() {
                hotplug.want_back(name);
            }
        }));
    }
    board.slots = Some(Arc::clone(&hotplug) as _);
    board.resets.push(hotplug);
    Ok(())
}

/// Builds devices behind the unit of their port.
#[derive(Debug)]
pub(super) struct Builder {
    units: Arc<Units>,
    lines: Arc<Lines>,
    passed: Option<Arc<Passed>>,
}

impl Builder {
    pub(super) fn new(
        units: &Arc<Units>,
        lines: &Arc<Lines>,
        passed: Option<&Arc<Passed>>,
    ) -> Self {
        Self {
            units: Arc::clone(units),
            lines: Arc::clone(lines),
            passed: passed.cloned(),
        }
    }

    /// A device of the host, whose name is `arrival`'s.
    fn take(&self, arrival: &Arrival<'_>, config: &VfioConfig) -> Result<Brought, Error> {
        let config = VfioConfig {
            id: Some(arrival.id.to_owned()),
            bus: Some(arrival.bus.to_owned()),
            ..config.clone()
        };
        let Some(passed) = &self.passed else {
            return Err(Error::Bug("nobody passes devices through".to_owned()));
        };
        let (function, arrived) = passed.arrive(&config, arrival.source)?;
        Ok((function, Some(Box::new(arrived))))
    }
}

/// A device, and what is to be done when it is gone.
type Brought = (Arc<dyn PciFunction>, Option<Box<dyn Release>>);

impl Maker for Builder {
    fn make(&self, arrival: &Arrival<'_>) -> Result<Made, Error> {
        let port = arrival.bus.to_owned();
        let (function, release): Brought = match arrival.device {
            DeviceOption::Disk(config) => {
                let disk = virtio::disk(config, arrival.id)?;
                (virtio::function(&self.units, Some(&port), disk), None)
            }
            DeviceOption::Net(config) => {
                let net = virtio::net(config)?;
                (virtio::function(&self.units, Some(&port), net), None)
            }
            DeviceOption::Dmatest(config) => {
                let mut config = config.clone();
                config.bus = Some(port);
                let behind = self.units.behind(config.bus.as_ref());
                (dmatest::device(&config, behind)?, None)
            }
            DeviceOption::Vfio(config) => self.take(arrival, config)?,
        };
        if let Some(gsi) = firmware::interrupt_below(arrival.devfn, &function) {
            function.connect_intx(gsi, self.lines.source(gsi));
        }
        Ok(Made { function, release })
    }
}
