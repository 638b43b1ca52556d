// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host says of its IOMMU.

use super::*;

#[test]
fn iommu_that_is_off_says_where_it_is_switched_on() {
    let world = World::good();
    world.remove("sys/kernel/iommu_groups");
    world.expect("iommu", Level::Missing, "describes no IOMMU", "firmware");
    world.write("sys/firmware/acpi/tables/DMAR", "");
    world.expect("iommu", Level::Missing, "there is VT-d", "intel_iommu=on");
    world.write("proc/cmdline", "intel_iommu=off");
    world.expect("iommu", Level::Missing, "switches the IOMMU off", "without");
    let report = world.report();
    assert!(report.can_run() && !report.can_pass_through());
    assert!(
        !report
            .rows
            .iter()
            .any(|row| row.id == "interrupt-remapping")
    );
}

#[test]
fn iommu_offer_is_what_all_units_have() {
    let world = World::good();
    world.expect("iommu", Level::Ok, "Intel VT-d: units dmar0; 2 groups", "");
    world.expect(
        "iommu-mode",
        Level::Ok,
        "1 translated, lazy (DMA-FQ), 1 passed through (identity)",
        "",
    );
    world.expect(
        "iommu-offer",
        Level::Ok,
        "48-bit addresses, pages up to 1 GiB, scalable mode with nested translation, PASIDs of 20 bits, snoop control, \
         device-TLBs, page requests, dirty bits",
        "",
    );
    world.write("sys/class/iommu/dmar1/intel-iommu/cap", CAP);
    world.write("sys/class/iommu/dmar1/intel-iommu/ecap", ECAP_LEGACY);
    world.expect(
        "iommu-offer",
        Level::Ok,
        "legacy mode, no PASIDs, snoop control, device-TLBs",
        "second-stage",
    );
    world.remove("sys/class/iommu/dmar1");
    world.write("proc/cmdline", "intel_iommu=on");
    world.expect("iommu-offer", Level::Ok, "scalable", "intel_iommu=on,sm_on");
    world.write("proc/cmdline", "intel_iommu=on,sm_off");
    world.expect("iommu-offer", Level::Warning, "scalable", "sm_off");
}

#[test]
fn interrupts_that_are_not_remapped_forbid_passthrough_unless_allowed() {
    let world = World::good();
    world.write(
        "proc/interrupts",
        " 16:  1  PCI-MSIX-0000:00:02.0  0-edge  nvme0q0",
    );
    world.expect(
        "interrupt-remapping",
        Level::Missing,
        "not remapped",
        "CONFIG_IRQ_REMAP",
    );
    assert!(!world.report().can_pass_through());
    world.write(
        "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
        "Y",
    );
    world.write("proc/cmdline", "intremap=off");
    world.expect(
        "interrupt-remapping",
        Level::Warning,
        "any interrupt",
        "without intremap=off",
    );
    assert!(world.report().can_pass_through());
}

#[test]
fn reserved_memory_is_named_by_group() {
    let world = World::good();
    world.write(
        "sys/kernel/iommu_groups/1/reserved_regions",
        "0x3e2e0000 0x3e2fffff direct-relaxable",
    );
    world.expect("reserved-regions", Level::Ok, "groups 1 had some", "");
    world.write(
        "sys/kernel/iommu_groups/0/reserved_regions",
        "0x3e2e0000 0x3e2fffff direct",
    );
    world.expect(
        "reserved-regions",
        Level::Warning,
        "devices of groups 0",
        "remora devices",
    );
}
