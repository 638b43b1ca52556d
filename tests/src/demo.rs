// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo lab demo`: the main job from end to end in one boot, and a short report of what was seen.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

/// Run by itself, so not among all scenarios.
pub const SCENARIO: Scenario = Scenario {
    name: "demo",
    about: "a Linux guest uses an emulated disk and the host's NVMe, passed through, behind the emulated unit",
    limit: Duration::from_secs(300),
    run,
};

const SCRIPT: &str = r#"
set -e
echo "kernel: $(uname -sr)"
echo "domain: $(cat /sys/block/vda/device/../iommu_group/type)"
guest-tools blkcheck random /dev/vda 32 7
guest-tools blkcheck random /dev/nvme0n1 32 8
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
    let address = HostDevice::Nvme.take(lab)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0")
        .args(&["--cpus", "2", "--disk", "/tmp/disk.img,queues=2", "--rng"])
        .args(&["--vfio", &address, "--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    HostDevice::Nvme.give_back(lab)?;
    let check = "guest-tools blkcheck verify /tmp/disk.img 32 7\n\
                 guest-tools blkcheck verify /dev/nvme0n1 32 8";
    let check = lab.sh("check", &format!("set -e\n{check}"))?;
    check.expect_status(0)?;
    let sums = |ended: &Ended| -> Vec<String> {
        let mut sums = Vec::new();
        for line in ended.stdout.lines() {
            if let Some((_, sum)) = line.split_once("BLKCHECK ok ") {
                sums.push(sum.trim().to_owned());
            }
        }
        sums
    };
    let (guest, host) = (sums(&console), sums(&check));
    if guest.len() != 2 || guest != host {
        bail!("checksums differ: {guest:?} in the guest, {host:?} on the host");
    }
    let report = Report::read(lab, "result.json")?;
    // A request is at least a descriptor, a header, the data and a status.
    report
        .expect_untroubled()?
        .expect_at_least("translations", 4 * REQUESTS)?;
    tell(&console.stdout, &report)?;
    println!(
        "disk        32 MiB written and read back in shuffled order; checksum {} in the guest and in the image",
        guest[0]
    );
    println!(
        "NVMe        the same on the host's {address}; checksum {} in the guest and on the host's disk",
        guest[1]
    );
    tell_mirror(&report)?;
    Ok(Verdict::Pass)
}

fn tell(console: &str, report: &Report) -> Result<()> {
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

/// How the host followed the guest's tables.
fn tell_mirror(report: &Report) -> Result<()> {
    let all = report.passthrough()?;
    let number = |place: &str| {
        let number = all.pointer(place).and_then(serde_json::Value::as_u64);
        number.with_context(|| format!("no {place} in {all}"))
    };
    if number("/calls/map")? == 0 || number("/gaps")? != 0 {
        bail!("the host did not follow the guest's tables as it should: {all}");
    }
    println!(
        "mirrored    {} batches, {} of the guest's pages walked",
        number("/batches")?,
        number("/leaves")?
    );
    println!(
        "host calls  {} map, {} unmap, {} cut, {} attach, {} detach; {} gaps",
        number("/calls/map")?,
        number("/calls/unmap")?,
        number("/calls/cut")?,
        number("/calls/attach")?,
        number("/calls/detach")?,
        number("/gaps")?
    );
    Ok(())
}
