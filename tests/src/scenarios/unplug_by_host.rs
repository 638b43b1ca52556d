// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ways in which a passed-through device leaves a guest that uses it: L1 wants it back, and it goes in an orderly way; it is
//! pulled by force; or it is behind no hotplug slot, then it stays, which is said, until the machine ends. Each time it works
//! in L1 again, and the guest lives on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::ctl::Ctl;
use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "unplug-by-host",
    about: "L1 unbinds an NVMe and an edu that a guest uses: the NVMe goes, orderly and then by force, the edu stays, which is said",
    limit: Duration::from_secs(480),
    run,
};

const CTL: Ctl = Ctl("/tmp/unplug-by-host.sock");

/// Uses the NVMe until it goes, twice, then edu once a disk came into the slot.
const SCRIPT: &str = r#"
set -e
until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
guest-tools blkcheck random /dev/nvme0n1 16 1
load() {
    (while dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null; do :; done; echo "HOST I/O ended") &
    sleep 1
    echo "HOST $1"
    while [ -e /sys/block/nvme0n1 ]; do sleep 0.1; done
    wait
    echo "HOST no longer $1"
}
load "in use"
until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
guest-tools blkcheck verify /dev/nvme0n1 16 1
load "in use again"
until [ -b /dev/vda ]; do sleep 0.1; done
guest-tools blkcheck random /dev/vda 8 2
guest-tools edu pages 2
"#;

/// What the events say in turn: the host asked, the guest let go.
const TOLD: &[&str] = &[
    r#""event":"unplug-requested","id":"nvme","by":"host""#,
    r#""event":"device-removed","id":"nvme","by":"host""#,
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    // An edu that is waited for blocks what is not mapped any more.
    lab.allow_in_host_log("DMAR: ");
    let (nvme, edu) = (HostDevice::Nvme.take(lab)?, HostDevice::Edu.take(lab)?);
    let guest = Guest::script(SCRIPT).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0")
        .args(&["--root-port", "id=p0,hotplug", "--api-socket", CTL.0])
        .args(&["--vfio", &format!("{nvme},id=nvme,bus=p0")])
        .args(&["--vfio", &format!("{edu},id=edu,mmap=off")])
        .args(&["--memory", "256M", "--result", "result.json"]);
    let job = lab.start_remora("guest", &remora)?;
    lab.wait_for(&job, "HOST in use")?;
    // It listens by the time that others were answered.
    let events = lab.start_sh("events", &CTL.command(lab, &["events"]))?;
    look(lab)?;
    let unbind = |address: &str| format!("echo {address} >/sys/bus/pci/drivers/vfio-pci/unbind");
    // The kernel returns when nobody has the device any more.
    lab.sh("want-nvme", &unbind(&nvme))?.expect_status(0)?;
    lab.wait_for(&job, "HOST no longer in use")?;
    for told in TOLD {
        lab.wait_for(&events, told)?;
    }
    HostDevice::Nvme.give_back(lab)?;
    works_again(lab, "orderly")?;

    let program = in_l1(&lab.binaries().remora);
    lab.sh("bind", &format!("{program} devices bind {nvme}"))?
        .expect_status(0)?;
    let option = format!("vfio={nvme},id=again,bus=p0");
    CTL.done(lab, "again", &["add-device", &option])?;
    lab.wait_for(&job, "HOST in use again")?;
    CTL.done(lab, "force", &["remove-device", "again", "--force"])?;
    lab.sh("unbind", &format!("{program} devices unbind {nvme}"))?
        .expect_status(0)?;
    works_again(lab, "forced")?;
    lab.wait_for(&job, "HOST no longer in use again")?;

    let wait = lab.start_sh("want-edu", &unbind(&edu))?;
    lab.wait_for(&events, r#""event":"device-kept","id":"edu""#)?;
    lab.sh("disk", "truncate -s 8M /tmp/by-host.img")?
        .expect_status(0)?;
    let option = "disk=/tmp/by-host.img,id=next,bus=p0";
    CTL.done(lab, "next", &["add-device", option])?;
    let console = lab.wait(&job)?;
    guest_did_well(&console)?;
    console.expect("HOST I/O ended")?.expect("PAGES done")?;
    console.expect_error(
        "edu: the host wants it back, but it is behind no root port with a hotplug slot",
    )?;
    Report::read(lab, "result.json")?.expect_untroubled()?;
    lab.wait(&wait)?.expect_status(0)?;
    lab.wait(&events)?.expect_status(0)?;
    HostDevice::Edu.give_back(lab)?;
    lab.sh("tidy", "rm /tmp/by-host.img")?.expect_status(0)?;
    Ok(Verdict::Pass)
}

/// L1's own driver finds on the NVMe what the guest wrote.
fn works_again(lab: &mut Lab<'_>, after: &str) -> Result<()> {
    let check = "until [ -b /dev/nvme0n1 ]; do sleep 0.1; done\nguest-tools blkcheck verify /dev/nvme0n1 16 1";
    lab.sh(&format!("check-{after}"), check)?.expect_status(0)?;
    Ok(())
}

/// What can be asked of a machine while it uses passed-through devices.
fn look(lab: &mut Lab<'_>) -> Result<()> {
    let stats = CTL.done(lab, "stats", &["stats", "--json"])?;
    let stats: Value = serde_json::from_str(&stats.stdout).context("stats")?;
    let all = &stats["parts"]["passthrough"];
    if all["backend"] != "iommufd" {
        bail!("iommufd was not chosen: {all}");
    }
    let names = all["names"].as_array().context("no names")?;
    let known: Vec<_> = names
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    if known != ["nvme", "edu"] {
        bail!("the devices are called {known:?}: {all}");
    }
    let domains = all["domains"].as_array().context("no domains")?;
    let busy = |domain: &&Value| {
        let some = |name: &str| domain[name].as_u64() > Some(0);
        domain["members"][0]["device"] == names[0]["device"]
            && ["leaves", "runs", "bytes"].iter().all(|name| some(name))
            && domain["counters"]["calls"]["map"].as_u64() > Some(0)
            && domain["counters"]["walks"].as_u64() > Some(0)
    };
    if domains.iter().filter(busy).count() != 1 {
        bail!("the NVMe's domain has no numbers: {all}");
    }
    for name in [
        "batches", "tables", "leaves", "skips", "calls", "times", "retries", "gaps",
    ] {
        if all["totals"][name].is_null() {
            bail!("no total of {name}: {all}");
        }
    }
    // No driver maps the first page.
    let why = CTL.done(lab, "why", &["dump", "--why", "device=nvme,iova=0x0"])?;
    why.expect("not present")?;
    CTL.refused(
        lab,
        "nobody",
        &["dump", "--why", "device=card,iova=0x0"],
        "no passed-through device has this name",
    )?;
    CTL.done(lab, "page", &["dump", "--html", "page.html"])?;
    let page = std::fs::read_to_string(lab.dir().join("page.html")).context("the page")?;
    if !page.contains("<svg") {
        bail!("the page draws nothing");
    }
    Ok(())
}
