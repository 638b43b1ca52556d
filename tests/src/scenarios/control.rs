// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket of a running guest: numbers, events, pause, resume, reset and the power button; and clients that do not
//! behave.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::ending::{RESULT, expect_ending};
use crate::images::Guest;
use crate::lab::{Ended, Job, Lab};
use crate::logs;
use crate::remora::{Remora, quote};
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "control",
    about: "stats, events, pause, resume, reset and shutdown by the control socket; clients that do not behave",
    limit: Duration::from_secs(300),
    run,
};

const SOCKET: &str = "/tmp/vm.sock";

/// Counts its boots in the disk's first block and then reads the disk for ever, a line each time.
const HEARTBEAT: &str = r#"
boots=$(dd if=/dev/vda bs=4096 count=1 iflag=direct 2>/dev/null | tr -d '\0')
boots=$((${boots:-0} + 1))
echo $boots >/tmp/count
dd if=/tmp/count of=/tmp/block bs=4096 conv=sync 2>/dev/null
dd if=/tmp/block of=/dev/vda bs=4096 count=1 oflag=direct 2>/dev/null
beat=0
while true; do
    dd if=/dev/vda of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null || echo "the disk is gone"
    beat=$((beat + 1))
    echo "boot $boots beat $beat"
    usleep 100000
done
"#;

/// Waits for the key of the power button, as a desktop's daemon does, and lets the init power off.
const BUTTON: &str = r#"
grep -l . /sys/class/input/event*/device/name | while read -r name; do echo "input $(cat $name)"; done
echo "the guest listens"
dd if=/dev/input/event0 of=/dev/null bs=24 count=1 2>/dev/null && echo "the power button was pressed"
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(HEARTBEAT))?;
    lab.sh("disk", "truncate -s 1M /tmp/disk.img")?
        .expect_status(0)?;
    let boot = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .args(&["--cpus", "2", "--disk", "/tmp/disk.img,id=d0", "--rng"])
        .args(&["--api-socket", SOCKET])
        .args(&RESULT);
    let vm = lab.start_remora("vm", &boot)?;
    lab.wait_for(&vm, "boot 1 beat 3")?;
    let script = ctl(lab, "events");
    let events = lab.start_sh("events", &script)?;

    look(lab)?;
    hold(lab, &vm)?;
    misbehave(lab)?;
    ask(lab, "reset", "reset")?.expect("running")?;
    lab.wait_for(&vm, "boot 2 beat 3")?;

    // A mute client has had its time by now, or gets it.
    let mute = lab.sh(
        "mute",
        &format!(
            "exec /lab/guest-tools socket mute {SOCKET} {}",
            quote(r#"{"command":"stats"}"#)
        ),
    )?;
    mute.expect_status(0)?.expect("socket: hung up on")?;
    ask(lab, "after-mute", "stats")?.expect("running")?;

    lab.signal(&vm, "TERM")?;
    let ended = lab.wait(&vm)?;
    expect_ending(lab, &ended, 143, "terminated", "")?;
    ended
        .forbid("the disk is gone")?
        .expect_error("a client of the control socket was dropped")?;
    let told = lab.wait(&events)?;
    told.expect_status(0)?;
    expect_events(&told)?;
    ask_in_vain(lab)?;
    shut_down(lab)?;
    Ok(Verdict::Pass)
}

/// The command that asks for `words`.
fn ctl(lab: &Lab<'_>, words: &str) -> String {
    let remora = in_l1(&lab.binaries().remora);
    format!("exec {} ctl --api-socket {SOCKET} {words}", quote(&remora))
}

fn ask(lab: &mut Lab<'_>, name: &str, words: &str) -> Result<Ended> {
    let script = ctl(lab, words);
    let ended = lab.sh(name, &script)?;
    ended.expect_status(0)?;
    Ok(ended)
}

/// Numbers, for people and for programs.
fn look(lab: &mut Lab<'_>) -> Result<()> {
    ask(lab, "stats", "stats")?
        .expect("machine\n  cpus ")?
        .expect("\nunit0\n")?;
    let stats = ask(lab, "stats-json", "stats --json")?;
    let stats: Value = serde_json::from_str(&stats.stdout).context("stats as JSON")?;
    let unit = &stats["parts"]["unit0"];
    if stats["machine"]["state"] != "running" || unit["translations"].as_u64() < Some(64) {
        bail!("the machine runs and its disk works, but stats say {stats}");
    }
    ask(lab, "dump", "dump unit0")?.expect("  translation          on\n")?;
    Ok(())
}

/// A paused guest says nothing, and goes on where it was.
fn hold(lab: &mut Lab<'_>, vm: &Job) -> Result<()> {
    ask(lab, "pause", "pause")?.expect("paused")?;
    ask(lab, "pause-again", "pause")?.expect("paused already")?;
    // The host may still write what the guest said before.
    thread::sleep(Duration::from_secs(1));
    let before = logs::read(&vm.stdout());
    thread::sleep(Duration::from_secs(3));
    let after = logs::read(&vm.stdout());
    if before != after {
        bail!(
            "the guest goes on although it is paused: {}",
            &after[before.len()..]
        );
    }
    ask(lab, "stats-paused", "stats")?.expect("paused")?;
    let script = ctl(lab, "shutdown");
    lab.sh("shutdown-paused", &script)?
        .expect_status(1)?
        .expect_error("resume it first")?;
    ask(lab, "resume", "resume")?.expect("running")?;
    let last = before.rsplit("beat ").next().unwrap_or_default().trim();
    let last: u32 = last
        .parse()
        .with_context(|| format!("the last beat: {last:?}"))?;
    lab.wait_for(vm, &format!("boot 1 beat {}\n", last + 5))
}

/// Requests that are none, and what the answers say.
fn misbehave(lab: &mut Lab<'_>) -> Result<()> {
    let say = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| quote(line)).collect();
        format!(
            "exec /lab/guest-tools socket say {SOCKET} {}",
            lines.join(" ")
        )
    };
    let lines = [
        r#"{"command":"halt","id":7}"#,
        r#"{"command":"stats","version":2}"#,
        r#"{"command":"resume","id":8}"#,
    ];
    lab.sh("bad-requests", &say(&lines))?
        .expect_status(0)?
        .expect(r#""id":7,"error":{"what":"understand the request","why":"unknown variant `halt`"#)?
        .expect("version 2 is not spoken here")?
        .expect(r#"{"version":1,"id":8,"result":{"changed":false,"state":"running"}}"#)?;
    lab.sh(
        "no-json",
        &say(&["GET / HTTP/1.1", "", r#"{"command":"reset"}"#]),
    )?
    .expect("one JSON object a line")?
    .forbid("result")?;
    let long = format!(
        "head -c 70000 /dev/zero | tr '\\0' a >long; exec /lab/guest-tools socket say {SOCKET} \"$(cat long)\""
    );
    lab.sh("too-long", &long)?
        .expect("longer than 65536 bytes")?;
    let script = ctl(lab, "add-device disk=/tmp/disk.img,bus=none");
    lab.sh("no-slot", &script)?
        .expect_status(1)?
        .expect_error("remora: refused: cannot add")?;
    Ok(())
}

fn expect_events(told: &Ended) -> Result<()> {
    let mut names = Vec::new();
    for line in told.stdout.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("event {line}"))?;
        names.push(event["event"].as_str().unwrap_or_default().to_owned());
    }
    let wanted = [
        "paused",
        "resumed",
        "device-refused",
        "reset",
        "iommu-enabled",
        "stopped",
    ];
    let mut found = names.iter();
    for name in wanted {
        if !found.any(|told| told == name) {
            bail!("the event {name} is missing, or in the wrong place: {names:?}");
        }
    }
    Ok(())
}

/// Without a machine.
fn ask_in_vain(lab: &mut Lab<'_>) -> Result<()> {
    let script = ctl(lab, "stats");
    lab.sh("no-machine", &script)?
        .expect_status(3)?
        .expect_error("there is no such socket")?;
    Ok(())
}

/// Debian's kernel has the drivers that hear of the power button.
fn shut_down(lab: &mut Lab<'_>) -> Result<()> {
    let stock = lab.stock()?;
    let modules = stock.modules(&["button", "evdev"])?;
    let initrd = lab.initrd("button", &Guest::script(BUTTON).modules(modules))?;
    let boot = Remora::boot(&stock.vmlinuz)
        // The lab's emulated processor has this weakness, and no microcode against it.
        .allow("Speculative Return Stack Overflow: WARNING:")
        .initrd(&initrd)
        .cmdline("console=ttyS0 intel_iommu=on")
        .args(&["--api-socket", SOCKET])
        .args(&RESULT);
    let vm = lab.start_remora("power-button", &boot)?;
    lab.wait_for(&vm, "the guest listens")?;
    ask(lab, "shutdown", "shutdown")?.expect("the guest was asked to power off")?;
    let ended = lab.wait(&vm)?;
    expect_ending(lab, &ended, 0, "poweroff", "the guest powered off")?;
    ended
        .expect("input Power Button")?
        .expect("the power button was pressed")?;
    Ok(())
}
