// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A network card behind the unit, on a tap of L1: ping and TCP in both directions, checked at both ends.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "dma-net",
    about: "ping and 32 MiB over TCP each way through the unit, on a tap, checksummed at both ends",
    limit: Duration::from_secs(120),
    run,
};

const SCRIPT: &str = r#"
set -e
echo "domain $(cat /sys/class/net/eth0/device/../iommu_group/type)"
ip link set eth0 up
ip address add 10.77.0.2/24 dev eth0
ping -c 3 -W 5 10.77.0.1
ping -c 3 -W 5 -s 5000 10.77.0.1
echo "the net is up"
guest-tools netcheck receive 5001 32 21
guest-tools netcheck send 10.77.0.1:5002 32 22
"#;

const TAP: &str = "
set -e
tunctl -t remora0
ip address add 10.77.0.1/24 dev remora0
ip link set remora0 up
";

const PEER: &str = r"
set -e
ping -c 3 -W 5 10.77.0.2
ping -c 3 -W 5 -s 5000 10.77.0.2
guest-tools netcheck send 10.77.0.2:5001 32 21
guest-tools netcheck receive 5002 32 22
";

/// Full-sized frames in 32 MiB: a lower bound of the packets, as none is longer without offloads.
const FRAMES: u64 = (32 << 20) / 1500;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let guest = Guest::script(SCRIPT).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    lab.sh("tap", TAP)?.expect_status(0)?;
    let result = traffic(lab, &initrd);
    lab.sh("no-tap", "tunctl -d remora0")?.expect_status(0)?;
    result
}

fn traffic(lab: &mut Lab<'_>, initrd: &std::path::Path) -> Result<Verdict> {
    let remora = Remora::boot(&lab.kernel().bzimage).initrd(initrd).args(&[
        "--net",
        "tap=remora0",
        "--result",
        "result.json",
    ]);
    let machine = lab.start_remora("guest", &remora)?;
    lab.wait_for(&machine, "the net is up")?;
    let peer = lab.sh("peer", PEER)?;
    let console = lab.wait(&machine)?;
    peer.expect_status(0)?;
    guest_did_well(&console)?;
    console.expect("domain DMA")?;
    let (ours, theirs) = (sums(&peer), sums(&console));
    if ours.len() != 2 || ours != theirs {
        bail!("checksums differ: L1 has {ours:?}, the guest {theirs:?}");
    }
    for end in [&peer, &console] {
        let answers = end.stdout.matches("3 packets received, 0% packet loss");
        if answers.count() != 2 {
            bail!("some pings were not answered:\n{}", end.stdout);
        }
    }
    Report::read(lab, "result.json")?
        .expect_untroubled()?
        .expect_at_least("translations", 2 * FRAMES)?;
    Ok(Verdict::Pass)
}

/// Each end's sums in the order of the transfers.
fn sums(end: &Ended) -> Vec<&str> {
    let lines = end.stdout.lines();
    lines
        .filter_map(|line| line.strip_prefix("NETCHECK ok "))
        .collect()
}
