// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that resets starts again in place, with the disk it left, and takes the unit over anew each time.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::ending::{RESULT, expect_ending};
use crate::evidence::UNIT_TAKEN_OVER;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "reboot",
    about: "a guest resets twice in place, by ACPI and by the keyboard controller; --no-reboot ends the run instead",
    limit: Duration::from_secs(240),
    run,
};

/// Counts its boots in the disk's first block; the first two end by a reset, each in another way.
const SCRIPT: &str = r#"
set -e
boots=$(dd if=/dev/vda bs=4096 count=1 iflag=direct 2>/dev/null | tr -d '\0')
boots=$((${boots:-0} + 1))
echo $boots >/tmp/count
dd if=/tmp/count of=/tmp/block bs=4096 conv=sync 2>/dev/null
dd if=/tmp/block of=/dev/vda bs=4096 count=1 oflag=direct 2>/dev/null
echo "boot number $boots"
case $boots in
1) way=acpi ;;
2) way=kbd ;;
*) exit 0 ;;
esac
echo $way >/sys/kernel/reboot/type
echo "leaving by $(cat /sys/kernel/reboot/type)"
reboot -f
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    lab.sh("disk", "truncate -s 1M /tmp/disk.img")?
        .expect_status(0)?;
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--cpus", "2", "--rng", "--disk", "/tmp/disk.img"])
        .args(&RESULT);
    // One process from the first boot to the last: its status is the last one's.
    let ended = lab.remora("in-place", &boot)?;
    let result = expect_ending(lab, &ended, 0, "poweroff", "the guest powered off")?;
    if result["unit"]["faults"] != 0 {
        bail!("the unit blocked something: {result}");
    }
    came_up(&ended, 3)?;
    for line in [
        "boot number 1",
        "leaving by acpi",
        "boot number 2",
        "leaving by kbd",
        "boot number 3",
    ] {
        ended.expect(line)?;
    }

    lab.sh("new-disk", "rm /tmp/disk.img; truncate -s 1M /tmp/disk.img")?
        .expect_status(0)?;
    let ended = lab.remora("no-reboot", &boot.args(&["--no-reboot"]))?;
    expect_ending(lab, &ended, 0, "reset", "--no-reboot")?;
    came_up(&ended, 1)?;
    Ok(Verdict::Pass)
}

/// Fails unless the kernel came up and took the unit over so many times.
fn came_up(console: &Ended, times: usize) -> Result<()> {
    let begin = ["Linux version "];
    for line in begin.iter().chain(UNIT_TAKEN_OVER) {
        let found = console.stdout.matches(line).count();
        if found != times {
            bail!("'{line}' was said {found} times, not {times}");
        }
    }
    Ok(())
}
