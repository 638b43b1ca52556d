// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo lab demo`: the main job from end to end in one boot, and a short report of what was seen.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

/// Run by itself, so not among all scenarios.
pub const SCENARIO: Scenario = Scenario {
    name: "demo",
    about: "a Linux guest uses a disk through the emulated unit",
    limit: Duration::from_secs(180),
    run,
};

const SCRIPT: &str = r#"
set -e
echo "kernel: $(uname -sr)"
echo "domain: $(cat /sys/block/vda/device/../iommu_group/type)"
guest-tools blkcheck random /dev/vda 32 7
grep -E 'CPU0|IR-' /proc/interrupts
"#;

/// What `blkcheck random` makes at the least: a write and a read for each extent of at most 32 KiB.
const REQUESTS: u64 = 2 * (32 << 20) / (32 << 10);

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let tools = lab.binaries().guest_tools.clone();
    let initrd = lab.initrd(
        "guest",
        &Guest::script(SCRIPT).file("bin/guest-tools", &tools),
    )?;
    lab.sh("disk", "truncate -s 32M /tmp/disk.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0 iommu.strict=1")
        .args(&["--cpus", "2", "--disk", "/tmp/disk.img,queues=2", "--rng"])
        .args(&["--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    let image = lab.sh("image", "guest-tools blkcheck verify /tmp/disk.img 32 7")?;
    image.expect_status(0)?;
    let sum = |ended: &Ended| -> Option<String> {
        let mut lines = ended.stdout.lines();
        lines.find_map(|line| Some(line.strip_prefix("BLKCHECK ok ")?.to_owned()))
    };
    let (guest, host) = (sum(&console), sum(&image));
    if guest.is_none() || guest != host {
        bail!("checksums differ: {guest:?} in the guest, {host:?} in the image");
    }
    let report = Report::read(lab, "result.json")?;
    // A request is at least a descriptor, a header, the data and a status.
    report
        .expect_untroubled()?
        .expect_at_least("translations", 4 * REQUESTS)?;
    tell(&console.stdout, &guest.unwrap_or_default(), &report)?;
    Ok(Verdict::Pass)
}

fn tell(console: &str, sum: &str, report: &Report) -> Result<()> {
    let kernel = console
        .lines()
        .find_map(|line| line.strip_prefix("kernel: "));
    println!(
        "kernel      {}",
        kernel.context("the guest names no kernel")?
    );
    let said = |line: &&str| line.contains("DMAR: ") || line.contains("DMAR-IR: ");
    for line in console.lines().filter(said) {
        println!("guest said  {line}");
    }
    for line in console.lines().filter(|line| line.contains(" IR-")) {
        println!("interrupts  {line}");
    }
    println!(
        "disk I/O    32 MiB written and read back in shuffled order; checksum {sum} in the guest and in the image"
    );
    for (label, name) in [
        ("translated ", "translations"),
        ("interrupts ", "interrupts"),
        ("invalidated", "page_invalidations"),
        ("faults     ", "faults"),
    ] {
        println!("{label} {}", report.counter(name)?);
    }
    Ok(())
}
