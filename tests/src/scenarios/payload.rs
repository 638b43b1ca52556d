// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bare-metal payload programs the unit directly; every one of its checks passes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use payload::Verdict as Checks;

use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const VTD: Scenario = Scenario {
    name: "payload-vtd",
    about: "a bare-metal guest checks registers, invalidation, translation, faults and remapped interrupts",
    limit: Duration::from_secs(180),
    run: |lab| run(lab, LEGACY),
};

pub const SCALABLE: Scenario = Scenario {
    name: "payload-scalable",
    about: "a bare-metal guest checks scalable mode: PASIDs, both stages, nesting, ATS, page requests, posted interrupts",
    limit: Duration::from_secs(300),
    run: |lab| run(lab, UNITS),
};

/// A way to build the unit, and what the payload does with it.
struct Run {
    name: &'static str,
    /// The value of `--iommu`.
    unit: &'static str,
    /// How many `dmatest` devices the machine has; the payload drives the last.
    dmatests: usize,
    /// The payload's command line.
    words: &'static str,
    /// How many checks there are at least: fewer mean that a group was lost.
    least: u32,
    /// How many checks are left out because the unit does not offer what they are about.
    skipped: u32,
}

const fn legacy(name: &'static str, unit: &'static str) -> Run {
    Run {
        name,
        unit,
        dmatests: 0,
        words: "",
        least: 300,
        skipped: 0,
    }
}

const fn scalable(name: &'static str, unit: &'static str, least: u32, skipped: u32) -> Run {
    Run {
        name,
        unit,
        dmatests: 1,
        words: "scalable",
        least,
        skipped,
    }
}

const LEGACY: &[Run] = &[
    legacy("default", "mode=legacy"),
    legacy("caching-mode", "mode=legacy,caching-mode=on"),
    legacy("39-bits", "mode=legacy,aw=39,records=1"),
];

const UNITS: &[Run] = &[
    Run {
        // So many that the last one is in the upper half of the bus.
        dmatests: 16,
        ..scalable("all", "mode=scalable,aw=57,posted=on", 850, 2)
    },
    scalable("first-stage", "mode=scalable,stages=first", 500, 8),
    scalable(
        "second-stage",
        "mode=scalable,stages=second,aw=39,caching-mode=on",
        450,
        11,
    ),
    scalable(
        "little",
        "mode=scalable,pasid-bits=8,pri=off,dirty=off,nesting=off,intremap=off,records=1",
        500,
        13,
    ),
    legacy("legacy-groups", "mode=scalable,aw=57,posted=on"),
];

fn run(lab: &mut Lab<'_>, runs: &[Run]) -> Result<Verdict> {
    let image = payload::build()?;
    for run in runs {
        // One processor and no more memory than it needs, as on a small machine.
        let remora = Remora::boot(&image)
            .args(&["--memory", "64M", "--edu", "--iommu", run.unit])
            .args(&vec!["--dmatest"; run.dmatests])
            .args(&["--timeout", "100"])
            .cmdline(run.words);
        let ended = lab.remora(run.name, &remora)?;
        judge(run, &ended.stdout).with_context(|| ended.stderr.clone())?;
        // The debug exit device's status for 0.
        ended
            .expect_status(1)?
            .expect_error("remora: debug-exit: ")?;
    }
    Ok(Verdict::Pass)
}

/// Fails unless the payload came to its end and every check passed.
fn judge(run: &Run, console: &str) -> Result<()> {
    let name = run.name;
    let checks = Checks::parse(console)
        .with_context(|| format!("{name}: the payload did not reach its end"))?;
    println!(
        "payload on {name}: {} passed, {} failed, {} skipped",
        checks.passed, checks.failed, checks.skipped
    );
    let skipped = console.lines().filter(|line| line.starts_with("SKIP:"));
    skipped.for_each(|line| println!("    {}", line.trim_end()));
    if !checks.good() {
        bail!(
            "{name}: {} checks failed\n{}",
            checks.failed,
            checks.failures.join("\n")
        );
    }
    if checks.passed < run.least {
        bail!("{name}: only {} of {} checks ran", checks.passed, run.least);
    }
    if checks.skipped != run.skipped {
        bail!(
            "{name}: {} checks were left out, not {}",
            checks.skipped,
            run.skipped
        );
    }
    Ok(())
}
