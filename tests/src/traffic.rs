// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest with a disk and a network card, both of which do I/O that is checked at both ends.

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well_saying};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;

/// One boot of such a guest.
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'a> {
    /// Begins the names of its jobs and files; no two boots of a scenario share it.
    pub name: &'a str,
    /// Added to the kernel's command line.
    pub cmdline: &'a str,
    /// Further options of `remora run`.
    pub args: &'a [&'a str],
    /// The root port of the disk; the root bus if empty.
    pub disk_port: &'a str,
    /// The root port of the network card; the root bus if empty.
    pub net_port: &'a str,
    /// What the guest's shell does after the I/O.
    pub script: &'a str,
    /// How its kernel tells that it took the units over.
    pub taken_over: &'a [&'a str],
}

/// Mebibytes that the disk reads and writes, at random places.
const DISK_MIB: u64 = 16;
/// Mebibytes that the network card carries in each direction.
const NET_MIB: u64 = 8;

/// Requests of the disk at the least: a descriptor, a header, the data and a status for each extent of at most 32 KiB, which is
/// written and read.
pub const LEAST_REQUESTS: u64 = 4 * 2 * (DISK_MIB << 20) / (32 << 10);
/// Requests of the card at the least: a descriptor and a packet for each frame, in both directions.
pub const LEAST_FRAMES: u64 = 2 * 2 * (NET_MIB << 20) / 1500;

const GUEST: &str = r#"
set -e
guest-tools blkcheck random /dev/vda DISK 51
ip link set eth0 up
ip address add 10.77.0.2/24 dev eth0
ping -c 3 -W 5 10.77.0.1
echo "the net is up"
guest-tools netcheck receive 5001 NET 52
guest-tools netcheck send 10.77.0.1:5002 NET 53
"#;

const SET_UP: &str = "
set -e
tunctl -t remora0
ip address add 10.77.0.1/24 dev remora0
ip link set remora0 up
truncate -s DISKM /tmp/disk.img
";

const PEER: &str = r"
set -e
ping -c 3 -W 5 10.77.0.2
guest-tools netcheck send 10.77.0.2:5001 NET 52
guest-tools netcheck receive 5002 NET 53
";

const CHECK: &str = r"
set -e
tunctl -d remora0
guest-tools blkcheck verify /tmp/disk.img DISK 51
rm /tmp/disk.img
";

impl Traffic<'_> {
    /// Boots the guest and compares what the two ends say. The kernel took the unit over, complained about nothing, and the
    /// unit blocked nothing.
    pub fn run(&self, lab: &mut Lab<'_>) -> Result<(Ended, Report)> {
        let named = |part: &str| format!("{}-{part}", self.name);
        let guest = Guest::script(&format!("{}{}", sized(GUEST), self.script))
            .file("bin/guest-tools", &lab.binaries().guest_tools.clone());
        let initrd = lab.initrd(self.name, &guest)?;
        lab.sh(&named("set-up"), &sized(SET_UP))?.expect_status(0)?;
        let result = named("result.json");
        let remora = Remora::boot(&lab.kernel().bzimage)
            .initrd(&initrd)
            .cmdline(&format!("console=ttyS0 {}", self.cmdline))
            .args(self.args)
            .args(&["--disk", &behind("/tmp/disk.img", self.disk_port)])
            .args(&["--net", &behind("tap=remora0", self.net_port)])
            .args(&["--result", &result]);
        let machine = lab.start_remora(self.name, &remora)?;
        lab.wait_for(&machine, "the net is up")?;
        let peer = lab.sh(&named("peer"), &sized(PEER))?;
        let console = lab.wait(&machine)?;
        let image = lab.sh(&named("check"), &sized(CHECK))?;
        peer.expect_status(0)?;
        image.expect_status(0)?;
        guest_did_well_saying(&console, self.taken_over)?;
        same(&console, &peer, "NETCHECK ok ", 2)?;
        same(&console, &image, "BLKCHECK ok ", 1)?;
        let report = Report::read(lab, &result)?;
        report
            .expect_untroubled()?
            .expect_at_least("translations", LEAST_REQUESTS + LEAST_FRAMES)?;
        Ok((console, report))
    }
}

fn sized(script: &str) -> String {
    script
        .replace("DISK", &DISK_MIB.to_string())
        .replace("NET", &NET_MIB.to_string())
}

fn behind(device: &str, port: &str) -> String {
    if port.is_empty() {
        return device.to_owned();
    }
    format!("{device},bus={port}")
}

/// Both ends print the same `count` sums after `prefix`.
fn same(guest: &Ended, other: &Ended, prefix: &str, count: usize) -> Result<()> {
    let sums = |end: &Ended| -> Vec<String> {
        let lines = end.stdout.lines();
        lines
            .filter_map(|line| line.strip_prefix(prefix).map(str::to_owned))
            .collect()
    };
    let (ours, theirs) = (sums(guest), sums(other));
    if ours.len() != count || ours != theirs {
        bail!("{prefix}: the guest has {ours:?}, the other end {theirs:?}");
    }
    Ok(())
}
