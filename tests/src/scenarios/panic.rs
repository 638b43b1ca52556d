// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that dies: by a kernel panic on the console, by the pvpanic port, by a triple fault.

use std::time::Duration;

use anyhow::Result;

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "panic",
    about: "a panic on the console or by pvpanic and a triple fault end the run with 1; a panic may be let pass",
    limit: Duration::from_secs(240),
    run,
};

/// The command line says how to die.
const SCRIPT: &str = r"
echo 1 >/proc/sys/kernel/sysrq
case $(sed 's/.*die=//' /proc/cmdline) in
panic) echo c >/proc/sysrq-trigger ;;
pvpanic) printf '\001' | dd of=/dev/port bs=1 seek=$((0x505)) conv=notrunc 2>/dev/null ;;
triple) echo triple >/sys/kernel/reboot/type && reboot -f ;;
esac
sleep 1000
";

const PANIC: &str = "Kernel panic - not syncing: sysrq triggered crash";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let ended = die(lab, "console", "die=panic", &[])?;
    // The line is whole although its beginning ends the run.
    ended.expect(PANIC)?;
    expect_ending(lab, &ended, 1, "fail-on", "Kernel panic - not syncing")?;

    // Resets itself after the panic; the reset is what ends the run.
    let options = ["--no-default-fail-on", "--no-reboot"];
    let ended = die(lab, "let-pass", "panic=-1 die=panic", &options)?;
    ended.expect(PANIC)?;
    expect_ending(lab, &ended, 0, "reset", "--no-reboot")?;

    let ended = die(lab, "pvpanic", "die=pvpanic", &options)?;
    expect_ending(lab, &ended, 1, "panic", "the guest panicked")?;

    // Ends the run even where a reset would not.
    let ended = die(lab, "triple-fault", "die=triple", &[])?;
    expect_ending(lab, &ended, 1, "triple-fault", "triple fault")?;
    Ok(Verdict::Pass)
}

fn die(lab: &mut Lab<'_>, name: &str, words: &str, options: &[&str]) -> Result<Ended> {
    let initrd = lab.initrd(name, &Guest::script(SCRIPT))?;
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline(&format!("console=ttyS0 {words}"))
        .args(&RESULT)
        .args(options)
        .allow(PANIC)
        .allow("Call Trace:");
    lab.remora(name, &boot)
}
