// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bare-metal payload on this machine's own KVM, whatever that is: processor virtualization or an interpreter of guest
//! code. Without a KVM that can be used the test is ignored and says why; libtest cannot decide that at run time, so this is
//! not its harness.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use payload::Verdict;

/// Fewer checks than this mean that a group was lost.
const LEAST: u32 = 300;

/// Remora's exit status when the host lacks or refuses something.
const HOST: i32 = 3;

fn main() -> ExitCode {
    let test = Trial::ignorable_test("payload_on_this_machines_kvm_passes", || {
        payload_passes().map_err(|error| Failed::from(format!("{error:#}")))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

fn payload_passes() -> anyhow::Result<Completion> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Completion::ignored_with(format!(
            "/dev/kvm cannot be used: {error}"
        )));
    }
    let image = payload::build()?;
    let output = Command::new(lab::binaries::build()?.remora)
        .args(["run", "--memory", "64M", "--edu", "--timeout", "300"])
        .arg("--kernel")
        .arg(image)
        .stdin(Stdio::null())
        .output()?;
    let console = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(HOST) {
        return Ok(Completion::ignored_with(format!(
            "this KVM does not do: {}",
            messages.lines().last().unwrap_or_default()
        )));
    }
    let Some(verdict) = Verdict::parse(&console) else {
        let lines: Vec<&str> = console.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n");
        anyhow::bail!("the payload did not reach its end:\n{end}\n{messages}");
    };
    println!(
        "payload: {} passed, {} failed, {} skipped",
        verdict.passed, verdict.failed, verdict.skipped
    );
    let skipped = console.lines().filter(|line| line.starts_with("SKIP:"));
    skipped.for_each(|line| println!("    {}", line.trim_end()));
    anyhow::ensure!(
        verdict.good() && verdict.passed >= LEAST,
        "{} of {} checks passed\n{}",
        verdict.passed,
        verdict.passed + verdict.failed,
        verdict.failures.join("\n")
    );
    // The debug exit device's status for 0.
    anyhow::ensure!(
        output.status.code() == Some(1) && messages.contains("remora: debug-exit: "),
        "the run ended with {}: {messages}",
        output.status
    );
    Ok(Completion::Completed)
}
