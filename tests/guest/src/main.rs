// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Helper programs for guests and for L1: `guest-tools NAME ARGUMENTS…`. Each prints one line that scenarios look for.

mod blkcheck;
mod blktime;
mod dmatest;
mod edu;
mod faults;
mod intx;
mod ioctl;
mod iommufd;
mod kexec;
mod memory;
mod netcheck;
mod passed;
mod pattern;
mod pci;
mod socket;
mod supervise;
mod terminal;
mod vfio;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "
guest-tools blkcheck write|verify|random|sum DEVICE MEBIBYTES [SEED]
guest-tools blktime DEVICE small|contiguous|scattered COUNT
guest-tools dmatest type1|iommufd|pasid|ats|nested|dirty|pri [legacy|second|first|passed]
guest-tools dmatest unbind|shared|direct|held
guest-tools dmatest blocked BITS
guest-tools dmatest churn ROUNDS SEED
guest-tools edu entries NUMBER|pages NUMBER|peer
guest-tools faults GROUP ROOT INTERRUPTS
guest-tools intx
guest-tools kexec now|crash KERNEL INITRD CMDLINE
guest-tools netcheck send HOST:PORT MEBIBYTES SEED
guest-tools netcheck receive PORT MEBIBYTES SEED
guest-tools passed arrive|pair|switch|split|remap SECONDS|pages MEBIBYTES
guest-tools socket say PATH LINE...
guest-tools socket mute PATH LINE
guest-tools supervise DIRECTORY
guest-tools terminal [at TEXT key KEYS | at TEXT signal NAME]... -- COMMAND...";

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
        Some((&"blktime", rest)) => blktime::run(rest).map(|()| 0),
        Some((&"dmatest", rest)) => dmatest::run(rest).map(|()| 0),
        Some((&"edu", rest)) => edu::run(rest).map(|()| 0),
        Some((&"faults", rest)) => faults::run(rest).map(|()| 0),
        Some((&"intx", [])) => intx::run().map(|()| 0),
        Some((&"kexec", rest)) => kexec::run(rest).map(|()| 0),
        Some((&"netcheck", rest)) => netcheck::run(rest).map(|()| 0),
        Some((&"passed", rest)) => passed::run(rest).map(|()| 0),
        Some((&"socket", rest)) => socket::run(rest).map(|()| 0),
        Some((&"supervise", rest)) => supervise::run(rest),
        Some((&"terminal", rest)) => terminal::run(rest),
        _ => bail!("usage: {USAGE}"),
    }
}
