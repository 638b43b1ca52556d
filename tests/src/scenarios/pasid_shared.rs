// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two devices of L3 in one address space, by PASID and without: one nested table on L2, and what L3 unmaps is told L2's kernel
//! once.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{ThreeLevels, Turn, passed_through};

pub const SCENARIO: Scenario = Scenario {
    name: "two-devices-one-table",
    about: "three levels: two devices and their PASIDs in one address space of L3: one table on L2, one call for each unmapping",
    limit: Duration::from_secs(420),
    run,
};

/// Pages that L3 unmaps, one by one.
const UNMAPPED: u64 = 8;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = |at| Turn {
        at,
        does: "ctl stats --json",
        says: "on",
    };
    let levels = ThreeLevels {
        devices: &["--dmatest", "--dmatest"],
        script: "guest-tools dmatest shared",
        turns: &[turn("attached"), turn("unmapped"), turn("detached")],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    outcome.said("shared")?;
    let look = |place: &str| -> Result<Value> {
        let turns = outcome.turns(place);
        passed_through(turns.first().context("L2 saw nothing")?)
    };
    let (attached, unmapped) = (look("attached")?, look("unmapped")?);
    one_table_for_four(&attached)?;
    let calls = |look: &Value| look["totals"]["calls"]["invalidate"].as_u64();
    let made = calls(&unmapped).zip(calls(&attached));
    let made = made.context("no count of calls")?;
    if made.0 - made.1 != UNMAPPED {
        bail!("{made:?} calls for {UNMAPPED} pages that were unmapped");
    }
    let detached = look("detached")?;
    if !nested(&detached).is_empty() {
        bail!("tables are left over: {}", detached["domains"]);
    }
    match outcome.faults() {
        0 => Ok(Verdict::Pass),
        _ => bail!("the inner guest was given faults: {}", outcome.result),
    }
}

/// Both devices and their PASIDs go through the only nested table.
fn one_table_for_four(look: &Value) -> Result<()> {
    let [table] = nested(look)[..] else {
        bail!("not one nested table: {}", look["domains"]);
    };
    let places = look["devices"].as_array().context("no devices")?;
    let there = |endpoint: &&Value| endpoint["place"] == table["table"];
    let pasids = places
        .iter()
        .filter(there)
        .map(|endpoint| &endpoint["pasid"]);
    let mut pasids: Vec<Option<u64>> = pasids.map(Value::as_u64).collect();
    pasids.sort_unstable();
    if places.len() != 4 || pasids != [None, None, Some(0x55), Some(0x55)] {
        bail!("not two devices with a PASID each: {}", look["devices"]);
    }
    Ok(())
}

fn nested(look: &Value) -> Vec<&Value> {
    let tables = look["domains"].as_array().map_or(&[][..], Vec::as_slice);
    let is_nested = |table: &&Value| table["holds"]["kind"] == "first_stage";
    tables.iter().filter(is_nested).collect()
}
