// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device reads where the guest mapped nothing: the guest hears of it once, with all particulars, and goes on.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "edu-fault",
    about: "edu reads an unmapped address: one DMAR fault with its id, address and reason, and the guest goes on",
    limit: Duration::from_secs(60),
    run,
};

/// Has edu read 64 bytes at 0x0bad1000, an address of its 28 bits. No driver maps anything for it.
const SCRIPT: &str = r#"
set -e
device=$(dirname "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)")
echo "edu ${device##*/} domain $(cat "$device/iommu_group/type")"
echo 1 >"$device/enable"
printf '\006' | dd of="$device/config" bs=1 seek=4 conv=notrunc 2>/dev/null
base=$(awk 'NR == 1 { print $1 }' "$device/resource")
register() { devmem $(printf '0x%x' $((base + $1))) 32 $2; }
echo "edu is $(register 0)"
register 0x80 0x0bad1000
register 0x88 0x40000
register 0x90 64
register 0x98 1
while [ $(($(register 0x98) & 1)) = 1 ]; do :; done
guest-tools blkcheck random /dev/vda 4 41
echo "the guest goes on"
"#;

/// The line that is asked for, after the device's id.
const FAULT: &str = "fault addr 0xbad1000 [fault reason 0x06]";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let guest = Guest::script(SCRIPT).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    lab.sh("disk", "truncate -s 4M /tmp/disk.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--edu", "--disk", "/tmp/disk.img"])
        .args(&["--result", "result.json"])
        .allow("DMAR: DRHD: handling fault status reg 2")
        .allow(FAULT);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    console
        .expect("edu is 0x010000ED")?
        .expect("the guest goes on")?;
    let line = console
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("edu 0000:"));
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    let [edu, "domain", domain] = words[..] else {
        bail!("the guest does not say where edu is")
    };
    if !domain.starts_with("DMA") {
        bail!("edu is in a domain of type {domain}, which blocks nothing");
    }
    let wanted = format!("DMAR: [DMA Read NO_PASID] Request device [0000:{edu}] {FAULT}");
    let faults: Vec<&str> = console
        .stdout
        .lines()
        .filter(|line| line.contains("Request device"))
        .collect();
    match faults[..] {
        [fault] if fault.contains(&wanted) => {}
        _ => bail!("'{wanted}' was to be seen once; seen were {faults:?}"),
    }
    let sum = lab.sh("image", "guest-tools blkcheck verify /tmp/disk.img 4 41")?;
    sum.expect_status(0)?;
    console.expect(sum.stdout.lines().next().context("no checksum")?)?;
    let report = Report::read(lab, "result.json")?;
    if (report.counter("faults")?, report.faults("0x06")) != (1, 1) {
        bail!("the unit counted other faults than the guest: {report:?}");
    }
    Ok(Verdict::Pass)
}
