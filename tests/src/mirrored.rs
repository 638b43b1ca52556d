// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether L1's tables for a passed-through device hold what the guest's say: L1's kernel shows the ones, the guest's kernel the
//! others, and neither is ours.

use anyhow::{Context, Result};

use crate::lab::{Job, Lab};
use crate::session::in_l1;

/// What a guest prints behind its tables, which then stay as they are for ten seconds.
pub const SHOWN: &str = "TABLES end";

/// Waits until the guest of `job` has printed its tables, stops its machine, and compares; how many contiguous pieces with equal
/// rights there are. The machine must log what it says of guest RAM: `--log vmm=debug`.
pub fn compare(lab: &mut Lab<'_>, job: &Job, device: &str) -> Result<u64> {
    lab.wait_for(job, SHOWN)?;
    lab.signal(job, "STOP")?;
    let tools = in_l1(&lab.binaries().host_tools);
    let script = format!("{tools} mirrored $(pidof remora) {device} guest/stdout guest/stderr");
    let compared = lab.sh("compare", &script)?;
    lab.signal(job, "CONT")?;
    compared.expect_status(0)?.expect("MIRRORED ok ")?;
    let mut lines = compared.stdout.lines();
    let runs = lines.find_map(|line| line.strip_prefix("RUNS "));
    Ok(runs.context("no number of runs")?.trim().parse()?)
}
