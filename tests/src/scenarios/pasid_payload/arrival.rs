// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that comes when the tables for it are full.

use anyhow::Result;

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
