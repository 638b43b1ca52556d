// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A user at a terminal: keys and breaks reach the guest, and whichever way Remora is ended, the terminal is as before and
//! nothing is left.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "kill",
    about: "SIGTERM, SIGHUP and Ctrl-A X end a run at a terminal and leave neither settings, tap nor file",
    limit: Duration::from_secs(180),
    run,
};

const SCRIPT: &str = r#"
echo 1 >/proc/sys/kernel/sysrq
echo "the guest has $(ls /sys/class/net | tr '\n' ' ')"
echo "the guest listens"
while read -r line; do echo "the guest heard $line"; done
"#;

/// What a run could leave in L1: interfaces and files.
const LOOK: &str = "ls /sys/class/net; ls -A /tmp /run /dev/shm; ls -A -p | grep -v /; losetup -a";

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    lab.sh("disk", "truncate -s 1M /tmp/disk.img")?
        .expect_status(0)?;
    let terminated = ["at", "the guest listens", "signal", "TERM"];
    end(lab, "sigterm", &terminated, (143, "terminated"))?;
    let hung_up = ["at", "the guest listens", "signal", "HUP"];
    end(lab, "sighup", &hung_up, (143, "terminated"))?;
    // After a break the next key is a command to the guest's kernel.
    let user = [
        ["at", "the guest listens", "key", r"hello\r"],
        ["at", "the guest heard hello", "key", r"\x01ch"],
        ["at", "reboot(b)", "key", r"\x01x"],
    ];
    let quit = end(lab, "ctrl-a-x", &user.concat(), (130, "quit"))?;
    quit.expect("sysrq: HELP : ")?;
    Ok(Verdict::Pass)
}

/// One run at a terminal, with a tap and a disk, which ends by the last of `steps`.
fn end(lab: &mut Lab<'_>, name: &str, steps: &[&str], ending: (i32, &str)) -> Result<Ended> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    let before = look(lab, &format!("{name}-look-before"))?;
    let user = [&["guest-tools", "terminal"][..], steps, &["--"]].concat();
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        // A terminal takes a guest's lines byte by byte; what the kernel says at boot is other scenarios' matter.
        .cmdline("quiet")
        .args(&["--disk", "/tmp/disk.img", "--net", "tap=remora0", "--rng"])
        .args(&RESULT)
        .under(&user);
    let ended = lab.remora(name, &boot)?;
    expect_ending(lab, &ended, ending.0, ending.1, "")?;
    let raw = ended.stdout.matches("TERMINAL raw").count();
    if raw != steps.len() / 4 {
        bail!(
            "{name}: the terminal was raw at {raw} of {} steps",
            steps.len() / 4
        );
    }
    ended.expect("TERMINAL restored")?;
    let after = look(lab, &format!("{name}-look-after"))?;
    if before != after {
        bail!("{name} left something behind:\n{before}\nbecame\n{after}");
    }
    Ok(ended)
}

fn look(lab: &mut Lab<'_>, name: &str) -> Result<String> {
    Ok(lab.sh(name, LOOK)?.stdout)
}
