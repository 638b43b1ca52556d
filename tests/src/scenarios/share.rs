// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest whose root is a folder of the host: it reads and writes there; read-only, it cannot.

use std::time::Duration;

use anyhow::Result;

use crate::evidence::Report;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "share",
    about: "a folder is a guest's root file system, writable and read-only, without an initramfs",
    limit: Duration::from_secs(90),
    run,
};

/// Makes the folder; no two pages of its `seed` are alike.
const FOLDER: &str = r#"
set -e
mkdir -p /tmp/root/bin /tmp/root/dev /tmp/root/proc /tmp/root/sys
cp /lab/busybox /tmp/root/bin/busybox
truncate -s 1M /tmp/root/seed
guest-tools blkcheck write /tmp/root/seed 1 31
cp init /tmp/root/init
chmod 755 /tmp/root/init
"#;

/// First process of the guest. Device nodes are the kernel's, so the console can only be opened once they are there.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
alias sha256sum='/bin/busybox sha256sum' cp='/bin/busybox cp' mv='/bin/busybox mv' mkdir='/bin/busybox mkdir'
echo "root $(/bin/busybox awk '$2 == "/" { print $1, $3 }' /proc/mounts)"
echo "read $(sha256sum </seed)"
if mkdir /made; then
    cp /seed /made/copy && mv /made/copy /made/renamed && echo "from the guest" >/made/note && echo "written"
else
    echo "in place" >>/seed || echo "refused: $?"
fi
/bin/busybox sync
/bin/busybox poweroff -f
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    std::fs::write(lab.dir().join("init"), INIT)?;
    lab.sh("folder", FOLDER)?.expect_status(0)?;
    let seed = lab.sh("seed", "sha256sum </tmp/root/seed")?;
    let seed = seed.stdout.trim();

    let console = boot(lab, "readonly", "/tmp/root,tag=root,readonly")?;
    console
        .expect(&format!("read {seed}"))?
        .expect("refused")?
        .forbid("written")?;
    lab.sh(
        "unchanged",
        "[ ! -e /tmp/root/made ] && sha256sum </tmp/root/seed",
    )?
    .expect_status(0)?
    .expect(seed)?;

    let console = boot(lab, "writable", "/tmp/root,tag=root")?;
    console.expect(&format!("read {seed}"))?.expect("written")?;
    lab.sh(
        "written",
        "cd /tmp/root/made && ls && cat note && sha256sum <renamed",
    )?
    .expect_status(0)?
    .expect("note\nrenamed\nfrom the guest\n")?
    .expect(seed)?;
    Ok(Verdict::Pass)
}

/// Boots from the folder; the kernel mounts it as writable either way, so a refusal is the device's.
fn boot(lab: &mut Lab<'_>, name: &str, share: &str) -> Result<Ended> {
    let result = format!("{name}.json");
    let remora = Remora::boot(&lab.kernel().bzimage)
        .cmdline(
            "console=ttyS0 root=root rootfstype=9p rootflags=trans=virtio,version=9p2000.L rw init=/init",
        )
        .args(&["--share", share, "--result", &result]);
    let console = lab.remora(name, &remora)?;
    console.expect_status(0)?.expect("root root 9p")?;
    Report::read(lab, &result)?
        .expect_untroubled()?
        .expect_at_least("translations", (1 << 20) / 4096)?;
    Ok(console)
}
