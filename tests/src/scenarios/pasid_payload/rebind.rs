// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A PASID entry that changes while it and its neighbours are in use.

use anyhow::{Result, bail};

use super::{Calls, LIMIT, expect_bound, inside};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-rebind-under-dma",
    about: "three levels: a live PASID entry changes to another table, stage and back while seven other PASIDs do DMA without one error",
    limit: LIMIT,
    run: rebind,
};

fn rebind(lab: &mut Lab<'_>) -> Result<Verdict> {
    let outcome = inside("passed-rebind").boot(lab)?;
    let counted = outcome.result["unit"]["passthrough"]["replaced"].as_u64();
    let replaced = outcome.count("replaced")?;
    println!("{replaced} replacements");
    if counted != Some(replaced) || replaced < 16 {
        bail!("{replaced} replacements were made, {counted:?} counted");
    }
    let calls = Calls::between(outcome.at("bound")?, outcome.at("moved")?)?;
    println!("bound to moved: {calls:?}");
    if calls.attach != calls.replaced || calls.detach != 0 {
        bail!("more than the moved PASID was touched: {calls:?}");
    }
    let pasids: Vec<u32> = (0x55..0x5D).collect();
    expect_bound(&outcome, "bound", &pasids)?;
    expect_bound(&outcome, "moved", &pasids)?;
    // In the end the first one's entry is not present.
    expect_bound(&outcome, "kinds", &pasids[1..])?;
    Ok(Verdict::Pass)
}
