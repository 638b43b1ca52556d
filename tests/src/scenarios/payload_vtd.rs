// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bare-metal payload programs the unit directly; every one of its checks passes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use payload::Verdict as Checks;

use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "payload-vtd",
    about: "a bare-metal guest checks registers, invalidation, translation, faults and remapped interrupts",
    limit: Duration::from_secs(180),
    run,
};

/// Ways to build the unit, and how many checks there are at least: fewer mean that a group was lost.
const UNITS: &[(&str, &str, u32)] = &[
    ("default", "mode=legacy", 300),
    ("caching-mode", "mode=legacy,caching-mode=on", 300),
    ("39-bits", "mode=legacy,aw=39,records=1", 300),
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    for &(name, unit, least) in UNITS {
        let image = payload::build()?;
        // One processor and no more memory than it needs, as on a small machine.
        let remora = Remora::boot(&image)
            .args(&["--memory", "64M", "--edu", "--iommu", unit])
            .args(&["--timeout", "100"]);
        let ended = lab.remora(name, &remora)?;
        let checks = Checks::parse(&ended.stdout).with_context(|| {
            format!(
                "{name}: the payload did not reach its end: {}",
                ended.stderr
            )
        })?;
        println!(
            "payload on {name}: {} passed, {} failed, {} skipped",
            checks.passed, checks.failed, checks.skipped
        );
        let skipped = ended
            .stdout
            .lines()
            .filter(|line| line.starts_with("SKIP:"));
        skipped.for_each(|line| println!("    {}", line.trim_end()));
        if !checks.good() {
            bail!(
                "{name}: {} checks failed\n{}",
                checks.failed,
                checks.failures.join("\n")
            );
        }
        if checks.passed < least {
            bail!("{name}: only {} of {least} checks ran", checks.passed);
        }
        // The debug exit device's status for 0.
        ended
            .expect_status(1)?
            .expect_error("remora: debug-exit: ")?;
    }
    Ok(Verdict::Pass)
}
