// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Several remapping units: each translates, remaps, invalidates and faults for the devices that are its own, and for no other.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well_saying, registers};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::traffic::{LEAST_FRAMES, LEAST_REQUESTS, Traffic};

pub const SCENARIO: Scenario = Scenario {
    name: "two-units",
    about: "a disk behind one unit and a network card behind another; with three, faults land in the right one, also after a reset",
    limit: Duration::from_secs(300),
    run,
};

/// The units come to the kernel in the order of the table: the one for everything else is the last.
const TWO_TAKEN_OVER: &[&str] = &[
    "DMAR: DRHD base: 0x000000fed91000 flags: 0x0",
    "DMAR: dmar0: reg_base_addr fed91000 ver ",
    "DMAR: DRHD base: 0x000000fed90000 flags: 0x1",
    "DMAR: dmar1: reg_base_addr fed90000 ver ",
    "DMAR-IR: IOAPIC id 0 under DRHD base  0xfed90000 IOMMU 1",
    "DMAR-IR: Enabled IRQ remapping in x2apic mode",
    "DMAR: dmar0: Using Queued invalidation",
    "DMAR: dmar1: Using Queued invalidation",
];

const THREE_TAKEN_OVER: &[&str] = &[
    "DMAR: dmar0: reg_base_addr fed91000 ver ",
    "DMAR: dmar1: reg_base_addr fed92000 ver ",
    "DMAR: dmar2: reg_base_addr fed90000 ver ",
    "DMAR-IR: IOAPIC id 0 under DRHD base  0xfed90000 IOMMU 2",
    "DMAR-IR: Enabled IRQ remapping in x2apic mode",
    "DMAR: dmar2: Using Queued invalidation",
];

/// Which unit the kernel thinks each device is behind, that it lets dmatest cache translations and use PASIDs below its port,
/// and that it takes no two devices for peers.
const WHOSE: &str = r#"
for device in /sys/block/vda/device /sys/class/net/eth0/device; do
    pci=$(dirname $(readlink -f $device))
    echo "$(cat $pci/class) is behind $(basename $(readlink -f $pci/iommu)) in a domain of type $(cat $pci/iommu_group/type)"
done
dmatest=$(dirname "$(grep -l 0xd7a7 /sys/bus/pci/devices/*/device)")
word() { hexdump -s $1 -n 2 -e '1/2 "%04x"' $dmatest/config; }
echo "dmatest is ${dmatest##*/} behind $(basename $(readlink -f $dmatest/iommu))"
echo "dmatest has ATS control $(word 0x106), PASID control $(word 0x11e)"
echo "$(ls /sys/kernel/iommu_groups | wc -l) groups of $(ls /sys/bus/pci/devices | wc -l) devices"
"#;

/// Has edu on the root bus and dmatest below the first port read 64 bytes where nothing is mapped, then resets once. The disk,
/// below the second port, remembers which boot it is.
const FAULTS: &str = r#"
set -e
boots=$(dd if=/dev/vda bs=4096 count=1 iflag=direct 2>/dev/null | tr -d '\0')
boots=$((${boots:-0} + 1))
echo $boots >/tmp/count
dd if=/tmp/count of=/tmp/block bs=4096 conv=sync 2>/dev/null
dd if=/tmp/block of=/dev/vda bs=4096 count=1 oflag=direct 2>/dev/null
base_of() {
    device=$(dirname "$(grep -l $1 /sys/bus/pci/devices/*/device)")
    echo 1 >"$device/enable"
    printf '\006' | dd of="$device/config" bs=1 seek=4 conv=notrunc 2>/dev/null
    base=$(awk 'NR == 1 { print $1 }' "$device/resource")
    echo "boot $boots: $1 is ${device##*/} behind $(basename $(readlink -f $device/iommu))"
}
register() { devmem $(printf '0x%x' $((base + $1))) 32 $2; }
base_of 0x11e8
register 0x80 0x0bad1000
register 0x88 0x40000
register 0x90 64
register 0x98 1
while [ $(($(register 0x98) & 1)) = 1 ]; do :; done
base_of 0xd7a7
register 0x1000 5
register 0x1008 0x0bad2000
register 0x1020 64
register 0x24 1
while [ $(($(register 0x1030))) = 0 ]; do :; done
echo "boot $boots: dmatest says $(register 0x1030)"
[ $boots = 1 ] && reboot -f
echo "both boots are over"
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    shared_traffic(lab).context("with two units")?;
    faults_of_each(lab).context("with three units")?;
    Ok(Verdict::Pass)
}

fn shared_traffic(lab: &mut Lab<'_>) -> Result<()> {
    let traffic = Traffic {
        name: "two",
        cmdline: "",
        args: &[
            "--iommu",
            "mode=scalable,units=2",
            "--root-port",
            "id=a",
            "--root-port",
            "id=b",
            "--dmatest=bus=b",
        ],
        disk_port: "a",
        net_port: "",
        script: WHOSE,
        taken_over: TWO_TAKEN_OVER,
    };
    let (console, report) = traffic.run(lab)?;
    console
        .expect("0x018000 is behind dmar0 in a domain of type DMA")?
        .expect("0x020000 is behind dmar1 in a domain of type DMA")?
        .expect("DMAR: ATSR flags: 0x1")?
        .expect("dmatest is 0000:02:00.0 behind dmar0")?
        .expect("dmatest has ATS control 8000, PASID control 0007")?
        .expect("6 groups of 6 devices")?;
    if registers(&console, 0)? != registers(&console, 1)? {
        bail!("the units do not offer the same");
    }
    for (unit, least) in [(0, LEAST_FRAMES), (1, LEAST_REQUESTS)] {
        let report = report.of_unit(unit)?;
        for (name, least) in [
            ("translations", least),
            ("first_stage_walks", least / 10),
            ("interrupts", 100),
            ("pasid_iotlb_invalidations", 1),
            ("interrupt_invalidations", 1),
            ("waits", 10),
        ] {
            report.expect_at_least(name, least)?;
        }
    }
    Ok(())
}

fn faults_of_each(lab: &mut Lab<'_>) -> Result<()> {
    let initrd = lab.initrd("three", &Guest::script(FAULTS))?;
    lab.sh("disk", "truncate -s 1M /tmp/disk.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--iommu", "units=3", "--edu", "--dmatest=bus=a"])
        .args(&["--root-port", "id=a", "--root-port", "id=b"])
        .args(&["--disk", "/tmp/disk.img,bus=b", "--result", "three.json"])
        .allow("DMAR: DRHD: handling fault status reg 2")
        .allow("fault addr 0xbad1000 [fault reason 0x06]")
        .allow("fault addr 0xbad2000 [fault reason 0x06]");
    let console = lab.remora("three", &remora)?;
    guest_did_well_saying(&console, THREE_TAKEN_OVER)?;
    console.expect("both boots are over")?;
    for boot in 1..=2 {
        let edu = place(&console, boot, "0x11e8", "dmar2")?;
        let dmatest = place(&console, boot, "0xd7a7", "dmar0")?;
        console.expect(&format!("boot {boot}: dmatest says 0x00000006"))?;
        for (bdf, address) in [(edu, "0xbad1000"), (dmatest, "0xbad2000")] {
            let fault = format!(
                "DMAR: [DMA Read NO_PASID] Request device [{bdf}] fault addr {address} [fault reason 0x06]"
            );
            let count = console.stdout.matches(&fault).count();
            if count != 2 {
                bail!("'{fault}' was to be seen at each of 2 boots; seen {count} times");
            }
        }
    }
    let report = Report::read(lab, "three.json")?;
    for (unit, faults) in [(0, 2), (1, 2), (2, 0)] {
        let unit = report.of_unit(unit)?;
        if (unit.counter("faults")?, unit.faults("0x06")) != (faults, faults) {
            bail!("another unit recorded the faults: {report:?}");
        }
    }
    report
        .of_unit(2)?
        .expect_at_least("second_stage_walks", 4)?;
    Ok(())
}

/// Where the device stood at this boot; it must have been behind `unit`.
fn place<'a>(console: &'a Ended, boot: u32, id: &str, unit: &str) -> Result<&'a str> {
    let prefix = format!("boot {boot}: {id} is ");
    let line = console
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix(&prefix));
    let line = line.with_context(|| format!("the guest does not say where {id} is"))?;
    match line.split_once(" behind ") {
        Some((bdf, seen)) if seen.trim() == unit => Ok(bdf),
        _ => bail!("device {id} was to be behind {unit}: {line}"),
    }
}
