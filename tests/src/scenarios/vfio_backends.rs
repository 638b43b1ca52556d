// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Both backends for host page tables against L1's real iommufd and real type1, with edu doing DMA; what L1's kernel shows
//! of its page tables decides.

use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-backends",
    about: "iommufd and type1 as the backends drive them: maps, exact errors, limits, and cuts under DMA without one fault",
    limit: Duration::from_secs(180),
    run,
};

/// Finds edu, gives it to vfio-pci, and runs every proof; the device is given back at the end.
const SCRIPT: &str = r#"
set -e
device=$(dirname "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)")
edu=${device##*/}
nvme=$(dirname "$(grep -l 0x010802 /sys/bus/pci/devices/*/class)")
limit=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
echo "nvme $($tools refusal ${nvme##*/})"
echo "edu before $($tools refusal $edu)"
echo vfio-pci >$device/driver_override
echo $edu >/sys/bus/pci/drivers/vfio-pci/bind
echo "edu after $($tools refusal $edu)"
back() {
    echo $edu >/sys/bus/pci/drivers/vfio-pci/unbind
    echo >$device/driver_override
    echo 65535 >$limit
}
trap back EXIT
$tools iommufd $edu
$tools type1 $edu
echo 8 >$limit
$tools type1-limit $edu 8
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let tools = in_l1(&lab.binaries().host_tools);
    let script = format!("tools='{tools}'\n{SCRIPT}");
    lab.sh("backends", &script)?
        .expect_status(0)?
        .expect("nvme refused: the host's driver nvme uses it")?
        .expect("edu before refused: it is not bound to vfio-pci")?
        .expect("edu after can be passed through")?
        .expect("IOMMUFD ok")?
        .expect("TYPE1 ok")?
        .expect("TYPE1-LIMIT ok")?;
    Ok(Verdict::Pass)
}
