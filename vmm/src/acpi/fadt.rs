// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! FADT: a hardware-reduced machine with a reset register and the sleep registers (ACPI 5.2.9).

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, PowerInfo};
use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

/// IA-PC boot architecture flags (ACPI 5.2.9.3): there are devices on the legacy bus (bit 0); no VGA to probe (bit 2).
/// Clear, because neither is there to be found: an 8042 keyboard controller (bit 1), CMOS RTC "not present" (bit 5).
const BOOT_ARCHITECTURE: u16 = 1 << 0 | 1 << 2;

/// The table, for a DSDT at guest-physical address `dsdt`.
pub(super) fn table(dsdt: u64, power: &PowerInfo) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = byte_port(power.reset_port);
    fadt.reset_value = power.reset_value;
    fadt.sleep_control_reg = byte_port(power.sleep_control_port);
    fadt.sleep_status_reg = byte_port(power.sleep_status_port);
    let mut bytes = Vec::new();
    fadt.finalize().to_aml_bytes(&mut bytes);
    bytes
}

fn byte_port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}
