// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's IOMMU: whether it is on, what it can do for guests, interrupt remapping, reserved memory.

use super::host::Host;
use super::intel::{self, Unit};
use super::{Level, Need, Row};
use std::collections::{BTreeMap, BTreeSet};

const GROUPS: &str = "sys/kernel/iommu_groups";

pub(super) fn rows(host: &Host<'_>) -> Vec<Row> {
    let groups = host.files.names(GROUPS);
    if groups.is_empty() {
        return vec![off(host)];
    }
    let intel = intel::units(host);
    let mut rows = vec![units(host, groups.len()), mode(host, &groups)];
    if !intel.is_empty() {
        rows.push(offer(host, &intel));
    }
    rows.push(interrupt_remapping(host, &intel));
    rows.push(reserved(host, &groups));
    rows
}

/// No device has a group: nothing translates DMA.
fn off(host: &Host<'_>) -> Row {
    let row = |finding: &str| Row::missing("iommu", Need::Passthrough, finding);
    if host.told("iommu", "off") || host.told("intel_iommu", "off") || host.told("amd_iommu", "off")
    {
        return row("the kernel's command line switches the IOMMU off")
            .advise("boot the host without iommu=off, with intel_iommu=on on Intel");
    }
    if host.files.exists("sys/firmware/acpi/tables/DMAR") {
        return row("there is VT-d (an ACPI DMAR table), but the kernel does not use it").advise(
            "boot the host with intel_iommu=on: add it to GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub",
        );
    }
    if host.files.exists("sys/firmware/acpi/tables/IVRS") {
        return row("there is an AMD IOMMU (an ACPI IVRS table), but the kernel does not use it")
            .advise("use a kernel with CONFIG_AMD_IOMMU, without amd_iommu=off");
    }
    row("the firmware describes no IOMMU (neither an ACPI DMAR nor an IVRS table)")
        .advise("enable VT-d (Intel) or the IOMMU (AMD) in the firmware; VMs without passed-through devices need none")
}

fn units(host: &Host<'_>, groups: usize) -> Row {
    let names = host.files.names("sys/class/iommu");
    let kind = |name: &String| match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "dmar" => "Intel VT-d",
        "ivhd" => "AMD IOMMU",
        _ => "another make",
    };
    let kinds: BTreeSet<&str> = names.iter().map(kind).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let text = format!(
        "{}: units {}; {groups} groups of devices",
        kinds.join(" and "),
        names.join(", ")
    );
    Row::ok("iommu", text)
}

/// What devices go through while the host's own drivers use them.
fn mode(host: &Host<'_>, groups: &[String]) -> Row {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for group in groups {
        let kind = host.files.text(&format!("{GROUPS}/{group}/type"));
        *kinds.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    let kinds = kinds.into_iter().map(|(kind, count)| {
        let kind = match kind.as_str() {
            "DMA" => "translated, strict (DMA)",
            "DMA-FQ" => "translated, lazy (DMA-FQ)",
            "identity" => "passed through (identity)",
            "blocked" => "blocked",
            _ => "in no domain of the host's",
        };
        format!("{count} {kind}")
    });
    let kinds: Vec<String> = kinds.collect();
    Row::ok(
        "iommu-mode",
        format!(
            "for the host's own drivers, groups are {}",
            kinds.join(", ")
        ),
    )
}

/// What guests can be offered: what all units have.
fn offer(host: &Host<'_>, units: &[Unit]) -> Row {
    let least = |of: fn(&Unit) -> u32| units.iter().map(of).min().unwrap_or(0);
    let all = |of: fn(&Unit) -> bool| units.iter().all(of);
    let pages: BTreeSet<&str> = units.iter().map(Unit::largest_page).collect();
    let mut parts = vec![
        format!("{}-bit addresses", least(Unit::width)),
        format!(
            "pages up to {}",
            pages.into_iter().next_back().unwrap_or("4 KiB")
        ),
    ];
    let (scalable, nests) = (all(|unit| unit.ecap.smts()), all(Unit::nests));
    parts.push(match (scalable, nests) {
        (true, true) => "scalable mode with nested translation".to_owned(),
        (true, false) => "scalable mode without nested translation".to_owned(),
        (false, _) => "legacy mode".to_owned(),
    });
    match least(Unit::pasid_bits) {
        0 => parts.push("no PASIDs".to_owned()),
        bits => parts.push(format!("PASIDs of {bits} bits")),
    }
    let further = [
        ("snoop control", all(|unit| unit.ecap.sc())),
        ("device-TLBs", all(|unit| unit.ecap.dt())),
        ("page requests", all(|unit| unit.ecap.prs())),
        ("dirty bits", all(|unit| unit.ecap.ssads())),
    ];
    let further = further.iter().filter(|(_, have)| *have);
    parts.extend(further.map(|(name, _)| (*name).to_owned()));
    let row = Row::ok("iommu-offer", parts.join(", "));
    if scalable && host.told("intel_iommu", "sm_off") {
        return Row {
            level: Level::Warning,
            ..row
        }
        .advise(
            "the command line has intel_iommu=sm_off: without it guests could be offered PASIDs",
        );
    }
    if scalable && !host.told("intel_iommu", "sm_on") {
        return row.advise("scalable mode is used only where the kernel was built so, or with intel_iommu=on,sm_on");
    }
    if nests {
        return row;
    }
    row.advise("without nested translation, guests with a passed-through device get second-stage tables only; that is all they need")
}

/// Whether interrupts of devices go through a table of the host's: the names of interrupt chips tell.
fn interrupt_remapping(host: &Host<'_>, intel: &[Unit]) -> Row {
    const ID: &str = "interrupt-remapping";
    let chips = host.files.text("proc/interrupts").unwrap_or_default();
    if chips.contains(" IR-") || chips.contains("-IR-") {
        return Row::ok(ID, "interrupts are remapped");
    }
    let able = intel.iter().any(|unit| unit.ecap.ir());
    let remedy = if host.told("intremap", "off") {
        "boot the host without intremap=off"
    } else if able {
        "the units can: enable x2APIC and interrupt remapping in the firmware, and use a kernel with CONFIG_IRQ_REMAP"
    } else {
        "if no guest is malicious, it can be done without: sudo modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"
    };
    let unsafe_allowed = ["vfio_iommu_type1", "iommufd"].iter().any(|module| {
        let path = format!("sys/module/{module}/parameters/allow_unsafe_interrupts");
        host.files
            .text(&path)
            .is_some_and(|on| on == "Y" || on == "1")
    });
    if unsafe_allowed {
        return Row::warning(
            ID,
            "interrupts are not remapped, and VFIO is told to do without: a guest's device can raise any interrupt of the host",
        )
        .advise(remedy);
    }
    Row::missing(
        ID,
        Need::Passthrough,
        "interrupts are not remapped, so VFIO gives no device away",
    )
    .advise(remedy)
}

/// Groups for which the firmware wants memory to stay mapped.
fn reserved(host: &Host<'_>, groups: &[String]) -> Row {
    let kinds = |group: &String| {
        let text = host
            .files
            .text(&format!("{GROUPS}/{group}/reserved_regions"));
        let text = text.unwrap_or_default();
        let kinds = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2));
        kinds.map(str::to_owned).collect::<Vec<_>>()
    };
    let having = |kind: &str| -> Vec<String> {
        let having = groups
            .iter()
            .filter(|group| kinds(group).iter().any(|k| k == kind));
        having.cloned().collect()
    };
    let (direct, relaxable) = (having("direct"), having("direct-relaxable"));
    if !direct.is_empty() {
        let text = format!(
            "the firmware keeps memory mapped (RMRR) for devices of groups {}: they cannot be passed through",
            direct.join(", ")
        );
        return Row::warning("reserved-regions", text)
            .advise("remora devices names them; some firmware can switch the function off that uses the memory");
    }
    let text = match relaxable.len() {
        0 => "no group has memory that must stay mapped".to_owned(),
        _ => format!(
            "no group has memory that must stay mapped; groups {} had some until a driver took over",
            relaxable.join(", ")
        ),
    };
    Row::ok("reserved-regions", text)
}
