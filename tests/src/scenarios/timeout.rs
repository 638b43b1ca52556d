// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Time runs out for a guest that goes on for ever, busy on one processor and idle on the other.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "timeout",
    about: "--timeout ends a busy guest with status 124, neither before its time nor long after",
    limit: Duration::from_secs(240),
    run,
};

/// Seconds; enough for the guest to come up.
const LIMIT: f64 = 20.0;
/// Seconds that a busy machine may take longer.
const SLACK: f64 = 20.0;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd(
        "guest",
        &Guest::script("echo 'round and round'; while :; do :; done\n"),
    )?;
    let limit = LIMIT.to_string();
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--cpus", "2", "--timeout", &limit])
        .args(&RESULT);
    // A shell that stays prints L1's clock around the run.
    let boot = boot.under(&[
        "sh",
        "-c",
        r#"cut -d' ' -f1 /proc/uptime >began; "$@"; status=$?; cut -d' ' -f1 /proc/uptime >ended; exit $status"#,
        "-",
    ]);
    let ended = lab.remora("boot", &boot)?;
    ended.expect("round and round")?;
    expect_ending(lab, &ended, 124, "timeout", "time ran out after 20 s")?;
    let clock = |name: &str| -> Result<f64> {
        let text = std::fs::read_to_string(lab.dir().join(name))?;
        text.trim()
            .parse()
            .with_context(|| format!("no time: {text}"))
    };
    let took = clock("ended")? - clock("began")?;
    if !(LIMIT..LIMIT + SLACK).contains(&took) {
        bail!("the run took {took} s, not {LIMIT} s");
    }
    Ok(Verdict::Pass)
}
