// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASID-cache invalidations of a domain.

use anyhow::Result;

use super::{Calls, LIMIT, NONE, expect, expect_bound, inside};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-domain-selective",
    about: "three levels: PASID-cache invalidations of a domain: entries of other domains stay until they are named",
    limit: LIMIT,
    run: domains,
};

fn domains(lab: &mut Lab<'_>) -> Result<Verdict> {
    let outcome = inside("passed-domains").boot(lab)?;
    let bound = Calls {
        attach: 3,
        create: 3,
        ..NONE
    };
    // One moves, one goes, one comes.
    let changed = Calls {
        attach: 2,
        detach: 1,
        create: 2,
        destroy: 2,
        replaced: 1,
        ..NONE
    };
    let moved = Calls {
        attach: 1,
        create: 1,
        destroy: 1,
        replaced: 1,
        ..NONE
    };
    // How many domains are bound then, and how many of them have changed.
    for (from, to, calls, domains, new) in [
        ("empty", "bound-1", &bound, 1, 0),
        ("bound-1", "bound-2", &bound, 2, 0),
        ("bound-2", "bound-3", &bound, 3, 0),
        ("bound-3", "nobodys", &NONE, 3, 0),
        ("nobodys", "changed-1", &changed, 3, 1),
        ("changed-1", "changed-2", &changed, 3, 2),
        ("changed-2", "changed-3", &changed, 3, 3),
        ("changed-3", "another", &moved, 3, 3),
    ] {
        expect(&outcome, [from, to], calls)?;
        expect_bound(&outcome, to, &pasids(domains, new))?;
    }
    Ok(Verdict::Pass)
}

/// The PASIDs of so many domains, of which the first `changed` are as they are later: the third goes, and a fourth comes.
fn pasids(domains: u32, changed: u32) -> Vec<u32> {
    let of_domain = |domain| {
        let last = if domain < changed { 201 } else { 134 };
        [0, 67, last].map(|at| 0x30 + at + domain)
    };
    let mut pasids: Vec<u32> = (0..domains).flat_map(of_domain).collect();
    pasids.sort_unstable();
    pasids
}
