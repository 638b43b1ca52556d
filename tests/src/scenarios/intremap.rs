// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every interrupt of a guest's devices is remapped, in x2APIC mode: the driver says so, and its counts grow.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "intremap",
    about: "IOAPIC and MSI-X interrupts arrive remapped, in x2APIC mode",
    limit: Duration::from_secs(60),
    run,
};

/// Prints `NAME before after` for an IOAPIC's and a device's interrupt, and how the driver sees the table.
const SCRIPT: &str = r#"
set -e
count() { awk -v name="$1" '$NF == name { print $2 + $3 }' /proc/interrupts; }
serial=$(count ttyS0)
disk=$(count virtio0-req.0)
dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null
for line in 1 2 3 4 5 6 7 8; do echo "a line of text that the serial port asks for in more than one piece"; done
sleep 0.3
echo "ttyS0 $serial $(count ttyS0)"
echo "disk $disk $(count virtio0-req.0)"
cat /proc/interrupts
cat /sys/kernel/debug/iommu/intel/ir_translation_struct
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    lab.sh("disk", "truncate -s 4M /tmp/disk.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--cpus", "2", "--disk", "/tmp/disk.img"])
        .args(&["--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    console
        .expect("x2apic enabled")?
        .expect("IR-IO-APIC")?
        .expect("IR-PCI-MSIX")?
        .expect("Remapped Interrupt supported on IOMMU: dmar0")?;
    all_remapped(&console.stdout)?;
    let serial = growth(&console.stdout, "ttyS0 ")?;
    let disk = growth(&console.stdout, "disk ")?;
    if serial == 0 || disk < 64 {
        bail!("interrupts are missing: {serial} of the serial port, {disk} of 64 disk requests");
    }
    Report::read(lab, "result.json")?
        .expect_untroubled()?
        .expect_at_least("interrupts", serial + disk)?;
    Ok(Verdict::Pass)
}

/// The unit's own interrupts do not go through its table ("DMAR-MSI"); everything else must.
fn all_remapped(console: &str) -> Result<()> {
    let plain = console
        .lines()
        .find(|line| line.contains(" IO-APIC ") || line.contains(" PCI-MSI"));
    match plain {
        Some(line) => bail!("an interrupt is not remapped: {line}"),
        None => Ok(()),
    }
}

/// By how much the count in the line that begins with `name` grew.
fn growth(console: &str, name: &str) -> Result<u64> {
    let line = console.lines().find_map(|line| line.strip_prefix(name));
    let counts: Vec<u64> = line
        .unwrap_or_default()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    match counts[..] {
        [before, after] => Ok(after - before),
        _ => bail!("no counts of {name}: {line:?}"),
    }
}
