// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1's NVMe passed through to a guest behind the unit: what its driver writes is on the host's disk, bit by bit, and what its
//! tables say is in the host's, page by page.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::mirrored::{SHOWN, compare};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const IOMMUFD: Scenario = Scenario {
    name: "vfio-nvme",
    about: "a strict guest writes and reads 256 MiB on L1's NVMe, passed through by iommufd; L1 finds the same on the disk",
    limit: Duration::from_secs(600),
    run: |lab| run(lab, "iommufd", "mode=legacy", |_, _| Ok(())).map(passed),
};

pub const TYPE1: Scenario = Scenario {
    name: "vfio-nvme-type1",
    about: "the same by a VFIO group and container",
    limit: Duration::from_secs(600),
    run: |lab| run(lab, "type1", "mode=legacy", |_, _| Ok(())).map(passed),
};

fn passed(_: Ended) -> Verdict {
    Verdict::Pass
}

/// MiB written and read.
const SIZE: usize = 256;

/// The controller must have come up with MSI-X, in a domain whose mappings come and go with each request.
const SCRIPT: &str = r#"
set -e
device=$(readlink -f /sys/block/nvme0n1/device/device)
echo "domain $(cat $device/iommu_group/type)"
echo "vectors $(ls $device/msi_irqs | wc -l)"
guest-tools blkcheck random /dev/nvme0n1 SIZE 21
grep nvme /proc/interrupts
level=$(cut -f1 /proc/sys/kernel/printk)
# What the kernel says now would come in between.
dmesg -n 1
echo "TABLES begin"
cat /sys/kernel/debug/iommu/intel/${device##*/}/domain_translation_struct
echo "TABLES end"
sleep 10
dmesg -n $level
"#;

/// Passes the controller to a guest that does checked I/O behind this unit, compares data and tables, and gives the controller back;
/// the guest's console. `look` sees the host while the guest rests, and has the controller's address.
pub fn run(
    lab: &mut Lab<'_>,
    backend: &str,
    iommu: &str,
    look: impl FnOnce(&mut Lab<'_>, &str) -> Result<()>,
) -> Result<Ended> {
    let address = HostDevice::Nvme.take(lab)?;
    let guest = Guest::script(&SCRIPT.replace("SIZE", &SIZE.to_string()))
        .file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0")
        .args(&["--iommu", iommu])
        .args(&["--vfio", &format!("{address},backend={backend}")])
        .args(&["--result", "result.json", "--log", "vmm=debug"]);
    let job = lab.start_remora("guest", &remora)?;
    lab.wait_for(&job, SHOWN)?;
    look(lab, &address)?;
    compare(lab, &job, &address)?;
    let console = lab.wait(&job)?;
    guest_did_well(&console)?;
    console
        .expect("DMAR: IOMMU batching disallowed due to virtualization")?
        .expect("domain DMA\n")?
        .forbid("vectors 0")?;
    Report::read(lab, "result.json")?.expect_untroubled()?;
    HostDevice::Nvme.give_back(lab)?;
    let check = format!("guest-tools blkcheck verify /dev/nvme0n1 {SIZE} 21");
    let check = lab.sh("check", &check)?;
    check.expect_status(0)?;
    let sum = |text: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.split_once("BLKCHECK ok ")?.1.to_owned()))
    };
    let (guest, host) = (sum(&console.stdout), sum(&check.stdout));
    if guest.is_none() || guest != host {
        bail!("checksums differ: the guest has {guest:?}, the host's disk {host:?}");
    }
    Ok(console)
}
