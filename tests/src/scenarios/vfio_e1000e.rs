// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A network card of L1 passed through: its driver in the guest moves checked data by MSI-X, while the guest moves the vectors
//! between its processors, and once more by the pin.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::qemu::PEER_MAC;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-e1000e",
    about: "L1's e1000e passed through: TCP both ways, checksummed at both ends, by MSI-X vectors that move meanwhile, and by the pin",
    limit: Duration::from_secs(500),
    run,
};

/// Moves every vector from processor to processor until it is told to stop, each time by another interrupt entry.
const SCRIPT: &str = r#"
set -e
device=$(readlink -f /sys/class/net/eth0/device)
echo "domain $(cat $device/iommu_group/type)"
ip link set eth0 up
ip address add 10.78.0.2/24 dev eth0
while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do usleep 100000; done
vectors=$(ls $device/msi_irqs 2>/dev/null || true)
echo "vectors" $(echo $vectors | wc -w)
moves=0
(
    while [ ! -e /tmp/done ]; do
        for cpu in 1 2; do
            for vector in $vectors; do echo $cpu >/proc/irq/$vector/smp_affinity; done
            usleep 50000
        done
        moves=$((moves + 2))
    done
    echo "moved $moves times"
) &
mover=$!
ping -c 3 -W 5 10.78.0.1
echo "the net is up"
guest-tools netcheck receive 5001 SIZE 61
guest-tools netcheck send 10.78.0.1:5002 SIZE 62
touch /tmp/done
wait $mover
grep eth0 /proc/interrupts
"#;

const PEER: &str = r"
set -e
name=$(basename $(dirname $(grep -l MAC /sys/class/net/*/address)))
ip address flush dev $name
ip address add 10.78.0.1/24 dev $name
ip link set $name up
ping -c 3 -W 5 10.78.0.2
guest-tools netcheck send 10.78.0.2:5001 SIZE 61
guest-tools netcheck receive 5002 SIZE 62
";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let address = HostDevice::E1000e.take(lab)?;
    let console = traffic(lab, "msix", &address, 4, "")?;
    console.forbid("vectors 0")?;
    expect_interrupt(&console, "IR-PCI-MSIX")?;
    // Each move of a vector is an invalidation of its entry.
    Report::read(lab, "msix.json")?
        .expect_untroubled()?
        .expect_at_least("interrupt_invalidations", 20)?;
    let console = traffic(lab, "pin", &address, 1, " e1000e.IntMode=0")?;
    console.expect("vectors 0")?;
    expect_interrupt(&console, "IO-APIC")?;
    Report::read(lab, "pin.json")?.expect_untroubled()?;
    HostDevice::E1000e.give_back(lab)?;
    Ok(Verdict::Pass)
}

/// A guest and L1 send each other so many MiB.
fn traffic(
    lab: &mut Lab<'_>,
    name: &str,
    address: &str,
    size: usize,
    words: &str,
) -> Result<Ended> {
    let sized = |script: &str| script.replace("SIZE", &size.to_string());
    let guest =
        Guest::script(&sized(SCRIPT)).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd(name, &guest)?;
    let machine = lab.start_remora(name, &boot(lab, &initrd, name, address, words))?;
    lab.wait_for(&machine, "vectors ")?;
    let peer = sized(&PEER.replace("MAC", PEER_MAC));
    let peer = lab.sh(&format!("{name}-peer"), &peer)?;
    let console = lab.wait(&machine)?;
    peer.expect_status(0)?;
    guest_did_well(&console)?;
    console.expect("domain DMA")?;
    let (ours, theirs) = (sums(&peer), sums(&console));
    if ours.len() != 2 || ours != theirs {
        bail!("checksums differ: L1 has {ours:?}, the guest {theirs:?}");
    }
    Ok(console)
}

fn boot(lab: &Lab<'_>, initrd: &Path, name: &str, address: &str, words: &str) -> Remora {
    Remora::boot(&lab.kernel().bzimage)
        .initrd(initrd)
        .cmdline(&format!("console=ttyS0{words}"))
        .args(&["--cpus", "2", "--vfio", address])
        .args(&["--result", &format!("{name}.json"), "--log", "info"])
}

fn sums(ended: &Ended) -> Vec<String> {
    let lines = ended.stdout.lines();
    let mut sums: Vec<_> = lines
        .filter_map(|line| Some(line.split_once("NETCHECK ok ")?.1.to_owned()))
        .collect();
    sums.sort();
    sums
}

/// Fails unless the card's interrupts came by `chip`.
fn expect_interrupt(console: &Ended, chip: &str) -> Result<()> {
    let mut lines = console.stdout.lines();
    if !lines.any(|line| line.contains("eth0") && line.contains(chip)) {
        bail!("no interrupt of the card came by {chip}");
    }
    Ok(())
}
