// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The same reads of the same passed-through NVMe by strict guests under Remora and under QEMU, side by side. QEMU is the
//! reference that shows what the host and the guest's kernel cost by themselves.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::strict_reads::{measure, table};

pub const SCENARIO: Scenario = Scenario {
    name: "qemu-reference",
    about: "strict guests read L1's NVMe under Remora and under QEMU, with and without a unit: figures side by side",
    limit: Duration::from_secs(600),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let figures = measure(lab, 1)?;
    let table = table(&figures);
    print!("{table}");
    fs::write(lab.dir().join("table"), &table)?;
    // Counts alone decide: times of an emulated machine judge nothing. Behind a unit the NVMe driver makes a read of 1 MiB eight
    // requests, each of which is one run of addresses.
    for (figure, most) in figures.iter().zip([1.5, 9.0, 280.0]) {
        if figure.per_read.runs > most || figure.per_read.runs < 0.5 {
            bail!(
                "{}: {:.1} mappings a read, not up to {most}",
                figure.work,
                figure.per_read.runs
            );
        }
    }
    Ok(Verdict::Pass)
}
