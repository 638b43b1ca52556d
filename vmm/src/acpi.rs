// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ACPI tables: what the guest is told about the machine (ACPI 6.5).
//!
//! A hardware-reduced machine: no PIC, no PIT, no SCI, no fixed-hardware power registers. Everything that a table says comes
//! in through [`AcpiConfig`], so the tables cannot disagree with what was wired. Pure: bytes out, no device is touched.
//!
//! Not described: NUMA, CPU hotplug, sleep states other than S5.

mod dsdt;
mod fadt;
mod madt;
mod mcfg;

use crate::error::Error;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, CREATOR_ID, CREATOR_REVISION};
use iommu::address::Gpa;
use iommu::dmar::{Dmar, DmarError, OemIds};
use std::ops::RangeInclusive;
use vm_memory::GuestAddress;

const OEM_ID: [u8; 6] = *b"REMORA";
const OEM_TABLE_ID: [u8; 8] = *b"REMORAVM";
const OEM_REVISION: u32 = 1;

/// The same for the table that the remapping unit makes.
const OEM_IDS: OemIds = OemIds {
    oem: OEM_ID,
    table: OEM_TABLE_ID,
    revision: OEM_REVISION,
    creator: CREATOR_ID,
    creator_revision: u32::from_le_bytes(CREATOR_REVISION),
};

/// Tables begin on this boundary; the RSDP must lie on one of 16 bytes (ACPI 5.2.5.1).
const TABLE_ALIGN: u64 = 16;

/// What the tables say.
#[derive(Clone, Debug)]
pub struct AcpiConfig {
    /// Guest-physical addresses for the tables, inclusive. Must lie in 0xE0000..=0xFFFFF, where a kernel without other
    /// means looks for the RSDP, be RAM, and be kept out of what the guest is told it may use.
    pub area: RangeInclusive<u64>,
    /// The local APIC id of each vCPU, in order.
    pub apic_ids: Vec<u32>,
    /// The interrupt controller.
    pub ioapic: IoapicInfo,
    /// The configuration space of PCI segment 0.
    pub ecam: EcamInfo,
    /// The addresses behind the PCI root.
    pub windows: PciWindows,
    /// Where the INTx pins of the functions on bus 0 go.
    pub intx: Vec<IntxRoute>,
    /// How the machine is switched off and reset.
    pub power: PowerInfo,
    /// What the DMAR table says; `None` when there is no remapping unit.
    pub dmar: Option<Dmar>,
}

/// The I/O APIC; all of its pins are GSIs from 0 on.
#[derive(Clone, Copy, Debug)]
pub struct IoapicInfo {
    /// Its APIC id, the same as in the device scope of the DMAR table.
    pub id: u8,
    /// Its registers.
    pub base: u32,
}

/// The memory-mapped configuration space.
#[derive(Clone, Copy, Debug)]
pub struct EcamInfo {
    /// First address.
    pub base: u32,
    /// Highest bus number; the space takes 1 MiB a bus from bus 0 on.
    pub last_bus: u8,
}

/// What the PCI root decodes, besides configuration space. Ranges are inclusive.
#[derive(Clone, Debug)]
pub struct PciWindows {
    /// Ports.
    pub io: RangeInclusive<u16>,
    /// Memory below 4 GiB.
    pub mmio32: RangeInclusive<u32>,
    /// Memory above 4 GiB, if there is room.
    pub mmio64: Option<RangeInclusive<u64>>,
}

/// One row of the root's routing table (`_PRT`). The line is level-triggered and active low, as PCI's lines are.
#[derive(Clone, Copy, Debug)]
pub struct IntxRoute {
    /// Device number on bus 0.
    pub device: u8,
    /// 0 for INTA# to 3 for INTD#.
    pub pin: u8,
    /// Input of the I/O APIC.
    pub gsi: u32,
}

/// The ports of the power registers; each is one byte.
#[derive(Clone, Copy, Debug)]
pub struct PowerInfo {
    /// The reset register.
    pub reset_port: u16,
    /// What resets the machine when written to it.
    pub reset_value: u8,
    /// The sleep control register (ACPI 4.8.3.7).
    pub sleep_control_port: u16,
    /// The sleep status register.
    pub sleep_status_port: u16,
    /// The sleep type (0..=7) that means S5.
    pub s5_sleep_type: u8,
    /// The line of the generic event device, which is pulsed when the power button is pressed; edge-triggered.
    pub button_gsi: u8,
    /// The port of the pvpanic device.
    pub pvpanic_port: u16,
}

/// Builds all tables: where they go, and their bytes. The first byte is the RSDP's.
///
/// # Errors
/// The area is too small for a machine of this size.
pub fn tables(config: &AcpiConfig) -> Result<(Gpa, Vec<u8>), Error> {
    let base = *config.area.start();
    let image = build(base, config).map_err(|e| Error::Bug(e.to_string()))?;
    let room = config.area.end() - base + 1;
    if image.len() as u64 > room {
        return Err(Error::Config(format!(
            "{} vCPUs need {} bytes of ACPI tables, but there is room for {room} only: use fewer",
            config.apic_ids.len(),
            image.len()
        )));
    }
    Ok((GuestAddress(base), image))
}

/// All tables as they lie in memory from `base` on, the RSDP first.
fn build(base: u64, config: &AcpiConfig) -> Result<Vec<u8>, DmarError> {
    let mut image = Image {
        base,
        bytes: vec![0; Rsdp::len()],
    };
    let dsdt = image.place(&dsdt::table(config));
    let mut tables = vec![
        image.place(&fadt::table(dsdt, &config.power)),
        image.place(&madt::table(&config.apic_ids, config.ioapic)),
        image.place(&mcfg::table(config.ecam)),
    ];
    if let Some(dmar) = &config.dmar {
        tables.push(image.place(&dmar.to_bytes(&OEM_IDS)?));
    }
    let entries: Vec<u8> = tables.iter().flat_map(|t| t.to_le_bytes()).collect();
    let xsdt = image.place(&table(*b"XSDT", 1, &entries));
    let mut rsdp = Vec::new();
    Rsdp::new(OEM_ID, xsdt).to_aml_bytes(&mut rsdp);
    image.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    Ok(image.bytes)
}

/// Tables one behind the other.
struct Image {
    base: u64,
    bytes: Vec<u8>,
}

impl Image {
    /// Appends `table`; returns its guest-physical address.
    fn place(&mut self, table: &[u8]) -> u64 {
        let offset = (self.bytes.len() as u64).next_multiple_of(TABLE_ALIGN);
        let padding = offset - self.bytes.len() as u64;
        self.bytes.extend((0..padding).map(|_| 0));
        self.bytes.extend_from_slice(table);
        self.base + offset
    }
}

/// A table with the standard header (ACPI 5.2.6) around `body`.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut sdt = Sdt::new(signature, 36, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    sdt.append_slice(body);
    sdt.as_slice().to_vec()
}

#[cfg(test)]
mod tests;
