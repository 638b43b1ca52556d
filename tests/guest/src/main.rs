// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Helper programs for guests and for L1: `guest-tools NAME ARGUMENTS…`. Each prints one line that scenarios look for.
#![forbid(unsafe_code)]

mod blkcheck;
mod netcheck;
mod pattern;
mod supervise;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "
guest-tools blkcheck write|verify|random|sum DEVICE MEBIBYTES [SEED]
guest-tools netcheck send HOST:PORT MEBIBYTES SEED
guest-tools netcheck receive PORT MEBIBYTES SEED
guest-tools supervise DIRECTORY";

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            println!("guest-tools: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u8> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"blkcheck", rest)) => blkcheck::run(rest).map(|()| 0),
        Some((&"netcheck", rest)) => netcheck::run(rest).map(|()| 0),
        Some((&"supervise", rest)) => supervise::run(rest),
        _ => bail!("usage: {USAGE}"),
    }
}
