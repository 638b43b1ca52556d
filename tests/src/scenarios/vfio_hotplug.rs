// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1's NVMe comes to a running guest by a hotplug slot, into an address space that has thousands of mappings, and goes again.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::mirrored::compare;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const REPLAY: Scenario = Scenario {
    name: "hotplug-replay",
    about: "a device comes when its domain has 3,072 mappings: the host has them page by page, by one call a run; then it goes",
    limit: Duration::from_secs(420),
    run,
};

/// Below L1's own /tmp: where its shared folder is, no socket can be.
const SOCKET: &str = "/tmp/hotplug-replay";

/// The program, then the guest's own way of letting the device go.
const SCRIPT: &str = r#"
set -e
guest-tools passed arrive
echo "LET GO"
while grep -q 0x0010 /sys/bus/pci/devices/*/device; do sleep 1; done
echo "GONE"
"#;

/// Host calls that map something besides: what the guest's kernel gives a device before a program has it.
const REST: u64 = 64;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let guest = Guest::script(SCRIPT).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let address = HostDevice::Nvme.take(lab)?;
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline("console=ttyS0 initcall_blacklist=nvme_init")
        .args(&["--root-port", "id=p0,hotplug", "--dmatest"])
        .args(&["--api-socket", SOCKET, "--result", "result.json"])
        .args(&["--log", "vmm=debug"]);
    let job = lab.start_remora("guest", &remora)?;
    lab.wait_for(&job, "MAPPED ")?;
    let program = in_l1(&lab.binaries().remora);
    let ctl = |words: &str| format!("{program} ctl --api-socket {SOCKET} {words}");
    let add = ctl(&format!("add-device vfio={address},id=disk,bus=p0"));
    lab.sh("add", &add)?.expect_status(0)?;
    let runs = compare(lab, &job, &address)?;
    lab.wait_for(&job, "LET GO")?;
    lab.sh("remove", &ctl("remove-device disk"))?
        .expect_status(0)?;
    let console = lab.wait(&job)?;
    guest_did_well(&console)?;
    console.expect("PASSED ok arrive: ")?.expect("GONE")?;
    let report = Report::read(lab, "result.json")?;
    report.expect_untroubled()?;
    let calls = report.passthrough()?["calls"]["map"].as_u64();
    println!("{calls:?} host calls mapped {runs} runs");
    if calls.is_none_or(|calls| calls > runs + REST) {
        bail!(
            "{calls:?} host calls map {runs} runs: {}",
            report.passthrough()?
        );
    }
    HostDevice::Nvme.give_back(lab)?;
    Ok(Verdict::Pass)
}
