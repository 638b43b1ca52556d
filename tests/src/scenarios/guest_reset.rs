// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that resets again and again with a passed-through disk: each time the device is reset, found and used anew, and what
//! was written before is there.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::ending::{RESULT, expect_ending};
use crate::evidence::UNIT_TAKEN_OVER;
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "guest-reset",
    about: "a guest resets ten times while its passed-through NVMe is at work; each boot finds what the one before wrote",
    limit: Duration::from_secs(600),
    run,
};

/// Resets, and so one boot more.
const RESETS: usize = 10;

/// Counts its boots in the last block of 2 MiB on the NVMe, and leaves while the disk is still being written to.
const SCRIPT: &str = r#"
set -e
disk=/dev/nvme0n1
count() { dd if=$disk bs=4096 skip=511 count=1 iflag=direct 2>/dev/null | tr -d '\0'; }
boots=$(count)
boots=$((${boots:-0} + 1))
if [ $boots -gt 1 ]; then guest-tools blkcheck verify $disk 1 $((70 + boots - 1)); fi
guest-tools blkcheck write $disk 1 $((70 + boots))
echo $boots >/tmp/count
dd if=/tmp/count of=/tmp/block bs=4096 conv=sync 2>/dev/null
dd if=/tmp/block of=$disk bs=4096 seek=511 count=1 oflag=direct 2>/dev/null
echo "boot number $boots, domain $(cat /sys/block/nvme0n1/device/device/iommu_group/type)"
if [ $boots -gt RESETS ]; then exit 0; fi
dd if=$disk of=/dev/null bs=1M skip=4 count=64 iflag=direct 2>/dev/null &
dd if=/dev/zero of=$disk bs=64k seek=2048 count=1024 oflag=direct 2>/dev/null &
case $((boots % 2)) in
0) way=acpi ;;
1) way=kbd ;;
esac
echo $way >/sys/kernel/reboot/type
echo 1 >/proc/sys/kernel/sysrq
echo b >/proc/sysrq-trigger
sleep 100
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let clear = "dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=2 oflag=direct 2>/dev/null";
    lab.sh("clear", clear)?.expect_status(0)?;
    let address = HostDevice::Nvme.take(lab)?;
    let script = SCRIPT.replace("RESETS", &RESETS.to_string());
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--vfio", &address, "--log", "info"])
        .args(&RESULT);
    let ended = lab.remora("guest", &remora)?;
    let result = expect_ending(lab, &ended, 0, "poweroff", "the guest powered off")?;
    if result["unit"]["faults"] != 0 {
        bail!("the unit blocked something: {result}");
    }
    for boot in 1..=RESETS + 1 {
        ended.expect(&format!("boot number {boot}, domain DMA\n"))?;
    }
    for line in UNIT_TAKEN_OVER {
        let found = ended.stdout.matches(line).count();
        if found != RESETS + 1 {
            bail!("'{line}' was said {found} times");
        }
    }
    HostDevice::Nvme.give_back(lab)?;
    let check = format!(
        "guest-tools blkcheck verify /dev/nvme0n1 1 {}",
        70 + RESETS + 1
    );
    lab.sh("check", &check)?.expect_status(0)?;
    Ok(Verdict::Pass)
}
