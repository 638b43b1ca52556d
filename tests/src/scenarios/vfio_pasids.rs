// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs bound on a host that nests: L2 is a Linux whose unit, Remora's, has two stages and PASIDs, and L2's kernel is what
//! our backend drives with dmatest.

use std::time::Duration;

use anyhow::Result;

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "vfio-pasids",
    about: "a guest's PASIDs on L2's real iommufd: either stage and both, 256 PASIDs, moves under DMA, churn, page requests",
    limit: Duration::from_secs(240),
    run,
};

const SCRIPT: &str = r"
set -e
device=$(dirname $(grep -l 0xd7a7 /sys/bus/pci/devices/*/device))
bdf=${device##*/}
echo vfio-pci >$device/driver_override
echo $bdf >/sys/bus/pci/drivers/vfio-pci/bind
host-tools pasids $bdf 1000
echo $bdf >/sys/bus/pci/drivers/vfio-pci/unbind
";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let tools = lab.binaries().host_tools.clone();
    let guest = Guest::script(SCRIPT).file("bin/host-tools", &tools);
    let initrd = lab.initrd("pasids", &guest)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--memory", "512M", "--dmatest", "--result", "result.json"])
        .args(&[
            "--iommu",
            "mode=scalable,stages=both,nesting=on,pasid-bits=16",
        ])
        .allow("DMAR: DRHD: handling fault status reg ")
        .allow("Request device [");
    let console = lab.remora("pasids", &remora)?;
    guest_did_well(&console)?;
    console.expect("PASIDS ok")?;
    let report = Report::read(lab, "result.json")?;
    report.expect_at_least("translations", 1000)?;
    Ok(Verdict::Pass)
}
