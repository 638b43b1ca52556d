// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A second kernel finds the unit as the first one left it, and takes it over: after an orderly kexec interrupt remapping and
//! the queue are on, after a panic translation too, with the first kernel's tables. The second is Debian's, since the lab
//! kernel cannot be loaded at another place than its own.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, UNIT_TAKEN_OVER};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "kexec-reenable",
    about: "the guest starts a second kernel, orderly and out of a panic; it takes the running unit over and uses its disk",
    limit: Duration::from_secs(420),
    run,
};

pub const WITH_DEVICE: Scenario = Scenario {
    name: "kexec-with-device",
    about: "the same with L1's NVMe passed through: the second kernel takes over the unit, the tables and the device",
    limit: Duration::from_secs(600),
    run: run_with_device,
};

/// The disk of a machine whose kernels give way to each other.
#[derive(Debug, Clone, Copy)]
struct Disk<'a> {
    /// Its name in the guest.
    name: &'a str,
    /// Where its device's directory is from the disk's.
    device: &'a str,
    /// What the second kernel needs for it.
    modules: &'a [&'a str],
    /// The option by which the machine has it.
    option: [&'a str; 2],
    /// By which name the host knows it.
    host: &'a str,
}

const IMAGE: Disk<'_> = Disk {
    name: "vda",
    device: "device/..",
    modules: &["virtio_pci", "virtio_blk"],
    option: ["--disk", "/tmp/disk.img"],
    host: "/tmp/disk.img",
};

/// The first kernel: fills the disk, then gives way. The second has one processor, as usual: after a panic it may run on
/// another than the one that a machine starts with, which must then be left alone.
const FIRST: &str = r#"
set -e
guest-tools blkcheck random /dev/DISK 2 31
guest-tools kexec WHEN /second/kernel /second/initrd "console=ttyS0 intel_iommu=on nr_cpus=1 second=WHEN"
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
"#;

/// The second: finds what the first one wrote, and writes anew.
const SECOND: &str = r#"
set -e
echo "the second kernel runs with $(sed 's/.*second=//' /proc/cmdline)"
for wait in 1 2 3 4 5 6 7 8 9; do [ -e /dev/DISK ] || sleep 1; done
echo "domain $(cat /sys/block/DISK/DEVICE/iommu_group/type)"
guest-tools blkcheck verify /dev/DISK 2 31
guest-tools blkcheck random /dev/DISK 2 32
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    lab.sh("disk", "truncate -s 2M /tmp/disk.img")?
        .expect_status(0)?;
    orderly(lab, IMAGE)?;
    check(lab, "now", IMAGE)?;
    // Either kernel wrote and read each extent of at most 32 KiB, in four accesses or more.
    let least = 2 * 2 * 4 * (2 << 20) / (32 << 10);
    Report::read(lab, "now.json")?.expect_at_least("translations", least)?;
    panicked(lab, IMAGE)?;
    check(lab, "crash", IMAGE)?;
    Report::read(lab, "crash.json")?.expect_at_least("translations", least)?;
    lab.sh("no-disk", "rm /tmp/disk.img")?.expect_status(0)?;
    Ok(Verdict::Pass)
}

fn run_with_device(lab: &mut Lab<'_>) -> Result<Verdict> {
    let address = HostDevice::Nvme.take(lab)?;
    let disk = Disk {
        name: "nvme0n1",
        device: "device/device",
        // Built into the stock kernel.
        modules: &[],
        option: ["--vfio", &address],
        host: "/dev/nvme0n1",
    };
    orderly(lab, disk)?;
    panicked(lab, disk)?;
    HostDevice::Nvme.give_back(lab)?;
    check(lab, "crash", disk)?;
    Ok(Verdict::Pass)
}

/// The first kernel calls the second one.
fn orderly(lab: &mut Lab<'_>, disk: Disk<'_>) -> Result<()> {
    let console = handover(lab, "now", "", disk, |remora| remora)?;
    // The first kernel turned translation off, but nothing else.
    console.expect("DMAR-IR: IRQ remapping was enabled on dmar0 but we are not in kdump mode")?;
    Ok(())
}

/// The first kernel panics, its devices at work.
fn panicked(lab: &mut Lab<'_>, disk: Disk<'_>) -> Result<()> {
    let console = handover(lab, "crash", " crashkernel=128M", disk, |remora| {
        remora
            .args(&["--no-default-fail-on"])
            .allow("Kernel panic - not syncing: sysrq triggered crash")
            .allow("Call Trace:")
    })?;
    console
        .expect("Kernel panic - not syncing: sysrq triggered crash")?
        .expect("DMAR: Translation already enabled - trying to copy translation structures")?
        .expect("DMAR: Copied translation tables from previous kernel for dmar0")?
        .expect("DMAR-IR: Copied IR table for dmar0 from previous kernel")?;
    Ok(())
}

fn handover(
    lab: &mut Lab<'_>,
    when: &str,
    words: &str,
    disk: Disk<'_>,
    adapt: fn(Remora) -> Remora,
) -> Result<Ended> {
    let tools = lab.binaries().guest_tools.clone();
    let stock = lab.stock()?;
    let script = |text: &str| {
        let text = text.replace("DISK", disk.name).replace("WHEN", when);
        text.replace("DEVICE", disk.device)
    };
    let second = Guest::script(&script(SECOND))
        .modules(stock.modules(disk.modules)?)
        .file("bin/guest-tools", &tools);
    let second = lab.initrd(&format!("{when}-second"), &second)?;
    let first = Guest::script(&script(FIRST))
        .file("bin/guest-tools", &tools)
        .file("second/kernel", &stock.vmlinuz)
        .file("second/initrd", &second);
    let first = lab.initrd(&format!("{when}-first"), &first)?;
    let result = format!("{when}.json");
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&first)
        .cmdline(&format!("console=ttyS0{words}"))
        .args(&["--cpus", "2", "--memory", "512M"])
        .args(&disk.option)
        .args(&["--result", &result])
        // What the second kernel says of the lab's processor.
        .allow("Speculative Return Stack Overflow: WARNING: See ");
    let console = lab.remora(when, &adapt(remora))?;
    judge(&console, when)?;
    Report::read(lab, &result)?.expect_untroubled()?;
    Ok(console)
}

/// What the second kernel wrote is what the host has.
fn check(lab: &mut Lab<'_>, when: &str, disk: Disk<'_>) -> Result<()> {
    let verify = format!("guest-tools blkcheck verify {} 2 32", disk.host);
    let image = lab.sh(&format!("{when}-image"), &verify)?;
    image.expect_status(0)?.expect("BLKCHECK ok ")?;
    Ok(())
}

fn judge(console: &Ended, when: &str) -> Result<()> {
    console.expect_status(0)?;
    let Some((first, second)) = console.stdout.split_once(&format!("KEXEC {when}: loaded")) else {
        bail!("the first kernel loaded no second one:\n{}", console.stdout);
    };
    for line in UNIT_TAKEN_OVER {
        let found = [first, second].iter().all(|log| log.contains(line));
        if !found {
            bail!("'{line}' was not said by either kernel");
        }
    }
    for line in [
        &format!("the second kernel runs with {when}"),
        "domain DMA",
        "guest: script ended with status 0",
    ] {
        if !second.contains(line) {
            bail!("the second kernel did not say '{line}'");
        }
    }
    Ok(())
}
