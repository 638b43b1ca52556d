// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs the benchmarks of every crate of the workspace and prints their rows as one table, each as it comes.
//!
//! A figure that misses its goal is shown as such and is no failure. The exit status is non-zero when something could not be
//! built or run, or printed what is no row.

use anyhow::{Context, Result, bail, ensure};
use benchmark::row::Row;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn main() -> Result<()> {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(["bench", "--quiet", "--workspace", "--bench", "*"])
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo to build the benchmarks; is it installed?")?;
    let output = cargo.stdout.take().context("cargo has no output")?;
    let mut rows = 0;
    for line in BufReader::new(output).lines() {
        let line = line.context("reading what the benchmarks print")?;
        let Ok(row) = line.parse::<Row>() else {
            bail!("a benchmark printed {line:?}, which is no row of the table");
        };
        if rows == 0 {
            println!("{}", Row::heading());
        }
        println!("{row}");
        rows += 1;
    }
    let status = cargo.wait().context("waiting for the benchmarks")?;
    ensure!(status.success(), "the benchmarks failed: {status}");
    ensure!(rows != 0, "the benchmarks printed no row");
    Ok(())
}
