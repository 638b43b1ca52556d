// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Three levels: L3 binds and unbinds PASIDs in random order from several processors. What is bound when it rests stands so in the
//! tables of L2's kernel, and when nothing is bound any more nothing of it is left there.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::soak;
use crate::three_levels::{Outcome, ThreeLevels, Turn, passed_through};

pub const FIRST_STAGE: Scenario = Scenario {
    name: "pasid-churn",
    about: "three levels: 1,000 binds and unbinds from several processors; L2's tables equal L3's, and nothing is left at the end",
    limit: Duration::from_secs(600),
    run: |lab| run(lab, "mode=scalable"),
};

pub const SECOND_STAGE: Scenario = Scenario {
    name: "pasid-churn-second-stage",
    about: "three levels: the same with second-stage tables, which are copied and compared page by page",
    limit: Duration::from_secs(600),
    run: |lab| run(lab, "mode=scalable,stages=second"),
};

/// Binds and unbinds; ten times as many in a soak.
const ROUNDS: u64 = 1000;

/// What L2 counts: page-table pages of its kernel's, which adds up what each processor has counted only when it is asked to, and
/// what the inner Remora says.
const COUNT: &str =
    "cat /proc/sys/vm/stat_refresh; grep ^nr_iommu_pages /proc/vmstat; ctl stats --json";
/// What L2 compares.
const COMPARE: &str =
    "host-tools bindings $(pidof remora) $bdf /tmp/console /tmp/console | tail -n 1";

fn run(lab: &mut Lab<'_>, iommu: &str) -> Result<Verdict> {
    let rounds = soak::times(ROUNDS);
    let seed = soak::seed();
    println!("{rounds} binds and unbinds, seed {seed}");
    let turn = |at, does| Turn {
        at,
        does,
        says: "on",
    };
    let levels = ThreeLevels {
        iommu,
        passed: "--vfio $bdf --cpus 2",
        log: "vmm=debug",
        script: &format!("guest-tools dmatest churn {rounds} {seed}"),
        turns: &[
            turn("begin", COUNT),
            turn("rest", COMPARE),
            turn("end", COUNT),
        ],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    println!("{}", outcome.said("churn")?);
    let compared = outcome.turns("rest");
    if !compared.iter().any(|line| line.starts_with("BINDINGS ok ")) {
        bail!("L2's tables are not L3's: {compared:?}");
    }
    if outcome.host_faults() == 0 {
        bail!("L2's kernel logged none of what was refused");
    }
    if outcome.faults() != 0 {
        bail!("the inner guest was given faults: {}", outcome.result);
    }
    let (begin, end) = (Counts::of(&outcome, "begin")?, Counts::of(&outcome, "end")?);
    if begin != end {
        bail!("{begin:?} at the beginning, {end:?} at the end");
    }
    println!("{end:?}");
    Ok(Verdict::Pass)
}

/// What there is when nothing is bound.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    /// Pages of all page tables of L2's kernel's, by its own account.
    pages: u64,
    /// Tables that the inner Remora has of L2's kernel, by what each holds: HWPTs, and IOASes where they are copies.
    tables: Vec<String>,
    /// Those that it made and did not destroy.
    made: u64,
    /// Endpoints that are attached.
    attached: Vec<String>,
}

impl Counts {
    fn of(outcome: &Outcome, place: &str) -> Result<Self> {
        let said = outcome.turns(place);
        let said = said
            .first()
            .with_context(|| format!("no turn at {place}"))?;
        let (pages, stats) = said.split_once('{').context("no JSON")?;
        let pages = pages.split_whitespace().nth(1).unwrap_or_default();
        let mirror = passed_through(&format!("{{{stats}"))?;
        let calls = &mirror["totals"]["calls"];
        let number = |name: &str| {
            calls[name]
                .as_u64()
                .with_context(|| format!("no {name} in {calls}"))
        };
        if mirror["totals"]["refusals"] != Value::Array(Vec::new()) {
            bail!("L2's kernel refused something: {}", mirror["totals"]);
        }
        let list = |name: &str, shown: &dyn Fn(&Value) -> Option<String>| {
            let list = mirror[name]
                .as_array()
                .with_context(|| format!("no {name}"))?;
            Ok::<_, anyhow::Error>(list.iter().filter_map(shown).collect())
        };
        Ok(Self {
            pages: pages.parse().context("the number of pages")?,
            tables: list("domains", &|domain| Some(domain["holds"].to_string()))?,
            made: number("create")? - number("destroy")?,
            attached: list("devices", &|device| {
                let attached = !device["place"].is_null();
                attached.then(|| format!("{} {}", device["device"], device["pasid"]))
            })?,
        })
    }
}
