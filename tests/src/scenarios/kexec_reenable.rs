// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A second kernel finds the unit as the first one left it, and takes it over: after an orderly kexec interrupt remapping and
//! the queue are on, after a panic translation too, with the first kernel's tables. The second is Debian's, since the lab
//! kernel cannot be loaded at another place than its own.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, UNIT_TAKEN_OVER};
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

/// The first kernel: fills the disk, then gives way. The second has one processor, as usual: after a panic it may run on
/// another than the one that a machine starts with, which must then be left alone.
const FIRST: &str = r#"
set -e
guest-tools blkcheck random /dev/vda 2 31
guest-tools kexec WHEN /second/kernel /second/initrd "console=ttyS0 intel_iommu=on nr_cpus=1 second=WHEN"
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
"#;

/// The second: finds what the first one wrote, and writes anew.
const SECOND: &str = r#"
set -e
echo "the second kernel runs with $(sed 's/.*second=//' /proc/cmdline)"
echo "domain $(cat /sys/block/vda/device/../iommu_group/type)"
guest-tools blkcheck verify /dev/vda 2 31
guest-tools blkcheck random /dev/vda 2 32
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let orderly = handover(lab, "now", "", |remora| remora)?;
    // The first kernel turned translation off, but nothing else.
    orderly.expect("DMAR-IR: IRQ remapping was enabled on dmar0 but we are not in kdump mode")?;
    let panic = handover(lab, "crash", " crashkernel=128M", |remora| {
        remora
            .args(&["--no-default-fail-on"])
            .allow("Kernel panic - not syncing: sysrq triggered crash")
            .allow("Call Trace:")
    })?;
    panic
        .expect("Kernel panic - not syncing: sysrq triggered crash")?
        .expect("DMAR: Translation already enabled - trying to copy translation structures")?
        .expect("DMAR: Copied translation tables from previous kernel for dmar0")?
        .expect("DMAR-IR: Copied IR table for dmar0 from previous kernel")?;
    Ok(Verdict::Pass)
}

fn handover(
    lab: &mut Lab<'_>,
    when: &str,
    words: &str,
    adapt: fn(Remora) -> Remora,
) -> Result<Ended> {
    let tools = lab.binaries().guest_tools.clone();
    let stock = lab.stock()?;
    let second = Guest::script(SECOND)
        .modules(stock.modules(&["virtio_pci", "virtio_blk"])?)
        .file("bin/guest-tools", &tools);
    let second = lab.initrd(&format!("{when}-second"), &second)?;
    let first = Guest::script(&FIRST.replace("WHEN", when))
        .file("bin/guest-tools", &tools)
        .file("second/kernel", &stock.vmlinuz)
        .file("second/initrd", &second);
    let first = lab.initrd(&format!("{when}-first"), &first)?;
    lab.sh(&format!("{when}-disk"), "truncate -s 2M /tmp/disk.img")?
        .expect_status(0)?;
    let result = format!("{when}.json");
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&first)
        .cmdline(&format!("console=ttyS0{words}"))
        .args(&["--cpus", "2", "--memory", "512M"])
        .args(&["--disk", "/tmp/disk.img", "--result", &result])
        // What the second kernel says of the lab's processor.
        .allow("Speculative Return Stack Overflow: WARNING: See ");
    let console = lab.remora(when, &adapt(remora))?;
    judge(&console, when)?;
    let image = lab.sh(
        &format!("{when}-image"),
        "guest-tools blkcheck verify /tmp/disk.img 2 32; rm /tmp/disk.img",
    )?;
    image.expect_status(0)?.expect("BLKCHECK ok ")?;
    // Either kernel wrote and read each extent of at most 32 KiB, in four accesses or more.
    Report::read(lab, &result)?
        .expect_untroubled()?
        .expect_at_least("translations", 2 * 2 * 4 * (2 << 20) / (32 << 10))?;
    Ok(console)
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
