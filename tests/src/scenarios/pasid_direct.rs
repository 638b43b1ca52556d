// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L3's IOMMU in pass-through: the device of L1 reaches all of L3's RAM one to one and nothing else, before a program has it in
//! an address space and afterwards.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{ThreeLevels, Turn, passed_through};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-passthrough",
    about: "three levels: the device's entry says pass-through: L3's RAM is reached one to one, before and after a domain",
    limit: Duration::from_secs(420),
    run,
};

const SCRIPT: &str = "
cat /sys/kernel/iommu_groups/*/type | grep -v identity && exit 1
guest-tools dmatest direct
guest-tools dmatest iommufd passed
guest-tools dmatest direct
";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = Turn {
        at: "direct",
        does: "ctl stats --json",
        says: "on",
    };
    let levels = ThreeLevels {
        cmdline: "iommu=pt",
        script: SCRIPT,
        turns: &[turn, turn],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    if outcome.times("direct") != 2 {
        bail!("not direct at first and again at the end");
    }
    outcome.said("iommufd")?;
    outcome.refusals_are_logged(None)?;
    let looks = outcome.turns("direct");
    for look in &looks {
        let look = passed_through(look)?;
        let devices = look["devices"].as_array();
        let [device] = devices.context("no devices")?.as_slice() else {
            bail!("not one device: {look}");
        };
        if device["wants"] != "identity" || device["place"] != device["table"] {
            bail!("the device does not pass through: {device}");
        }
    }
    match (looks.len(), outcome.faults()) {
        (2, 0) => Ok(Verdict::Pass),
        _ => bail!("the inner guest was given faults: {}", outcome.result),
    }
}
