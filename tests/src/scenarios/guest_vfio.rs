// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A user program in the guest drives dmatest through VFIO, by each of its interfaces and in every mode of translation.

use std::time::Duration;

use anyhow::Result;

use crate::dmatest::Run;
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const TYPE1: Scenario = Scenario {
    name: "guest-vfio-type1",
    about: "a program in the guest moves 64 MiB with dmatest by VFIO's groups; what it unmapped is refused",
    limit: Duration::from_secs(180),
    run: |lab| every_mode(lab, "type1"),
};

pub const IOMMUFD: Scenario = Scenario {
    name: "guest-vfio-iommufd",
    about: "the same by VFIO's character devices and iommufd, with tables changed and taken away",
    limit: Duration::from_secs(180),
    run: |lab| every_mode(lab, "iommufd"),
};

/// Names of guests, what their units offer, and what the guest's kernel then translates with.
const MODES: &[(&str, &str, &str)] = &[
    ("legacy", "mode=legacy", "legacy"),
    ("second", "mode=scalable,stages=second", "second"),
    ("first", "mode=scalable,stages=first", "first"),
];

fn every_mode(lab: &mut Lab<'_>, interface: &str) -> Result<Verdict> {
    for (name, iommu, mode) in MODES {
        let run = Run {
            name,
            iommu,
            machine: &["--dmatest"],
            uses: &[&format!("{interface} {mode}")],
        };
        // Each page of the transfer is read and written.
        let (_, report) = run.boot(lab)?;
        report.expect_at_least("translations", 2 * (64 << 20) / 4096)?;
    }
    Ok(Verdict::Pass)
}
