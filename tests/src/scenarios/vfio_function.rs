// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest would see of L1's NVMe and edu, on their real VFIO files: configuration space, BARs, every kind of interrupt,
//! resets.

use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-function",
    about: "NVMe and edu as passed-through functions: configuration, BARs, MSI-X, MSI and INTx through the real VFIO",
    limit: Duration::from_secs(120),
    run,
};

/// Takes both devices from their drivers, and gives them back.
const SCRIPT: &str = r#"
set -e
edu=$(dirname "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)")
nvme=$(dirname "$(grep -l 0x010802 /sys/bus/pci/devices/*/class)")
pci=/sys/bus/pci
back() {
    for device in $nvme $edu; do
        echo ${device##*/} >$pci/drivers/vfio-pci/unbind
        echo >$device/driver_override
    done
    echo ${nvme##*/} >$pci/drivers/nvme/bind
}
echo ${nvme##*/} >$pci/drivers/nvme/unbind
for device in $nvme $edu; do
    echo vfio-pci >$device/driver_override
    echo ${device##*/} >$pci/drivers/vfio-pci/bind
done
trap back EXIT
$tools function ${nvme##*/} ${edu##*/}
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let tools = in_l1(&lab.binaries().host_tools);
    let script = format!("tools='{tools}'\n{SCRIPT}");
    lab.sh("function", &script)?
        .expect_status(0)?
        .expect("FUNCTION ok")?;
    Ok(Verdict::Pass)
}
