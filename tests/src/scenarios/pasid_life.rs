// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How bindings of PASIDs end. What is really bound L2's kernel says, by its own look at the tables of its unit, which is Remora's.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{ThreeLevels, Turn};

const LIMIT: Duration = Duration::from_secs(420);

pub const UNBIND: Scenario = Scenario {
    name: "pasid-unbind",
    about: "three levels: what a PASID sends is refused once L3 has unbound it, even what is under way; L2's kernel names it",
    limit: LIMIT,
    run: unbind,
};

fn unbind(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = |at| Turn {
        at,
        does: "pasids",
        says: "on",
    };
    let levels = ThreeLevels {
        script: "guest-tools dmatest unbind",
        turns: &[turn("bound"), turn("unbound")],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    outcome.said("unbind")?;
    let (bound, unbound) = (outcome.turns("bound"), outcome.turns("unbound"));
    if bound != ["3 4 4097 1048574"] || unbound != [""] {
        bail!("L2's tables had the PASIDs {bound:?}, and {unbound:?} when all were unbound");
    }
    // The entry is not present: no other reason will do.
    let refusals = outcome.refusals_are_logged(Some("0x59"))?;
    if (refusals, outcome.faults()) != (4, 0) {
        bail!("{refusals} refusals instead of 4: {}", outcome.result);
    }
    Ok(Verdict::Pass)
}
