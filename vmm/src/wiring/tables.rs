// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ACPI tables of what was wired.

use super::iommu::Units;
use super::pci::{LAST_BUS, Topology, Windows};
use super::{dmar, ioapic};
use crate::acpi::{self, AcpiConfig, EcamInfo, IntxRoute, IoapicInfo, PciWindows, PowerInfo};
use crate::board::Board;
use crate::error::Error;
use crate::layout;
use devices::pci::firmware;
use devices::power::SLEEP_TYPE_SOFT_OFF;
use std::ops::{Range, RangeInclusive};

/// Resets the machine when written to the reset control register: a hard reset.
const HARD_RESET: u8 = 6;

/// Puts the tables into the board's firmware area.
///
/// # Errors
/// They do not fit, or the configuration has units or devices described that it does not have.
pub fn install(board: &mut Board, units: &Units, topology: &Topology) -> Result<(), Error> {
    let config = AcpiConfig {
        area: layout::FIRMWARE_TABLES.0
            ..=layout::FIRMWARE_TABLES.0 + layout::FIRMWARE_TABLES_SIZE - 1,
        apic_ids: (0..board.config.cpus).collect(),
        ioapic: IoapicInfo {
            id: ioapic::ID,
            base: low(layout::IOAPIC.0)?,
        },
        ecam: EcamInfo {
            base: low(layout::ECAM.0)?,
            last_bus: LAST_BUS,
        },
        windows: windows(&Windows::new(&board.config, board.phys_bits))?,
        intx: firmware::interrupt_routes()
            .iter()
            .map(|route| IntxRoute {
                device: route.device,
                pin: route.pin,
                gsi: u32::from(route.gsi),
            })
            .collect(),
        power: PowerInfo {
            reset_port: layout::RESET_CONTROL_PORT,
            reset_value: HARD_RESET,
            sleep_control_port: layout::SLEEP_CONTROL_PORT,
            sleep_status_port: layout::SLEEP_CONTROL_PORT + 1,
            s5_sleep_type: SLEEP_TYPE_SOFT_OFF,
            button_gsi: layout::POWER_BUTTON_GSI,
            pvpanic_port: layout::PVPANIC_PORT,
        },
        dmar: dmar::table(&board.config, units, topology)?,
    };
    let (rsdp, image) = acpi::tables(&config)?;
    board.tables.push((rsdp, image));
    board.rsdp = Some(rsdp);
    Ok(())
}

fn windows(windows: &Windows) -> Result<PciWindows, Error> {
    let inclusive = |range: &Range<u64>| (range.start, range.end - 1);
    let (io, io_last) = inclusive(&windows.io);
    let port = |port: u64| u16::try_from(port).map_err(|_| beyond(port));
    let (memory, memory_last) = inclusive(&windows.memory);
    let memory64: Option<RangeInclusive<u64>> = (!windows.memory64.is_empty()).then(|| {
        let (first, last) = inclusive(&windows.memory64);
        first..=last
    });
    Ok(PciWindows {
        io: port(io)?..=port(io_last)?,
        mmio32: low(memory)?..=low(memory_last)?,
        mmio64: memory64,
    })
}

fn low(address: u64) -> Result<u32, Error> {
    u32::try_from(address).map_err(|_| beyond(address))
}

fn beyond(address: u64) -> Error {
    Error::Bug(format!(
        "the address map puts {address:#x} where it cannot be"
    ))
}
