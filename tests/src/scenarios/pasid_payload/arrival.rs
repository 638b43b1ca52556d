// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that comes when the tables for it are full.

use anyhow::{Result, bail};

use super::{Calls, LIMIT, NONE, expect, expect_bound};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::payload::PayloadInside;

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-hotplug",
    about: "three levels: context and PASID tables are full before the device comes into its slot; then every binding is there",
    limit: LIMIT,
    run: arrival,
};

fn arrival(lab: &mut Lab<'_>) -> Result<Verdict> {
    let inside = PayloadInside {
        iommu: "mode=scalable,stages=both,nesting=off",
        arrives: true,
        words: "passed-arrival",
    };
    let outcome = inside.boot(lab)?;
    let pasids: Vec<u32> = (0..20).map(|number| 9 + 41 * number).collect();
    // The device is in its slot, and the guest has not looked at it yet. One PASID goes through what is there already, three
    // through copies of a page each, and requests without PASID through a table, too.
    let calls = Calls::since_start(outcome.at("arrive")?)?;
    let replayed = Calls {
        attach: 21,
        create: 20,
        map: 3,
        ..NONE
    };
    if calls != replayed {
        bail!("the host was asked for {calls:?}, not for {replayed:?}");
    }
    expect_bound(&outcome, "arrive", &pasids)?;
    expect(&outcome, ["arrive", "arrived"], &NONE)?;
    expect_bound(&outcome, "arrived", &pasids)?;
    let changed = Calls {
        attach: 1,
        detach: 1,
        create: 1,
        destroy: 2,
        replaced: 1,
        ..NONE
    };
    expect(&outcome, ["arrived", "changed"], &changed)?;
    let left = [&pasids[..1], &pasids[2..]].concat();
    expect_bound(&outcome, "changed", &left)?;
    Ok(Verdict::Pass)
}
