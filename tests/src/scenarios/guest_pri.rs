// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests of dmatest reach fault queues of iommufd in the guest, and the device acts on the answers.

use std::time::Duration;

use anyhow::Result;

use crate::dmatest::Run;
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "guest-pri",
    about: "page requests of dmatest are read from iommufd's fault queues in the guest and answered, with and without PASID",
    limit: Duration::from_secs(120),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = Run {
        name: "guest",
        iommu: "mode=scalable,stages=both,nesting=on,pasid-bits=20,pri=on",
        machine: &["--dmatest"],
        uses: &["ats first", "pri first"],
    };
    run.boot(lab)?;
    Ok(Verdict::Pass)
}
