// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Programs in a guest drive L1's NVMe and edu, which are passed through, by the guest's own iommufd: what changes in the guest's
//! address spaces is on the host in time, costs no more calls than it must, and disturbs nothing beside it.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::mirrored::compare;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const PAIR: Scenario = Scenario {
    name: "vfio-two-devices-one-domain",
    about: "NVMe and edu in one address space of the guest: one host table, whose 4,096 changes cost as many host calls",
    limit: Duration::from_secs(300),
    run: pair,
};

pub const SWITCH: Scenario = Scenario {
    name: "vfio-domain-switch",
    about: "the guest moves edu between two address spaces while the NVMe reads in one of them",
    limit: Duration::from_secs(300),
    run: switch,
};

pub const SPLIT: Scenario = Scenario {
    name: "superpage-split",
    about: "large pages of the guest become small ones and large ones again beside DMA; the host has them page by page, without a gap",
    limit: Duration::from_secs(300),
    run: split,
};

pub const REMAP: Scenario = Scenario {
    name: "remap-under-dma",
    about: "for 30 s single pages go and come inside large host mappings under DMA to their neighbours: not one error",
    limit: Duration::from_secs(420),
    run: remap,
};

pub const PAGES: Scenario = Scenario {
    name: "dpdk-like",
    about: "a program in the guest maps 1 GiB in 4 KiB pages for the NVMe and moves 64 MiB between random ones of them",
    limit: Duration::from_secs(420),
    run: pages,
};

/// Host calls that a guest costs besides: its tables' beginnings and ends, queues of drivers.
const REST: u64 = 600;

fn pair(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = run(
        lab,
        "pair",
        &[HostDevice::Nvme, HostDevice::Edu],
        "mode=legacy",
        "512M",
    )?;
    // One map for each page that the guest mapped by itself. A second table would cost as many again.
    let (changes, calls) = (4096, run.number("/calls/map")?);
    if !(changes..changes + REST).contains(&calls) {
        bail!("{calls} host calls map what the guest mapped by {changes}");
    }
    run.whole()
}

fn switch(lab: &mut Lab<'_>) -> Result<Verdict> {
    let both = [HostDevice::Nvme, HostDevice::Edu];
    let run = run(lab, "switch", &both, "mode=scalable,stages=second", "512M")?;
    // Each move attaches edu anew, and nothing is mapped for it: both tables are there.
    if run.number("/calls/attach")? < 16 {
        bail!("edu did not move: {}", run.report.passthrough()?);
    }
    run.whole()
}

fn split(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = run(lab, "split", &[HostDevice::Nvme], "mode=legacy", "512M")?;
    run.whole()
}

fn remap(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = run(lab, "remap 30", &[HostDevice::Nvme], "mode=legacy", "512M")?;
    // Pages were taken out of mappings that stayed.
    if run.number("/calls/cut")? < 100 {
        bail!("hardly any mapping was cut: {}", run.report.passthrough()?);
    }
    run.whole()
}

fn pages(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = run(
        lab,
        "pages 1024",
        &[HostDevice::Nvme],
        "mode=legacy",
        "1536M",
    )?;
    let small = run.said.split(" MiB in ").nth(1).unwrap_or_default();
    let small = small.split(' ').next().unwrap_or_default();
    let small: u64 = small.parse().context("the number of small pages")?;
    if small < (1 << 30) / 4096 {
        bail!("the guest's kernel mapped only {small} pages: {}", run.said);
    }
    run.whole()
}

/// A guest that is gone.
struct Run {
    report: Report,
    /// What the program said at its end.
    said: String,
}

impl Run {
    /// One of the mirror's numbers.
    fn number(&self, place: &str) -> Result<u64> {
        let all = self.report.passthrough()?;
        let number = all.pointer(place).and_then(serde_json::Value::as_u64);
        number.with_context(|| format!("no {place} in {all}"))
    }

    /// Fails where the host refused something, or a mapping that the guest left alone was gone for a moment.
    fn whole(&self) -> Result<Verdict> {
        for place in ["/gaps", "/over_budget", "/quarantines", "/retries"] {
            if self.number(place)? != 0 {
                bail!("{place}: {}", self.report.passthrough()?);
            }
        }
        println!("{}", self.said);
        println!("{}", self.report.passthrough()?);
        Ok(Verdict::Pass)
    }
}

/// Passes the devices to a guest that runs `guest-tools passed WHAT`, its own drivers left out, and gives them back.
fn run(
    lab: &mut Lab<'_>,
    what: &str,
    devices: &[HostDevice],
    iommu: &str,
    memory: &str,
) -> Result<Run> {
    // Memory that the program touches is contiguous where it can be.
    let contiguous = "echo always >/sys/kernel/mm/transparent_hugepage/enabled";
    let script = format!("set -e\n{contiguous}\nguest-tools passed {what}\n");
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let mut remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0 initcall_blacklist=nvme_init")
        .args(&["--iommu", iommu, "--memory", memory])
        .args(&["--result", "result.json", "--log", "vmm=debug"]);
    let mut addresses = Vec::new();
    for device in devices {
        let address = device.take(lab)?;
        remora = remora.args(&["--vfio", &format!("{address},backend=iommufd")]);
        addresses.push(address);
    }
    let job = lab.start_remora("guest", &remora)?;
    if what == "split" {
        compare(lab, &job, &addresses[0])?;
    }
    let console = lab.wait(&job)?;
    guest_did_well(&console)?;
    let said = said(&console, what)?;
    let report = Report::read(lab, "result.json")?;
    report.expect_untroubled()?;
    for device in devices {
        device.give_back(lab)?;
    }
    Ok(Run { report, said })
}

fn said(console: &Ended, what: &str) -> Result<String> {
    let start = format!("PASSED ok {}: ", what.split(' ').next().unwrap_or_default());
    let mut lines = console.stdout.lines();
    let line = lines.find_map(|line| Some(line.split_once(&start)?.1.trim().to_owned()));
    line.with_context(|| format!("'{start}' is missing from the console"))
}
