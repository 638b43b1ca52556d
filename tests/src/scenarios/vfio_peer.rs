// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest leads one passed-through device into the memory of another one, as peer-to-peer DMA does: by containers it reaches
//! that, as long as the guest says so and the other device answers there; by iommufd it is left out and counted.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-peer",
    about: "DMA of one passed-through device into another one's BAR: by type1 it arrives, by iommufd it is left out and counted",
    limit: Duration::from_secs(300),
    run,
};

/// edu's transfers to what is not mapped at the host are blocked there.
const HOST_FAULT: &str = "DMAR: ";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    lab.allow_in_host_log(HOST_FAULT);
    let edu = HostDevice::Edu.take(lab)?;
    let peer = HostDevice::SharedMemory.take(lab)?;
    for (backend, reaches) in [("type1", true), ("iommufd", false)] {
        through(lab, backend, [&edu, &peer], reaches)?;
    }
    HostDevice::SharedMemory.give_back(lab)?;
    HostDevice::Edu.give_back(lab)?;
    Ok(Verdict::Pass)
}

fn through(lab: &mut Lab<'_>, backend: &str, devices: [&str; 2], reaches: bool) -> Result<()> {
    let guest = Guest::script("guest-tools edu peer\n");
    let guest = guest.file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd(backend, &guest)?;
    let mut remora = Remora::boot(&lab.kernel().bzimage).initrd(&initrd).args(&[
        "--memory",
        "256M",
        "--result",
        "result.json",
    ]);
    for device in devices {
        remora = remora.args(&["--vfio", &format!("{device},backend={backend}")]);
    }
    let console = lab.remora(backend, &remora)?;
    guest_did_well(&console)?;
    for text in [
        format!("PEER into it: {reaches}"),
        format!("PEER out of it: {reaches}"),
        format!("PEER into it when it answers again: {reaches}"),
        "PEER done".to_owned(),
    ] {
        console.expect(&text)?;
    }
    let report = Report::read(lab, "result.json")?;
    report.expect_untroubled()?;
    let mirror = report.passthrough()?;
    let dropped = mirror["dropped"]["device_memory"].as_u64();
    // Two pages, each by itself, and nothing besides.
    if dropped != Some(if reaches { 0 } else { 2 }) {
        bail!("{backend}: {dropped:?} leaves into the other device were left out: {mirror}");
    }
    Ok(())
}
