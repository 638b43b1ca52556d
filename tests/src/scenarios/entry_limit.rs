// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host that can hold few mappings (type1 with a low dma_entry_limit): joining neighbours carries a guest far beyond the limit,
//! and when the limit really is reached, the guest has a fault, the user a message, and everything goes on.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "entry-limit",
    about: "a host with room for 256 mappings: 4096 adjacent ones fit joined, 512 apart do not, which is a fault and a message",
    limit: Duration::from_secs(300),
    run,
};

const LIMIT: u64 = 256;

/// edu's transfers to what is not mapped at the host are blocked there, and nowhere else.
const HOST_FAULT: &str = "DMAR: ";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    set_limit(lab, "lower", LIMIT)?;
    let result = with_limit(lab);
    set_limit(lab, "restore", 65_535)?;
    result
}

/// The limit of containers that are made from now on.
fn set_limit(lab: &mut Lab<'_>, job: &str, limit: u64) -> Result<()> {
    let file = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
    lab.sh(job, &format!("echo {limit} >{file}"))?
        .expect_status(0)?;
    Ok(())
}

fn with_limit(lab: &mut Lab<'_>) -> Result<Verdict> {
    let address = HostDevice::Edu.take(lab)?;
    let script = format!("guest-tools edu entries {LIMIT}\necho \"the guest lives\"\n");
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--vfio", &format!("{address},backend=type1")])
        .args(&["--result", "result.json"])
        .allow("DMAR: DRHD: handling fault status reg ")
        .allow("fault reason 0x07");
    lab.allow_in_host_log(HOST_FAULT);
    let console = lab.remora("guest", &remora)?;
    guest_did_well(&console)?;
    for text in [
        "ENTRIES 4096 adjacent pages are mapped",
        "ENTRIES adjacent pages were all reached",
        "ENTRIES of 512 pages apart the second is reached: true",
        "ENTRIES the last is reached: false",
        "ENTRIES with few left the last is reached: true",
        "the guest lives",
    ] {
        console.expect(text)?;
    }
    console.expect_error("the host refused to map")?;
    judge(&Report::read(lab, "result.json")?)?;
    HostDevice::Edu.give_back(lab)?;
    Ok(Verdict::Pass)
}

/// The guest had one fault for all that did not fit, and only the limit was refused by the host.
fn judge(report: &Report) -> Result<()> {
    if report.counter("faults")? != 1 || report.faults("0x07") != 1 {
        bail!("the guest did not have one fault with reason 0x7: {report:?}");
    }
    let mirror = report.passthrough()?;
    if mirror["compactions"].as_u64() < Some(1) || mirror["gaps"].as_u64() < Some(LIMIT) {
        bail!("no mappings were joined: {mirror}");
    }
    let refusals = mirror["refusals"].as_array();
    if refusals.map(Vec::len) != Some(1) {
        bail!("the host refused other things than one too many mapping: {mirror}");
    }
    Ok(())
}
