// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! iommufd in the guest gives each of many PASIDs of dmatest an address space of its own.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::dmatest::{Run, said};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "guest-pasid",
    about: "iommufd in the guest attaches 66 address spaces to PASIDs of dmatest; each leads to its own memory",
    limit: Duration::from_secs(120),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    for (name, stages, mode) in [("second", "second", "second"), ("first", "first", "first")] {
        let run = Run {
            name,
            iommu: &format!("mode=scalable,stages={stages},pasid-bits=20"),
            machine: &["--dmatest"],
            uses: &[&format!("pasid {mode}")],
        };
        let (console, _) = run.boot(lab)?;
        let said = said(&console, "pasid")?;
        if !said.starts_with("66 PASIDs, ") {
            bail!("not all PASIDs were attached: {said}");
        }
    }
    Ok(Verdict::Pass)
}
