// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! dmatest under a root port: PASID, ATS and PRI work there as they do on the root bus.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::dmatest::Run;
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "below-a-port",
    about: "dmatest under a root port: PASIDs, cached translations, page requests and nesting work there",
    limit: Duration::from_secs(180),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = Run {
        name: "guest",
        iommu: "mode=scalable,stages=both,nesting=on,pasid-bits=20,pri=on",
        machine: &["--root-port", "id=p1", "--dmatest=bus=p1"],
        uses: &["pasid first", "ats first", "pri first", "nested"],
    };
    let (console, _) = run.boot(lab)?;
    // The first bus below the only port.
    if !console.stdout.contains("Request device [0000:01:00.0]") {
        bail!("dmatest is not below the port");
    }
    Ok(Verdict::Pass)
}
