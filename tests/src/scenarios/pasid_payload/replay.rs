// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bindings that are told anew: translation off and on, another root, another directory, a directory with a table less.

use anyhow::Result;

use super::{Calls, LIMIT, NONE, expect, expect_bound, inside};
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-replay",
    about: "three levels: translation off unbinds every PASID and on binds them again; another root or directory: what differs",
    limit: LIMIT,
    run: replay,
};

const ALL: [u32; 6] = [0x10, 0x11, 0x50, 0x51, 0x90, 0x91];

fn replay(lab: &mut Lab<'_>) -> Result<Verdict> {
    let outcome = inside("passed-replay").boot(lab)?;
    // Requests without PASID go from all of memory to a table of their own, and back.
    let on = Calls {
        attach: 7,
        create: 7,
        map: 1,
        replaced: 1,
        ..NONE
    };
    let off = Calls {
        attach: 1,
        detach: 6,
        destroy: 7,
        replaced: 1,
        ..NONE
    };
    // One moves, one goes; then back again.
    let root = Calls {
        attach: 1,
        detach: 1,
        create: 1,
        destroy: 2,
        replaced: 1,
        ..NONE
    };
    let context = Calls {
        attach: 2,
        create: 2,
        destroy: 1,
        replaced: 1,
        ..NONE
    };
    let directory = Calls {
        detach: 2,
        destroy: 2,
        ..NONE
    };
    expect_bound(&outcome, "off", &[])?;
    for (from, to, calls, bound) in [
        ("off", "on", &on, &ALL[..]),
        ("on", "off-again", &off, &[]),
        ("off-again", "on-again", &on, &ALL),
        ("on-again", "off-at-last", &off, &[]),
        ("off-at-last", "on-at-last", &on, &ALL),
        ("on-at-last", "root", &root, &[0x10, 0x11, 0x50, 0x51, 0x91]),
        ("root", "context", &context, &ALL),
        (
            "context",
            "directory",
            &directory,
            &[0x10, 0x11, 0x90, 0x91],
        ),
    ] {
        expect(&outcome, [from, to], calls)?;
        expect_bound(&outcome, to, bound)?;
    }
    Ok(Verdict::Pass)
}
