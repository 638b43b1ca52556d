// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that powers off ends the run well, unless something was expected of it first.

use std::time::Duration;

use anyhow::Result;

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "poweroff",
    about: "power-off ends the run with status 0, or 1 when an expected text was never seen",
    limit: Duration::from_secs(180),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script("echo \"the guest's $((6 * 7))\"\n"))?;
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&RESULT);
    let ended = lab.remora("plain", &boot)?;
    ended
        .expect("the guest's 42")?
        .expect("reboot: Power down")?;
    expect_ending(lab, &ended, 0, "poweroff", "the guest powered off")?;

    let missing = boot.args(&["--expect", "the guest's 42", "--expect", "the guest's 43"]);
    let ended = lab.remora("missing", &missing)?;
    expect_ending(lab, &ended, 1, "missing", "the guest's 43")?;
    Ok(Verdict::Pass)
}
