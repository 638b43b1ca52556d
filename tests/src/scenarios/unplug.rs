// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ways in which a device leaves a guest: orderly while the guest uses it, taken back by a second press, kept by a guest
//! that does not listen, and by force under I/O. The machine lives on each time.

use std::time::Duration;

use anyhow::Result;

use crate::ctl::Ctl;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "unplug",
    about: "orderly removal, one that a second press takes back, a guest that ignores it, force under I/O; the machine lives",
    limit: Duration::from_secs(420),
    run,
};

const CTL: Ctl = Ctl("/tmp/unplug.sock");

/// A guest that looks after its slots. `hot` is there from the beginning.
const LISTENS: &str = r#"
set -e
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do sleep 0.1; done
hot=$(grep -l "^hot$" /sys/block/vd*/serial | cut -d/ -f4)
cold=$(grep -l "^cold$" /sys/block/vd*/serial | cut -d/ -f4)
guest-tools blkcheck random /dev/$hot 16 1
echo "UNPLUG ready"
until dmesg | grep -q "Button press: canceling"; do sleep 0.1; done
sleep 7
[ -b /dev/$hot ]
guest-tools blkcheck verify /dev/$hot 16 1
echo "UNPLUG kept"
while [ -e /sys/block/$hot ]; do sleep 0.1; done
echo "UNPLUG gone"
until [ -b /dev/$hot ]; do sleep 0.1; done
(while dd if=/dev/$hot of=/dev/null bs=64k count=256 iflag=direct 2>/dev/null; do :; done) &
sleep 1
dmesg -c >/dev/null
echo "UNPLUG under load"
until dmesg | grep -q "Slot.*: Card not present"; do sleep 0.1; done
echo "UNPLUG pulled"
guest-tools blkcheck random /dev/$cold 16 3
echo "UNPLUG lives"
sleep 600
"#;

/// A guest that has no driver for its slots.
const IGNORES: &str = r#"
set -e
guest-tools blkcheck random /dev/vda 16 4
echo "UNPLUG ready"
sleep 40
guest-tools blkcheck verify /dev/vda 16 4
echo "UNPLUG still there"
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    lab.sh("disks", "truncate -s 16M /tmp/hot.img /tmp/cold.img")?
        .expect_status(0)?;
    listens(lab)?;
    ignores(lab)?;
    lab.sh("tidy", "rm /tmp/hot.img /tmp/cold.img")?
        .expect_status(0)?;
    Ok(Verdict::Pass)
}

fn listens(lab: &mut Lab<'_>) -> Result<()> {
    let tools = lab.binaries().guest_tools.clone();
    let guest = Guest::script(LISTENS).file("bin/guest-tools", &tools);
    let initrd = lab.initrd("listens", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0")
        .args(&[
            "--root-port",
            "id=p0,hotplug",
            "--root-port",
            "id=p1,hotplug",
        ])
        .args(&["--disk", "/tmp/hot.img,id=hot,bus=p0"])
        .args(&["--disk", "/tmp/cold.img,id=cold", "--api-socket", CTL.0]);
    let job = lab.start_remora("listens", &remora)?;
    lab.wait_for(&job, "UNPLUG ready")?;
    let first = lab.start_sh("asked", &CTL.command(lab, &["remove-device", "hot"]))?;
    lab.wait_for(&job, "Button press")?;
    // The guest lets its light blink right after it says so. It takes longer to ask again.
    CTL.refused(
        lab,
        "taken-back",
        &["remove-device", "hot"],
        "a second press of the attention button took the first one back",
    )?;
    lab.wait(&first)?
        .expect_status(1)?
        .expect_error("a second press of the attention button took the first one back")?;
    lab.wait_for(&job, "UNPLUG kept")?;
    CTL.done(lab, "orderly", &["remove-device", "hot"])?;
    lab.wait_for(&job, "UNPLUG gone")?;
    let option = "disk=/tmp/hot.img,id=hot,bus=p0";
    CTL.done(lab, "again", &["add-device", option])?;
    lab.wait_for(&job, "UNPLUG under load")?;
    CTL.done(lab, "force", &["remove-device", "hot", "--force"])?;
    lab.wait_for(&job, "UNPLUG pulled")?;
    // Linux's virtio driver waits without end for what was under way when its disk was pulled, or for a register of it, and
    // keeps other devices from coming, going and being switched off meanwhile. Everything else lives.
    lab.wait_for(&job, "UNPLUG lives")?;
    lab.signal(&job, "TERM")?;
    lab.wait(&job)?.expect_status(143)?;
    lab.sh("check", "guest-tools blkcheck verify /tmp/cold.img 16 3")?
        .expect_status(0)?;
    Ok(())
}

fn ignores(lab: &mut Lab<'_>) -> Result<()> {
    let tools = lab.binaries().guest_tools.clone();
    let guest = Guest::script(IGNORES).file("bin/guest-tools", &tools);
    let initrd = lab.initrd("ignores", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        // No services of PCI Express ports, so nobody hears the button.
        .cmdline("console=ttyS0 pcie_ports=compat")
        .args(&["--root-port", "id=p0,hotplug", "--api-socket", CTL.0])
        .args(&["--disk", "/tmp/hot.img,id=hot,bus=p0"]);
    let job = lab.start_remora("ignores", &remora)?;
    lab.wait_for(&job, "UNPLUG ready")?;
    let why = "the guest did not let go of it: for 30 s it took no note of the attention button";
    CTL.refused(lab, "ignored", &["remove-device", "hot"], why)?;
    let console = lab.wait(&job)?;
    console.expect_status(0)?.expect("UNPLUG still there")?;
    Ok(())
}
