// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora devices` on L1's real sysfs: its NVMe and edu go to vfio-pci and back, and stay where they are while L1 uses them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "devices-bind",
    about: "remora devices lists L1's devices, takes NVMe and edu from their drivers and gives them back; what is in use stays",
    limit: Duration::from_secs(120),
    run,
};

/// Finds both devices; says what each call printed, its status, and the drivers after it.
const BEGIN: &str = r#"
nvme=$(basename "$(dirname "$(grep -l 0x010802 /sys/bus/pci/devices/*/class)")")
edu=$(basename "$(dirname "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)")")
lpc=$(basename "$(dirname "$(grep -l 0x0601 /sys/bus/pci/devices/*/class)")")
group=$(basename "$(readlink /sys/bus/pci/devices/$nvme/iommu_group)")
driver() {
    basename "$(readlink /sys/bus/pci/devices/$1/driver || echo none)"
}
call() {
    what=$1
    shift
    text=$(remora devices "$@" 2>&1)
    echo "$what: status $? nvme $(driver $nvme) edu $(driver $edu): $text" |
        sed "s/$nvme/NVME/g; s/$edu/EDU/g; s/$lpc/LPC/g; s/process [0-9]*/process N/; s/vfio.$group open/GROUP open/"
}
"#;

const SCRIPT: &str = r#"
remora devices --json
mkfs.ext4 -q /dev/nvme0n1 && mount /dev/nvme0n1 /mnt && echo kept >/mnt/file
call mounted bind $edu $nvme
umount /mnt
exec 9</dev/nvme0n1
call open bind $nvme
exec 9<&-
call bridge bind $edu $lpc
call nobody bind $edu 00:1e.7
call text bind somewhere
call both bind $nvme $edu
call again bind $nvme
[ -e /dev/nvme0n1 ] || echo "the disk is gone"
ls /dev/vfio/devices
remora doctor | grep vfio-devices
exec 8<>/dev/vfio/$group
call held unbind $nvme $edu
exec 8>&-
call back unbind $nvme $edu
call nothing unbind $nvme
mount -r /dev/nvme0n1 /mnt && echo "the disk is back: $(cat /mnt/file)" && umount /mnt
echo "records: $(ls -A /run/remora/bound)"
echo "override: $(cat /sys/bus/pci/devices/$nvme/driver_override)"
"#;

/// What the calls must have said.
const SAID: &[&str] = &[
    "mounted: status 3 nvme nvme edu none: remora: host: NVME is in use: /dev/nvme0n1 is mounted at /mnt\n",
    "open: status 3 nvme nvme edu none: remora: host: NVME is in use: process N (sh) has /dev/nvme0n1 open\n",
    "bridge: status 3 nvme nvme edu none: remora: host: LPC cannot be passed through: it is a bridge",
    "nobody: status 2 nvme nvme edu none: remora: usage: the host has no PCI device at 0000:00:1e.7",
    "text: status 2 nvme nvme edu none: remora: usage: ",
    "both: status 0 nvme vfio-pci edu vfio-pci: NVME: taken from nvme, bound to vfio-pci\nEDU: taken from no driver, bound to vfio-pci\n",
    "again: status 0 nvme vfio-pci edu vfio-pci: NVME: is bound to vfio-pci already\n",
    "the disk is gone\n",
    "devices bound to vfio-pci: 2, all can be opened\n",
    "held: status 3 nvme vfio-pci edu vfio-pci: remora: host: NVME is in use: process N (sh) has /dev/GROUP open",
    "back: status 0 nvme nvme edu none: NVME: given back to nvme\nEDU: given back to no driver\n",
    "nothing: status 0 nvme nvme edu none: NVME: is not bound to vfio-pci\n",
    "the disk is back: kept\n",
    "records: \n",
    "override: (null)\n",
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let calls = lab.sh("calls", &format!("{BEGIN}{SCRIPT}"))?;
    calls.expect_status(0)?;
    for text in SAID {
        calls.expect(text)?;
    }
    let end = calls
        .stdout
        .find("\n]\n")
        .context("a JSON array comes first")?;
    listed(&serde_json::from_str(&calls.stdout[..end + 2])?)?;
    Ok(Verdict::Pass)
}

/// The list has NVMe, edu and a bridge, each as it was at the beginning.
fn listed(list: &Value) -> Result<()> {
    let all = list.as_array().context("the list is an array")?;
    for (class, driver, passthrough, reason) in [
        (
            "010802",
            Value::from("nvme"),
            "bind",
            "the host's driver nvme uses it",
        ),
        ("00ff00", Value::Null, "bind", "it is not bound to vfio-pci"),
        ("060000", Value::Null, "no", "it is a bridge"),
    ] {
        let device = all.iter().find(|device| device["class_code"] == class);
        let device = device.with_context(|| format!("no class {class} in {list:#}"))?;
        let why = device["reason"].as_str().unwrap_or_default();
        if device["driver"] != driver
            || device["passthrough"] != passthrough
            || !why.contains(reason)
        {
            bail!("not {driver}, {passthrough}, {reason}: {device:#}");
        }
        if device["iommu"] != "dmar0" || device["group"].as_u64().is_none() {
            bail!("behind no unit, or in no group: {device:#}");
        }
    }
    Ok(())
}
