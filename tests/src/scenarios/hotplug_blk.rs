// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk comes to a running guest, is used with checksums, and goes in an orderly way, again and again. What cannot be had is
//! refused with the reason, and nothing changes.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::ctl::Ctl;
use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "hotplug-blk",
    about: "a disk is added to a running guest, checked on both sides and removed in an orderly way, five times; refusals say why",
    limit: Duration::from_secs(420),
    run,
};

const ROUNDS: usize = 5;
const CTL: Ctl = Ctl("/tmp/hotplug-blk.sock");

/// Each round waits for a disk, uses it and waits until it is gone.
const SCRIPT: &str = r#"
set -e
for round in 1 2 3 4 5; do
    echo "HOTPLUG round $round waits"
    until [ -b /dev/vda ]; do sleep 0.1; done
    device=$(readlink -f /sys/block/vda/device/..)
    echo "HOTPLUG round $round found ${device##*/} in domain $(cat "$device/iommu_group/type")"
    guest-tools blkcheck random /dev/vda 16 $round
    echo "HOTPLUG round $round used it"
    while [ -e /sys/block/vda ]; do sleep 0.1; done
    echo "HOTPLUG round $round ended"
done
ls /sys/bus/pci/devices
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let guest = Guest::script(SCRIPT).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    lab.sh("disk", "truncate -s 16M /tmp/hot.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0")
        .args(&["--root-port", "id=soldered", "--rng"])
        .args(&[
            "--root-port",
            "id=p0,hotplug",
            "--root-port",
            "id=p1,hotplug",
        ])
        .args(&["--api-socket", CTL.0, "--result", "result.json"]);
    let job = lab.start_remora("guest", &remora)?;
    for round in 1..=ROUNDS {
        lab.wait_for(&job, &format!("HOTPLUG round {round} waits"))?;
        // The first round finds the disk by its port's name, the others in the other slot.
        let bus = if round == 1 { "p1" } else { "p0" };
        let option = format!("disk=/tmp/hot.img,id=hot,bus={bus}");
        CTL.done(lab, &format!("add-{round}"), &["add-device", &option])?;
        if round == 1 {
            refusals(lab)?;
        }
        lab.wait_for(&job, &format!("HOTPLUG round {round} used it"))?;
        let name = format!("remove-{round}");
        CTL.done(lab, &name, &["remove-device", "hot"])?
            .expect("hot is removed")?;
        let check = format!("guest-tools blkcheck verify /tmp/hot.img 16 {round}");
        lab.sh(&format!("check-{round}"), &check)?
            .expect_status(0)?
            .expect("BLKCHECK ok")?;
        lab.wait_for(&job, &format!("HOTPLUG round {round} ended"))?;
    }
    let console = lab.wait(&job)?;
    guest_did_well(&console)?;
    // A machine with hotplug ports is in caching mode, so its guest is strict.
    console.expect("IOMMU batching disallowed due to virtualization")?;
    let found = console.stdout.matches(" in domain DMA\n").count();
    if found != ROUNDS {
        bail!("the guest found {found} disks behind the unit, not {ROUNDS}");
    }
    Report::read(lab, "result.json")?.expect_untroubled()?;
    lab.sh("tidy", "rm /tmp/hot.img && ! ls /tmp/hotplug-blk.sock")?
        .expect_status(0)?;
    Ok(Verdict::Pass)
}

/// What cannot be had while `hot` is behind p1.
fn refusals(lab: &mut Lab<'_>) -> Result<()> {
    let cases = [
        (
            "taken",
            ["add-device", "disk=/tmp/hot.img,id=two,bus=p1"],
            "hot is in the slot of p1",
        ),
        (
            "name",
            ["add-device", "disk=/tmp/hot.img,id=hot,bus=p0"],
            "the name \"hot\" is taken",
        ),
        (
            "soldered",
            ["add-device", "disk=/tmp/hot.img,id=two,bus=soldered"],
            "no hotplug root port \"soldered\"",
        ),
        (
            "missing",
            ["add-device", "disk=/tmp/none.img,id=two,bus=p0"],
            "/tmp/none.img: No such file",
        ),
        (
            "kind",
            ["add-device", "kernel=/tmp/none"],
            "is no device that can be added",
        ),
        (
            "unknown",
            ["remove-device", "nobody"],
            "there is no such device (in slots are: hot)",
        ),
        ("fixed", ["remove-device", "rng"], "not in a hotplug slot"),
    ];
    for (name, args, why) in cases {
        CTL.refused(lab, &format!("refused-{name}"), &args, why)?;
    }
    Ok(())
}
