// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! iommufd in the guest nests first-stage tables of a program over a parent.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::dmatest::{Run, said};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "guest-nested",
    about: "a program in the guest writes first-stage tables over a nesting parent: dmatest obeys both, and invalidations",
    limit: Duration::from_secs(120),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let run = Run {
        name: "guest",
        iommu: "mode=scalable,stages=both,nesting=on,pasid-bits=20",
        machine: &["--dmatest"],
        uses: &["nested"],
    };
    let (console, _) = run.boot(lab)?;
    // An invalidation proves something only if there was an old translation to be used.
    if said(&console, "nested")?.contains(" 0 old translations used") {
        bail!("the unit kept no translation, so no invalidation was put to the test");
    }
    Ok(Verdict::Pass)
}
