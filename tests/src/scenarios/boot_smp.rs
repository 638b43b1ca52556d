// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Four processors are online, and remapped interrupts arrive on each: message-signalled ones and the IOAPIC's.

use std::time::Duration;

use anyhow::Result;

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "boot-smp",
    about: "four vCPUs are online, and MSI-X and IOAPIC interrupts arrive on whichever they are sent to",
    limit: Duration::from_secs(60),
    run,
};

/// Sends an interrupt to each processor in turn and lets it fire; `KIND on CPU n: before after` in each case. The entropy
/// device's interrupt has an affinity that may be set; the disk has a queue and a vector for each processor.
const SCRIPT: &str = r#"
set -e
echo "online $(cat /sys/devices/system/cpu/online)"
count() { awk -v label="$1:" -v column=$(($2 + 2)) '$1 == label { print $column }' /proc/interrupts; }
number() { awk -v name="$1" '$NF == name { sub(":", "", $1); print $1 }' /proc/interrupts; }
report() { echo "$1 on CPU $2: $3 $4"; [ "$4" -gt "$3" ]; }
serial=$(number ttyS0)
entropy=$(number virtio1-input)
for cpu in 0 1 2 3; do
    mask=$((1 << cpu))
    before=$(count "$entropy" $cpu)
    echo $mask >/proc/irq/$entropy/smp_affinity
    dd if=/dev/hwrng of=/dev/null bs=512 count=8 2>/dev/null
    report entropy $cpu $before $(count "$entropy" $cpu)

    before=$(count "$serial" $cpu)
    echo $mask >/proc/irq/$serial/smp_affinity
    for line in 1 2 3 4 5 6 7 8; do echo "a line of text that the serial port asks for in more than one piece"; done
    sleep 0.3
    report serial $cpu $before $(count "$serial" $cpu)

    sum() { awk -v column=$((cpu + 2)) '/virtio0-req/ { n += $column } END { print n }' /proc/interrupts; }
    before=$(sum)
    taskset $mask dd if=/dev/vda of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null
    report disk $cpu $before $(sum)
done
cat /proc/interrupts
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    lab.sh("disk", "truncate -s 4M /tmp/disk.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--cpus", "4", "--rng", "--disk", "/tmp/disk.img,queues=4"])
        .args(&["--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    console.expect("online 0-3")?;
    for cpu in 0..4 {
        for kind in ["entropy", "serial", "disk"] {
            console.expect(&format!("{kind} on CPU {cpu}: "))?;
        }
    }
    // Each move rewrites an interrupt entry, which the unit is told of.
    Report::read(lab, "result.json")?
        .expect_untroubled()?
        .expect_at_least("interrupts", 100)?
        .expect_at_least("interrupt_invalidations", 8)?;
    Ok(Verdict::Pass)
}
