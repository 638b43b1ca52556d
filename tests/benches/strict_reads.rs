// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a unit costs a strict guest that reads a passed-through NVMe, against what QEMU's costs the same guest, in the lab.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use benchmark::row::{Goal, Row};
use lab::lab::Lab;
use lab::session::Session;
use lab::strict_reads::measure;

/// How long all guests together may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// How often every guest is run.
const ROUNDS: u32 = 6;

/// Works, what they are in words, and the most that Remora's unit may cost as a part of what QEMU's costs.
const ROWS: [(&str, &str, f64); 3] = [
    ("small", "4 KiB NVMe reads", 0.5),
    (
        "contiguous",
        "1 MiB NVMe reads into a contiguous buffer",
        0.25,
    ),
    (
        "scattered",
        "1 MiB NVMe reads into a scattered buffer",
        0.75,
    ),
];

fn main() -> Result<()> {
    let mut session = Session::open()?;
    let dir = session.dir.join("strict-reads");
    fs::create_dir_all(&dir)?;
    let mut lab = Lab::new(&mut session, "strict-reads", dir, Instant::now() + LIMIT);
    let figures = measure(&mut lab, ROUNDS)?;
    for (work, what, most) in ROWS {
        let figure = figures.iter().find(|figure| figure.work == work);
        let figure = figure.with_context(|| format!("{work} was not measured"))?;
        let row = format!("{what}, strict: extra time / QEMU's");
        Row::print(&row, Goal::AtMost(most), figure.ratio());
        let row = format!("{what}, strict: the exits alone / QEMU's");
        Row::print(&row, Goal::None, figure.exits_alone());
        let row = format!("{what}, strict: exits and host calls alone / QEMU's");
        Row::print(&row, Goal::None, figure.exits_and_host());
        let row = format!("{what}, strict: mappings a read");
        Row::print(&row, Goal::None, figure.per_read.runs);
    }
    Ok(())
}
