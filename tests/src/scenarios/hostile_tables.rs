// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables that refer to themselves, that are used again and again or lead nowhere, given to a passed-through NVMe by a bare-metal
//! guest: its domain is blocked, which is a fault, and a passed-through edu in another domain goes on. The machine then serves
//! an honest guest.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use payload::Verdict as Checks;

use crate::evidence::Report;
use crate::host_device::HostDevice;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "hostile-tables",
    about: "self-referring and aliased tables block their own domain, with a fault; the VM and the other device live",
    limit: Duration::from_secs(400),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let image = payload::build()?;
    let nvme = HostDevice::Nvme.take(lab)?;
    let edu = HostDevice::Edu.take(lab)?;
    for backend in ["iommufd", "type1"] {
        let result = format!("{backend}.json");
        let device = |address: &str| format!("{address},backend={backend}");
        let remora = Remora::boot(&image)
            .args(&["--memory", "64M", "--timeout", "150"])
            .args(&["--vfio", &device(&edu), "--vfio", &device(&nvme)])
            .args(&["--result", &result])
            .cmdline("hostile");
        let ended = lab.remora(backend, &remora)?;
        judge(&ended.stdout)
            .and_then(|()| refused(&Report::read(lab, &result)?))
            .with_context(|| format!("{backend}: {}{}", ended.stdout, ended.stderr))?;
        // The debug exit device's status for 0.
        ended
            .expect_status(1)?
            .expect_error("remora: debug-exit: ")?;
    }
    HostDevice::Edu.give_back(lab)?;
    HostDevice::Nvme.give_back(lab)?;
    Ok(Verdict::Pass)
}

/// Every check of the payload must have passed: three for each kind of table, one more where honest tables come before.
fn judge(console: &str) -> Result<()> {
    let checks = Checks::parse(console).context("the payload did not reach its end")?;
    if !checks.good() || checks.passed != 21 || checks.skipped != 0 {
        bail!(
            "{} of 21 checks passed\n{}",
            checks.passed,
            checks.failures.join("\n")
        );
    }
    Ok(())
}

/// The mirror says that tables cost too much, and nothing else was wrong.
fn refused(report: &Report) -> Result<()> {
    let mirror = report.passthrough()?;
    let refusals = mirror["refusals"].as_array().map(Vec::len);
    if mirror["over_budget"].as_u64() < Some(3) || refusals != Some(0) {
        bail!("not three domains beyond their budget and no refusal of the host's: {mirror}");
    }
    if report.counter("faults")? != 3 || report.faults("0x07") != 3 {
        bail!("not three faults: {report:?}");
    }
    Ok(())
}
