// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bare-metal payload on this machine's own KVM, whatever that is: processor virtualization or an interpreter of guest
//! code. Without a KVM that can be used the test is ignored and says why; libtest cannot decide that at run time, so this is
//! not its harness.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use payload::Verdict;

/// A test: its name, arguments of `remora run` that build the machine, the payload's command line, and how many checks there
/// are at least. Fewer mean that a group was lost.
type Test = (&'static str, &'static [&'static str], &'static str, u32);

const TESTS: &[Test] = &[
    ("payload_on_this_machines_kvm_passes", &[], "", 300),
    (
        "payload_in_scalable_mode_on_this_machines_kvm_passes",
        &["--dmatest", "--iommu", "mode=scalable,aw=57,posted=on"],
        "scalable",
        850,
    ),
];

/// Remora's exit status when the host lacks or refuses something.
const HOST: i32 = 3;

fn main() -> ExitCode {
    let tests = TESTS.iter().map(|test| {
        Trial::ignorable_test(test.0, || {
            payload_passes(test).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit_code()
}

fn payload_passes(&(_, machine, words, least): &Test) -> anyhow::Result<Completion> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Completion::ignored_with(format!(
            "/dev/kvm cannot be used: {error}"
        )));
    }
    let image = payload::build()?;
    let output = Command::new(lab::binaries::build()?.remora)
        .args(["run", "--memory", "64M", "--edu", "--timeout", "300"])
        .args(machine)
        .args(["--cmdline", words])
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
        verdict.good() && verdict.passed >= least,
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
