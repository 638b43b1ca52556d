// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The work of a PC's firmware: number the buses, size and place the BARs, program the bridges' windows, switch decoding on,
//! fill the interrupt-line registers.
//!
//! Everything goes through configuration accesses, so it works for functions of any make. Bus mastering stays off: it is
//! the driver's to allow. The outcome depends on the devices alone, so a reset machine finds the addresses of its first boot.

mod place;
mod sizing;

use super::PciFunction;
use super::config::offset;
use super::root::{PciRoot, RootSlot};
use super::root_port::RootPort;
use crate::irq::IrqLine;
use iommu::ids::SourceId;
use place::{Area, Item};
use sizing::{Request, Space};
use std::ops::Range;
use std::sync::Arc;

/// Where BARs and bridge windows may lie, and the bus numbers there are.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Ports.
    pub io: Range<u64>,
    /// Memory below 4 GiB: BARs of 32 bits and everything that is not prefetchable.
    pub memory: Range<u64>,
    /// Memory for 64-bit prefetchable BARs; must lie within what processors and remapping unit can address.
    pub memory64: Range<u64>,
    /// The last bus that has configuration space.
    pub last_bus: u8,
}

/// What a hot-plug port gets at least, in bytes, so that a device that arrives later finds room.
#[derive(Clone, Copy, Debug)]
pub struct HotplugReserve {
    /// Memory below 4 GiB.
    pub memory: u64,
    /// 64-bit prefetchable memory.
    pub prefetchable: u64,
}

impl Default for HotplugReserve {
    /// 32 MiB, and 32 GiB.
    fn default() -> Self {
        Self {
            memory: 32 << 20,
            prefetchable: 32 << 30,
        }
    }
}

/// The devices do not fit into the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// A range is full.
    #[error(
        "no room for {size:#x} bytes of {space} for PCI {owner}: {range:#x?} has {left:#x} bytes left; \
         use fewer devices or hot-plug ports"
    )]
    NoRoom {
        /// Which range.
        space: &'static str,
        /// Bytes asked for.
        size: u64,
        /// For whom: the function, or the port for what is below it.
        owner: SourceId,
        /// The range.
        range: Range<u64>,
        /// Bytes left in it.
        left: u64,
    },
    /// More ports than bus numbers.
    #[error("PCI root port {port} gets no bus number: the machine has {last} buses besides bus 0")]
    NoBus {
        /// The port.
        port: SourceId,
        /// The last bus number.
        last: u8,
    },
}

/// The interrupt that pin `pin` (1 INTA .. 4 INTD) of device `device` on bus 0 is wired to: IOAPIC inputs 16..=23.
#[must_use]
pub const fn interrupt_of(device: u8, pin: u8) -> u8 {
    16 + ((device & 0x1f) + pin.wrapping_sub(1)) % 8
}

/// The pin of a bridge that pin `pin` of device `device` below it comes out at (PCI-to-PCI bridge swizzle).
const fn swizzle(device: u8, pin: u8) -> u8 {
    (pin.wrapping_sub(1) & 3).wrapping_add(device & 3) % 4 + 1
}

/// One line of the interrupt routing table of bus 0, for ACPI's `_PRT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptRoute {
    /// Device on bus 0.
    pub device: u8,
    /// Pin as `_PRT` counts: 0 is INTA.
    pub pin: u8,
    /// Global system interrupt.
    pub gsi: u8,
}

/// The interrupt routing table of bus 0. What is below the ports follows from it by swizzling.
#[must_use]
pub fn interrupt_routes() -> Vec<InterruptRoute> {
    (0..32)
        .flat_map(|device| {
            (0..4).map(move |pin| InterruptRoute {
                device,
                pin,
                gsi: interrupt_of(device, pin + 1),
            })
        })
        .collect()
}

/// Every function with the interrupt that its pin is wired to; `None` for a function without a pin.
fn wiring(root: &PciRoot) -> Vec<(Arc<dyn PciFunction>, Option<u8>)> {
    let mut wires = Vec::new();
    for (devfn, slot) in root.slots() {
        let device = devfn >> 3;
        let function = slot.function();
        let gsi = pin_of(&function).map(|pin| interrupt_of(device, pin));
        wires.push((function, gsi));
        if let RootSlot::Port(port) = slot {
            for (_, below) in port.devices() {
                let gsi = interrupt_below(devfn, &below);
                wires.push((below, gsi));
            }
        }
    }
    wires
}

fn pin_of(function: &Arc<dyn PciFunction>) -> Option<u8> {
    let mut pin = [0];
    function.config_read(offset::INTERRUPT_PIN, &mut pin);
    Some(pin[0]).filter(|pin| (1..=4).contains(pin))
}

/// The interrupt of a function below the root port at `port_devfn`, by its interrupt pin register; `None` without a pin.
#[must_use]
pub fn interrupt_below(port_devfn: u8, function: &Arc<dyn PciFunction>) -> Option<u8> {
    pin_of(function).map(|pin| interrupt_of(port_devfn >> 3, swizzle(0, pin)))
}

/// Connects every pin; `source` makes one more source of the line of a global system interrupt. Once, before the guest runs.
pub fn connect_interrupts(root: &PciRoot, mut source: impl FnMut(u8) -> Arc<dyn IrqLine>) {
    for (function, gsi) in wiring(root) {
        if let Some(gsi) = gsi {
            function.connect_intx(gsi, source(gsi));
        }
    }
}

/// Configures everything that is there. At power-on and again after each reset of the machine.
///
/// # Errors
/// A range or the bus numbers do not suffice.
pub fn configure(
    root: &PciRoot,
    resources: &Resources,
    reserve: HotplugReserve,
) -> Result<(), FirmwareError> {
    let slots = root.slots();
    number_buses(&slots, resources.last_bus)?;
    let mut items = Vec::new();
    for (devfn, slot) in &slots {
        let owner = SourceId::new(0, *devfn);
        let requests = sizing::requests(&slot.function());
        items.extend(requests.into_iter().map(|r| Item::bar(owner, r)));
        if let RootSlot::Port(port) = slot {
            let below = port.devices();
            let requests: Vec<Request> = below
                .iter()
                .flat_map(|(_, function)| sizing::requests(function))
                .collect();
            items.extend(place::windows(owner, port, requests, reserve));
        }
    }
    for (space, name, range) in [
        (Space::Io, "port space", &resources.io),
        (Space::Memory, "32-bit memory", &resources.memory),
        (Space::Prefetchable, "64-bit memory", &resources.memory64),
    ] {
        let wanted = items.iter().filter(|item| item.space == space);
        Area::new(name, range).place(wanted.collect())?;
    }
    for (function, gsi) in wiring(root) {
        let line = gsi.unwrap_or(0xff);
        function.config_write(offset::INTERRUPT_LINE, &[line]);
        let decode = super::config::Command::new()
            .with_io(true)
            .with_memory(true);
        function.config_write(offset::COMMAND, &decode.into_bits().to_le_bytes());
    }
    root.refresh();
    Ok(())
}

/// Each port gets the next number for the bus below it.
fn number_buses(slots: &[(u8, RootSlot)], last: u8) -> Result<(), FirmwareError> {
    let mut used = 0u8;
    for (devfn, slot) in slots {
        let RootSlot::Port(port) = slot else { continue };
        if used >= last {
            return Err(FirmwareError::NoBus {
                port: SourceId::new(0, *devfn),
                last,
            });
        }
        used += 1;
        write_numbers(port, used);
    }
    Ok(())
}

fn write_numbers(port: &Arc<RootPort>, secondary: u8) {
    port.config_write(super::bridge::PRIMARY_BUS, &[0, secondary]);
    port.config_write(super::bridge::SUBORDINATE_BUS, &[secondary]);
}

#[cfg(test)]
mod tests;
