// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts devices on the board.
//!
//! One file a subsystem. The order matters: what the host can do for passed-through devices narrows the units, which are there
//! before anything that sends through them, the PCI functions before the firmware that gives them addresses, and the ACPI tables
//! describe the result.

mod dmar;
mod dmatest;
mod edu;
mod hotplug;
mod ioapic;
mod iommu;
mod legacy;
mod pci;
mod tables;
mod vfio;
mod virtio;

use crate::board::Board;
use crate::error::Error;
use crate::host_files::HostFiles;
use crate::interrupts::{LocalApics, Processors, RouteTable};
use crate::offer;
use devices::bus::BusError;
use std::sync::Arc;

/// Adds everything that the configuration asks for to `board`.
///
/// # Errors
/// A device cannot be had as configured.
pub fn wire(board: &mut Board) -> Result<(), Error> {
    let mut taken = vfio::take_over(board)?;
    if let Some(taken) = &mut taken {
        board.config = Arc::new(offer::narrow(&board.config, &taken.offer()?)?);
    } else {
        board.config = Arc::new(offer::leave_room(&board.config, &HostFiles::here()));
    }
    let config = Arc::clone(&board.config);
    let apics = Arc::clone(&board.vm) as Arc<dyn LocalApics>;
    let processors = Processors::new(Arc::clone(&apics));
    let units = iommu::Units::new(&config, &board.ram, board.phys_bits, &processors)?;
    let units = Arc::new(units);
    units.install(board)?;
    let table = RouteTable::new(apics);
    let ioapic = ioapic::Wired::new(&units, Arc::clone(&table));
    let lines = Arc::new(ioapic.lines());
    ioapic.install(board)?;
    let reset = legacy::wire(board, &lines)?;

    let mut bus = pci::PciBus::new(&config, &units)?;
    virtio::add(&config, &units, &mut bus)?;
    edu::add(&config, &units, &mut bus)?;
    dmatest::add(&config, &units, &mut bus)?;
    let passed = match taken {
        Some(taken) => Some(taken.add(board, &units, table, &mut bus)?),
        None if bus.has_slots() => Some(vfio::Passed::new(board, &units, table)?),
        None => None,
    };
    let passed = passed.map(Arc::new);
    let topology = bus.topology().clone();
    hotplug::install(board, &units, &lines, passed.as_ref(), &bus)?;
    let (root, firmware) = bus.finish(board, &lines, reset)?;

    // At a reset devices go that were about to go. Then DMA stops, the units forget their tables, and at last addresses are
    // given out again.
    board.resets.push(Arc::new(pci::StopDevices(root)));
    for (number, unit) in units.units().enumerate() {
        let unit = Arc::clone(unit);
        board
            .resets
            .push(Arc::new(iommu::UnitReset { number, unit }));
    }
    board.resets.push(Arc::new(firmware));
    if let Some(passed) = passed {
        passed.follow()?;
        passed.show(board);
        board.resets.push(passed);
    }
    tables::install(board, &units, &topology)
}

/// The address map gives one range to two devices.
fn taken(error: BusError) -> Error {
    Error::Bug(error.to_string())
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
