// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI root: ports, slots, windows onto the buses, and the firmware's part.

use super::ioapic::Lines;
use super::iommu::Units;
use crate::board::{Board, Reset};
use crate::config::Config;
use crate::error::Error;
use crate::hotplug::Place;
use crate::{layout, offer};
use devices::pci::PciFunction;
use devices::pci::express::DeviceType;
use devices::pci::firmware::{self, HotplugReserve, Resources};
use devices::pci::host_bridge::HostBridge;
use devices::pci::root::PciRoot;
use devices::pci::root_port::{RootPort, RootPortConfig};
use devices::power::ResetControl;
use iommu::ids::Requester;
use std::ops::Range;
use std::sync::Arc;

/// Device numbers on a bus.
const DEVICES: u8 = 32;
/// The last bus that has configuration space.
pub const LAST_BUS: u8 = (layout::ECAM_SIZE >> 20).to_le_bytes()[0].wrapping_sub(1);

/// What the DMAR table names on the root bus, by device and function number.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The root ports in the order of the configuration.
    pub ports: Vec<u8>,
    /// Integrated devices that can cache translations.
    pub caches: Vec<u8>,
}

/// The buses while they are being filled.
#[derive(Debug)]
pub struct PciBus {
    root: Arc<PciRoot>,
    ports: Vec<Port>,
    topology: Topology,
    next_device: u8,
    /// The devices on the root bus.
    names: Vec<String>,
}

/// A root port, and what is behind it by name.
#[derive(Debug)]
struct Port {
    id: String,
    port: Arc<RootPort>,
    device: Option<String>,
}

impl PciBus {
    /// The host bridge and the root ports, in the order that the configuration names them.
    ///
    /// # Errors
    /// There are more ports than places for them.
    pub fn new(config: &Config, units: &Units) -> Result<Self, Error> {
        let mut bus = Self {
            root: PciRoot::new(),
            ports: Vec::new(),
            topology: Topology::default(),
            next_device: 0,
            names: Vec::new(),
        };
        let devfn = bus.next_devfn("the host bridge")?;
        bus.root
            .add(devfn, HostBridge::new())
            .map_err(|e| Error::Bug(e.to_string()))?;
        for (slot, port) in (1u16..).zip(&config.root_ports) {
            let hotplug = port.hotplug;
            let function = RootPort::new(
                RootPortConfig { slot, hotplug },
                Arc::new(Requester::default()),
                units.behind(Some(&port.id)).messages(),
            );
            let devfn = bus.next_devfn(&port.id)?;
            bus.root
                .add_port(devfn, Arc::clone(&function))
                .map_err(|e| Error::Bug(e.to_string()))?;
            bus.ports.push(Port {
                id: port.id.clone(),
                port: function,
                device: None,
            });
            bus.topology.ports.push(devfn);
        }
        Ok(bus)
    }

    /// The root, with what is on it so far.
    pub const fn root(&self) -> &Arc<PciRoot> {
        &self.root
    }

    /// What is on the root bus so far.
    #[must_use]
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The integrated device `devfn` can cache translations.
    pub fn note_translation_cache(&mut self, devfn: u8) {
        self.topology.caches.push(devfn);
    }

    /// What a device on `bus` says of itself: on the root bus it is integrated, below a port an endpoint.
    #[must_use]
    pub const fn device_type(bus: Option<&String>) -> DeviceType {
        match bus {
            Some(_) => DeviceType::Endpoint,
            None => DeviceType::IntegratedEndpoint,
        }
    }

    /// Puts a device below the root port `bus`, or on the root bus without one; its device and function number on the root
    /// bus, if it is there.
    ///
    /// # Errors
    /// There is no such port, it is taken, or the root bus is full.
    pub fn add(
        &mut self,
        name: &str,
        bus: Option<&String>,
        function: Arc<dyn PciFunction>,
    ) -> Result<Option<u8>, Error> {
        let Some(id) = bus else {
            let devfn = self.next_devfn(name)?;
            let added = self.root.add(devfn, function);
            added.map_err(|e| Error::Bug(e.to_string()))?;
            self.names.push(name.to_owned());
            return Ok(Some(devfn));
        };
        let Some(behind) = self.ports.iter_mut().find(|port| port.id == *id) else {
            return Err(Error::Config(format!(
                "{name}: there is no root port {id:?}: add --root-port id={id}"
            )));
        };
        if behind.device.is_some() {
            return Err(Error::Config(format!(
                "{name}: the root port {id:?} has a device already: a port takes one"
            )));
        }
        behind.port.insert(0, function);
        behind.device = Some(name.to_owned());
        self.root.refresh();
        Ok(None)
    }

    /// Whether devices can come later.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.ports.iter().any(|port| port.port.is_hotplug())
    }

    /// The hotplug slots with what is in them so far.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let slots = self.ports.iter().filter(|port| port.port.is_hotplug());
        let places = slots.map(|slot| Place {
            bus: slot.id.clone(),
            port: Arc::clone(&slot.port),
            device: slot.device.clone(),
            release: None,
        });
        places.collect()
    }

    /// The names of ports, and of devices that are not in a hotplug slot.
    #[must_use]
    pub fn fixed_names(&self) -> Vec<String> {
        let ports = self.ports.iter();
        let fixed = ports.filter(|port| !port.port.is_hotplug());
        let behind = fixed.filter_map(|port| port.device.clone());
        let ports = self.ports.iter().map(|port| port.id.clone());
        let root_bus = self.names.iter().cloned();
        root_bus.chain(behind).chain(ports).collect()
    }

    /// Puts the root on the buses of the board, connects the interrupt pins and does what firmware does. The second value
    /// does it again after a reset.
    ///
    /// # Errors
    /// The devices do not fit into the windows.
    pub fn finish(
        self,
        board: &Board,
        lines: &Lines,
        reset: Arc<ResetControl>,
    ) -> Result<(Arc<PciRoot>, Firmware), Error> {
        let windows = Windows::new(&board.config, board.phys_bits);
        firmware::connect_interrupts(&self.root, |gsi| lines.source(gsi));
        let firmware = Firmware {
            root: Arc::clone(&self.root),
            resources: windows.resources(),
        };
        firmware.reset()?;
        windows.insert(board, &self.root)?;
        let (port, ports) = (
            u64::from(layout::PCI_CONFIG_PORT),
            self.root.config_ports(reset),
        );
        board.ports.insert(port, 8, ports).map_err(super::taken)?;
        Ok((self.root, firmware))
    }

    fn next_devfn(&mut self, name: &str) -> Result<u8, Error> {
        if self.next_device == DEVICES {
            return Err(Error::Config(format!(
                "{name}: the root bus has {DEVICES} places and all are taken: remove devices, or put them below root ports"
            )));
        }
        let devfn = self.next_device << 3;
        self.next_device += 1;
        Ok(devfn)
    }
}

/// The address ranges of the root.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Ports.
    pub io: Range<u64>,
    /// Memory below 4 GiB.
    pub memory: Range<u64>,
    /// Memory above 4 GiB; empty where RAM leaves no room.
    pub memory64: Range<u64>,
}

impl Windows {
    /// The ranges of a machine with this RAM and this width. A device must be able to reach every address by DMA (to another
    /// device, too), so the window above 4 GiB stays within the unit's width.
    #[must_use]
    pub fn new(config: &Config, phys_bits: u8) -> Self {
        let bits = match &config.iommu {
            Some(options) => phys_bits.min(offer::address_bits(options)),
            None => phys_bits,
        };
        let above = layout::pci_window_64(config.memory.size, bits);
        let io = u64::from(layout::PCI_WINDOW_IO);
        Self {
            io: io..io + u64::from(layout::PCI_WINDOW_IO_SIZE),
            memory: layout::PCI_WINDOW_32.0..layout::PCI_WINDOW_32.0 + layout::PCI_WINDOW_32_SIZE,
            memory64: above.map_or(0..0, |range| range.base.0..range.base.0 + range.size),
        }
    }

    fn resources(&self) -> Resources {
        Resources {
            io: self.io.clone(),
            memory: self.memory.clone(),
            memory64: self.memory64.clone(),
            last_bus: LAST_BUS,
        }
    }

    fn insert(&self, board: &Board, root: &Arc<PciRoot>) -> Result<(), Error> {
        let (mmio, ports) = (&board.mmio, &board.ports);
        mmio.insert(layout::ECAM.0, layout::ECAM_SIZE, root.ecam())
            .map_err(super::taken)?;
        for range in [&self.memory, &self.memory64] {
            if !range.is_empty() {
                let window = root.memory_window(range.start);
                mmio.insert(range.start, range.end - range.start, window)
                    .map_err(super::taken)?;
            }
        }
        let window = root.port_window(self.io.start);
        ports
            .insert(self.io.start, self.io.end - self.io.start, window)
            .map_err(super::taken)
    }
}

/// Stops every device: no thread of it is left and no DMA under way. First among the reset hooks.
#[derive(Debug)]
pub struct StopDevices(pub Arc<PciRoot>);

impl Reset for StopDevices {
    fn pause(&self) {
        self.0.pause();
    }

    fn resume(&self) {
        self.0.resume();
    }

    fn reset(&self) -> Result<(), Error> {
        self.0.reset();
        Ok(())
    }

    fn stop(&self) {
        self.0.reset();
    }
}

/// Gives out numbers and addresses, at power-on and after each reset.
#[derive(Debug)]
pub struct Firmware {
    root: Arc<PciRoot>,
    resources: Resources,
}

impl Reset for Firmware {
    fn reset(&self) -> Result<(), Error> {
        firmware::configure(&self.root, &self.resources, HotplugReserve::default())
            .map_err(|e| Error::Config(e.to_string()))
    }
}
