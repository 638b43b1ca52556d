// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID-cache invalidations of everything.

use anyhow::Result;

use super::{Calls, LIMIT, NONE, expect, expect_bound, inside};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-global",
    about: "three levels: PASID-cache invalidations of everything: the host is asked to do what differs, by as many calls",
    limit: LIMIT,
    run: global,
};

fn global(lab: &mut Lab<'_>) -> Result<Verdict> {
    let outcome = inside("passed-global").boot(lab)?;
    let bound = Calls {
        attach: 24,
        create: 24,
        ..NONE
    };
    expect(&outcome, ["empty", "bound"], &bound)?;
    expect(&outcome, ["bound", "same"], &NONE)?;
    // One moved, one gone, one to the second stage, one new; a fifth has another domain and nothing else.
    let changed = Calls {
        attach: 3,
        detach: 1,
        create: 3,
        destroy: 3,
        map: 1,
        replaced: 2,
        ..NONE
    };
    expect(&outcome, ["same", "changed"], &changed)?;
    let gone = Calls {
        detach: 24,
        destroy: 24,
        ..NONE
    };
    expect(&outcome, ["changed", "gone"], &gone)?;
    let all: Vec<u32> = (0..24).map(|number| 5 + 70 * number).collect();
    let mut after = [&all[..7], &all[8..]].concat();
    after.push(0x7F0);
    for (hold, pasids) in [
        ("empty", &[][..]),
        ("bound", &all),
        ("same", &all),
        ("changed", &after),
        ("gone", &[]),
    ] {
        expect_bound(&outcome, hold, pasids)?;
    }
    Ok(Verdict::Pass)
}
