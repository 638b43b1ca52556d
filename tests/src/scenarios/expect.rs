// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Texts on the console that end a run, well or badly, whatever the guest would still do.

use std::time::Duration;

use anyhow::Result;

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "expect",
    about: "--expect ends the run with 0 once every text was seen, --fail-on with 1, both at once",
    limit: Duration::from_secs(180),
    run,
};

/// Would never end by itself.
const SCRIPT: &str = r#"
sum() { echo "$1 is $(($1 * $1))"; }
sum 11
sum 12
sleep 1000
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&RESULT);
    // In the order in which they do not come.
    let both = boot
        .clone()
        .args(&["--expect", "12 is 144", "--expect", "11 is 121"]);
    let ended = lab.remora("expect", &both)?;
    expect_ending(lab, &ended, 0, "expected", "every expected text was seen")?;

    let fail = boot.args(&["--fail-on", "11 is 121", "--expect", "12 is 144"]);
    let ended = lab.remora("fail-on", &fail)?;
    expect_ending(lab, &ended, 1, "fail-on", "11 is 121")?;
    Ok(Verdict::Pass)
}
