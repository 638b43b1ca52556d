// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Helper programs for L1: `host-tools NAME ARGUMENTS…`. Each prints lines that scenarios look for.

mod bindings;
mod check;
mod edu;
mod function;
mod iommufd;
mod mirrored;
mod oracle;
mod pasids;
mod ram;
mod refuse;
mod type1;

use std::process::ExitCode;

use anyhow::{Result, bail};
use vfio::sysfs::HostDevice;

const USAGE: &str = "
host-tools bindings PID BDF CONSOLE LOG
                                compares the host's PASID entries with those that a guest printed
host-tools refusal BDF          why a device cannot be passed through
host-tools iommufd BDF          proves the iommufd backend with edu
host-tools function NVME EDU    proves the guest's view of both: configuration, BARs, interrupts, resets
host-tools mirrored PID BDF CONSOLE LOG
                                compares the host's tables with those that a guest printed, and its process' memory
host-tools refuse REQUEST ERRNO FIRST LAST COMMAND...   runs a command for which some calls of an ioctl fail
host-tools refuse by FILE REQUEST,... COMMAND...        the same, as long as lines REQUEST ERRNO of a file say so
host-tools pasids BDF N         proves PASIDs on a host that nests with dmatest, N binds and unbinds among it
host-tools type1 BDF            proves the type1 backend with edu
host-tools type1-limit BDF N    proves that the type1 backend tells of the limit of N mappings";

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            println!("host-tools: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u8> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["refuse", ref rest @ ..] => refuse::run(rest),
        ref words => prove(words).map(|()| 0),
    }
}

fn prove(words: &[&str]) -> Result<()> {
    match *words {
        ["refusal", address] => {
            match HostDevice::read(address.parse()?)?.refusal() {
                Some(refusal) => println!("refused: {refusal}"),
                None => println!("can be passed through"),
            }
            Ok(())
        }
        ["bindings", process, address, console, log] => {
            bindings::run(process, address.parse()?, console, log)
        }
        ["iommufd", address] => iommufd::run(address.parse()?),
        ["function", nvme, edu] => function::run(nvme.parse()?, edu.parse()?),
        ["mirrored", process, address, console, log] => {
            mirrored::run(process, address.parse()?, console, log)
        }
        ["pasids", address, rounds] => pasids::run(address.parse()?, rounds.parse()?),
        ["type1", address] => type1::run(address.parse()?),
        ["type1-limit", address, limit] => type1::limit(address.parse()?, limit.parse()?),
        _ => bail!("usage: {USAGE}"),
    }
}
