// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MADT: the interrupt controllers and the processors (ACPI 5.2.12).
//!
//! PCAT_COMPAT stays clear, as there is no PIC; a guest then has no timer check to fail. There are no interrupt source
//! overrides: every ISA interrupt that a device uses is the GSI of the same number, and its trigger mode stands in the
//! device's `_CRS`.

use super::IoapicInfo;
use acpi_tables::Aml;
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};

/// The last revision without "online capable", which this machine has no use for.
const REVISION: u8 = 4;
const LOCAL_APIC_BASE: u32 = 0xfee0_0000;

/// Ids from here on need an x2APIC structure; 0xFF is the broadcast id of the older one (ACPI 5.2.12.12).
const FIRST_X2APIC_ID: u32 = 0xff;

/// The table for processors with these APIC ids.
pub(super) fn table(apic_ids: &[u32], ioapic: IoapicInfo) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&LOCAL_APIC_BASE.to_le_bytes());
    body.extend_from_slice(&0u32.to_le_bytes());
    for (uid, &apic_id) in (0u32..).zip(apic_ids) {
        match (u8::try_from(uid), u8::try_from(apic_id)) {
            (Ok(uid), Ok(id)) if u32::from(id) < FIRST_X2APIC_ID => {
                ProcessorLocalApic::new(uid, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
            }
            _ => x2apic(&mut body, uid, apic_id),
        }
    }
    IoApic::new(ioapic.id, ioapic.base, 0).to_aml_bytes(&mut body);
    super::table(*b"APIC", REVISION, &body)
}

/// Processor local x2APIC structure (type 9, 16 bytes).
fn x2apic(body: &mut Vec<u8>, uid: u32, apic_id: u32) {
    body.extend_from_slice(&[9, 16, 0, 0]);
    body.extend_from_slice(&apic_id.to_le_bytes());
    body.extend_from_slice(&(EnabledStatus::Enabled as u32).to_le_bytes());
    body.extend_from_slice(&uid.to_le_bytes());
}
