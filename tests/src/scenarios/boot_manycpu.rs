// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! More processors than eight bits can number: all start, and an interrupt arrives at the last, which only remapping in
//! x2APIC mode can do.

use std::time::Duration;

use anyhow::{Context, Result};
use payload::Verdict as Checks;

use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "boot-manycpu",
    about: "288 vCPUs start, and the one with APIC id 287 takes a remapped MSI",
    limit: Duration::from_secs(300),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let image = payload::build()?;
    let remora = Remora::boot(&image)
        .cmdline("manycpu")
        .args(&["--memory", "64M", "--edu", "--cpus", "288"])
        .args(&["--timeout", "240"]);
    let ended = lab.remora("boot", &remora)?;
    ended.expect("manycpu: 288 cpus, MSI on APIC id 287")?;
    let checks = Checks::parse(&ended.stdout).context("the payload did not reach its end")?;
    if !checks.good() {
        anyhow::bail!("checks failed\n{}", checks.failures.join("\n"));
    }
    ended
        .expect_status(1)?
        .expect_error("remora: debug-exit: ")?;
    Ok(Verdict::Pass)
}
