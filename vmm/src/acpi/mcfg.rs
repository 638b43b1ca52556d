// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MCFG: where the memory-mapped configuration space is (PCI Firmware Specification 3.3, 4.1.2).

use super::{EcamInfo, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use acpi_tables::Aml;
use acpi_tables::mcfg::MCFG;

/// The table for segment 0, buses from 0 on.
pub(super) fn table(ecam: EcamInfo) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(u64::from(ecam.base), 0, 0, ecam.last_bus);
    let mut bytes = Vec::new();
    mcfg.to_aml_bytes(&mut bytes);
    bytes
}
