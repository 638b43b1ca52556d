// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! iommufd in the guest reads dirty bitmaps that match what dmatest wrote.

use std::time::Duration;

use anyhow::Result;

use crate::dmatest::Run;
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "dirty-tracking",
    about: "iommufd in the guest reads dirty bitmaps that match what dmatest wrote, page by page",
    limit: Duration::from_secs(120),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = Run {
        name: "guest",
        iommu: "mode=scalable,stages=second,dirty=on",
        machine: &["--dmatest"],
        uses: &["dirty"],
    };
    run.boot(lab)?;
    Ok(Verdict::Pass)
}
