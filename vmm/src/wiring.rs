// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Puts devices on the board.
//!
//! One file a subsystem. The order matters: the unit is there before anything that sends through it, the PCI functions before
//! the firmware that gives them addresses, and the ACPI tables describe the result.

mod dmatest;
mod edu;
mod ioapic;
mod iommu;
mod legacy;
mod pci;
mod tables;
mod virtio;

use crate::board::Board;
use crate::error::Error;
use crate::interrupts::{LocalApics, Processors};
use devices::bus::BusError;
use std::sync::Arc;

/// Adds everything that the configuration asks for to `board`.
///
/// # Errors
/// A device cannot be had as configured.
pub fn wire(board: &mut Board) -> Result<(), Error> {
    let config = Arc::clone(&board.config);
    let apics = Arc::clone(&board.vm) as Arc<dyn LocalApics>;
    let processors = Processors::new(Arc::clone(&apics));
    let translation = iommu::Translation::new(&config, &board.ram, board.phys_bits, &processors)?;
    translation.install(board)?;
    let ioapic = ioapic::Wired::new(&translation, apics);
    let lines = ioapic.lines();
    ioapic.install(board)?;
    let reset = legacy::wire(board, &lines)?;

    let mut bus = pci::PciBus::new(&config, &translation)?;
    virtio::add(&config, &translation, &mut bus)?;
    edu::add(&config, &translation, &mut bus)?;
    dmatest::add(&config, &translation, &mut bus)?;
    let (root, firmware) = bus.finish(board, &lines, reset)?;

    // At a reset DMA stops first, then the unit forgets its tables, and at last addresses are given out again.
    board.resets.push(Arc::new(pci::StopDevices(root)));
    if let Some(unit) = translation.unit() {
        let unit = iommu::UnitReset(Arc::clone(unit));
        board.resets.push(Arc::new(unit));
    }
    board.resets.push(Arc::new(firmware));
    tables::install(board, &translation)
}

/// The address map gives one range to two devices.
fn taken(error: BusError) -> Error {
    Error::Bug(error.to_string())
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
