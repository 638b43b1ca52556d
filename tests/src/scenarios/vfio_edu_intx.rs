// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pins of passed-through devices, in both ways in which a guest keeps them quiet: edu in the hands of a program, whose kernel
//! masks the pin by the command register at each interrupt, and an NVMe controller whose driver just ends its interrupts.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-edu-intx",
    about: "L1's edu and NVMe passed through, without messages: checked data both ways, each transfer's end told by a pin",
    limit: Duration::from_secs(300),
    run,
};

/// MiB written and read on the disk.
const SIZE: usize = 16;

/// What edu's program counts: two transfers for each 2 KiB of 32, and four of a pin that is held.
const EDU: &str = "INTX ok 36 interrupts";

/// Both at once, so that lines rise and fall independently.
const SCRIPT: &str = r#"
set -e
device=$(readlink -f /sys/block/nvme0n1/device/device)
echo "messages $(ls $device/msi_irqs 2>/dev/null | wc -l)"
echo "domain $(cat $device/iommu_group/type)"
guest-tools blkcheck random /dev/nvme0n1 SIZE 52 &
disk=$!
guest-tools intx
wait $disk
grep nvme /proc/interrupts
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let nvme = HostDevice::Nvme.take(lab)?;
    let edu = HostDevice::Edu.take(lab)?;
    let guest = Guest::script(&SCRIPT.replace("SIZE", &SIZE.to_string()))
        .file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0 pci=nomsi")
        .args(&["--vfio", &edu, "--vfio", &nvme])
        .args(&["--result", "result.json", "--log", "info"]);
    let console = lab.remora("guest", &remora)?;
    guest_did_well(&console)?;
    console
        .expect("messages 0")?
        .expect("domain DMA")?
        .expect(EDU)?
        .expect("BLKCHECK ok ")?;
    for user in ["vfio-intx", "nvme0q"] {
        let mut lines = console.stdout.lines();
        let line = lines.find(|line| line.contains(user) && line.contains("IO-APIC"));
        let Some(line) = line else {
            bail!("no interrupt of {user} came by the IOAPIC");
        };
        if !line.contains("fasteoi") {
            bail!("{user} does not use its pin as level-triggered: {line}");
        }
    }
    Report::read(lab, "result.json")?.expect_untroubled()?;
    HostDevice::Edu.give_back(lab)?;
    HostDevice::Nvme.give_back(lab)?;
    let check = format!("guest-tools blkcheck verify /dev/nvme0n1 {SIZE} 52");
    lab.sh("check", &check)?.expect_status(0)?;
    Ok(Verdict::Pass)
}
