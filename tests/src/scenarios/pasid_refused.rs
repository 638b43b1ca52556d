// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L2's kernel refuses what the inner Remora asks of it for a PASID of L3: by an errno from outside, for an attachment, a table
//! and an invalidation, and because its PASIDs are few.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{Outcome, ThreeLevels, Turn, passed_through};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-host-refuses",
    about: "three levels: L2's kernel refuses a PASID: it is blocked with one fault, others live, and it is tried again",
    limit: Duration::from_secs(420),
    run,
};

/// VFIO_DEVICE_ATTACH_IOMMUFD_PT, IOMMU_HWPT_ALLOC, IOMMU_HWPT_INVALIDATE.
const UNDER: &str = "host-tools refuse by /tmp/refused 0x3b77,0x3b89,0x3b8d";

const EIO: u64 = 5;
const ENOMEM: u64 = 12;
const EBUSY: u64 = 16;

/// What the inner Remora says of it, and the end of it.
const HEAL: &str = "ctl stats --json; echo '|'; ctl dump passthrough --json; rm /tmp/refused";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = |at, does| Turn {
        at,
        does,
        says: "on",
    };
    let levels = ThreeLevels {
        devices: &["--dmatest=pasid-bits=10"],
        under: UNDER,
        script: "guest-tools dmatest blocked 10",
        turns: &[
            turn("attach", "echo '0x3b77 16' >/tmp/refused"),
            turn("attached again", HEAL),
            turn("table", "echo '0x3b89 12' >/tmp/refused"),
            turn("table again", HEAL),
            turn("invalidate", "echo '0x3b8d 5' >/tmp/refused"),
            turn("invalidate again", HEAL),
        ],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    outcome.said("blocked")?;
    outcome.refusals_are_logged(Some("0x59"))?;
    is_refused(&outcome, "attached again", 0x12, EBUSY)?;
    is_refused(&outcome, "table again", 0x13, ENOMEM)?;
    is_out_of_use(&outcome, 0x13)?;
    let reasons = &outcome.result["unit"]["faults_by_reason"];
    if (&reasons["0x5b"], &reasons["0x78"], outcome.faults()) != (&3.into(), &1.into(), 4) {
        bail!(
            "not one fault for each binding and table that was refused: {}",
            outcome.result
        );
    }
    Ok(Verdict::Pass)
}

/// `stats` and `dump` show this PASID, and no other, as refused for this reason.
fn is_refused(outcome: &Outcome, place: &str, pasid: u64, errno: u64) -> Result<()> {
    for report in reports(outcome, place)? {
        let refused = list(&report["devices"]).iter();
        let refused: Vec<&Value> = refused.filter(|e| !e["refused"].is_null()).collect();
        let is_it = |e: &&&Value| e["pasid"] == pasid && e["place"].is_null();
        if refused.iter().filter(is_it).count() != 1 || refused.len() != 1 {
            bail!("at {place}: {}", report["devices"]);
        }
        counted(&report, errno)?;
    }
    Ok(())
}

/// They show the table of this PASID as out of use.
fn is_out_of_use(outcome: &Outcome, pasid: u64) -> Result<()> {
    for report in reports(outcome, "invalidate again")? {
        let tables = list(&report["domains"]).iter();
        let blocked: Vec<&Value> = tables
            .filter(|table| table["blocked"] == "unclean")
            .collect();
        let [table] = blocked[..] else {
            bail!("not one table out of use: {}", report["domains"]);
        };
        let [member] = list(&table["members"]) else {
            bail!("not one member: {table}");
        };
        if member["pasid"] != pasid {
            bail!("another table is out of use: {table}");
        }
        counted(&report, EIO)?;
    }
    Ok(())
}

fn counted(report: &Value, errno: u64) -> Result<()> {
    let refusals = &report["totals"]["refusals"];
    if list(refusals).iter().any(|found| found["errno"] == errno) {
        return Ok(());
    }
    bail!("the error {errno} is not counted: {refusals}")
}

/// The mirror's report, from `stats` and from `dump`.
fn reports(outcome: &Outcome, place: &str) -> Result<[Value; 2]> {
    let turns = outcome.turns(place);
    let (stats, dump) = turns
        .first()
        .and_then(|turn| turn.split_once('|'))
        .with_context(|| format!("L2 saw nothing at {place}"))?;
    let dump = passed_through(dump)?;
    Ok([passed_through(stats)?, dump["report"].clone()])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
