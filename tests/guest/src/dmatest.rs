// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Drives dmatest from user space, through the guest kernel's own VFIO and iommufd: `dmatest WHAT [MODE]`.
//!
//! | WHAT | |
//! |---|---|
//! | type1 | by group and container |
//! | iommufd | by character device and iommufd |
//! | pasid | an address space for each of many PASIDs |
//! | ats | translations in the device's own cache |
//! | nested | first-stage tables of the program's own over a parent |
//! | dirty | dirty bitmaps |
//! | pri | page requests and their answers |
//! | unbind | PASIDs whose spaces are taken away |
//! | shared | one space for two devices |
//! | direct | no driver, and a kernel that translates nothing |
//! | blocked | PASIDs that the host cannot bind; MODE is how many bits the host has |
//! | churn ROUNDS SEED | many binds and unbinds of PASIDs from several processors |
//! | held | PASIDs that are bound when the machine is reset |
//!
//! The last six are for devices that are passed through, and take turns with the host.
//!
//! MODE says what the kernel translates with: `legacy` mode, or in scalable mode its `second` or `first` stage (the default). Where
//! the device is passed through to the machine it is `passed`, and only the device's account counts: the host's log is looked at by
//! whoever can read it, who is told of each.
//! Each refused access must be refused by the device's account and stand in the kernel's log with all particulars. At the end
//! stands `DMATEST ok WHAT: …, N refused`.

mod ats;
mod blocked;
mod churn;
mod direct;
mod dirty;
pub mod driver;
mod first_stage;
mod held;
mod iommufd;
mod nested;
mod pasid;
mod pri;
mod refusals;
mod setup;
mod shared;
mod space;
mod transfer;
mod turns;
mod type1;
mod unbind;

use anyhow::{Result, bail};

use refusals::Mode;

/// Runs `dmatest ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let (what, said) = match *args {
        ["blocked", bits] => ("blocked", blocked::run(bits)),
        [what @ "churn", rounds, seed] => (what, churn::run(rounds.parse()?, seed.parse()?)),
        [what] => (what, with_mode(what, Mode::FirstStage)),
        [what, mode] => (what, with_mode(what, Mode::parse(mode)?)),
        _ => bail!("dmatest takes what to do, and perhaps a mode"),
    };
    println!("DMATEST ok {what}: {}", said?);
    Ok(())
}

fn with_mode(what: &str, mode: Mode) -> Result<String> {
    match what {
        "type1" => type1::run(mode),
        "iommufd" => iommufd::run(mode),
        "pasid" => pasid::run(mode),
        "ats" => ats::run(mode),
        "nested" => nested::run(mode),
        "dirty" => dirty::run(),
        "pri" => pri::run(mode),
        "unbind" => unbind::run(),
        "shared" => shared::run(),
        "direct" => direct::run(),
        "held" => held::run(),
        _ => bail!("dmatest knows no '{what}'"),
    }
}
