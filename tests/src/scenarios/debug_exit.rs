// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest chooses the exit status by a write to port 0xF4.

use std::time::Duration;

use anyhow::Result;

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "debug-exit",
    about: "a guest that writes v to port 0xF4 ends the run with (v << 1) | 1",
    limit: Duration::from_secs(180),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    // The second is a status that stands for something else: the reason tells them apart.
    for (name, octal, value, status) in [("five", "005", "0x5", 11), ("one", "001", "0x1", 3)] {
        let script =
            format!(r"printf '\{octal}' | dd of=/dev/port bs=1 seek=244 conv=notrunc; sleep 1000");
        let initrd = lab.initrd(name, &Guest::script(&script))?;
        let boot = Remora::boot(&lab.kernel().bzimage)
            .initrd(&initrd)
            .args(&RESULT);
        let ended = lab.remora(name, &boot)?;
        let message = format!("wrote {value} to the debug exit port");
        expect_ending(lab, &ended, status, "debug-exit", &message)?;
    }
    Ok(Verdict::Pass)
}
