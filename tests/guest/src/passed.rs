// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Drives devices that were passed through to this guest from user space, through the guest kernel's own VFIO and iommufd:
//! `passed WHAT`.
//!
//! | WHAT | |
//! |---|---|
//! | pair | NVMe and edu in one address space, which is mapped page by page |
//! | switch | edu moves between two address spaces while the NVMe works in one of them |
//! | split | large pages become small ones and large ones again, beside DMA |
//! | remap SECONDS | single pages come and go inside a large mapping, under DMA to their neighbours |
//! | arrive | the NVMe arrives when its address space has thousands of mappings |
//! | pages MEBIBYTES | a large buffer in 4 KiB pages, as a packet-processing program has it |
//!
//! Whatever a device moves is compared with what was sent. At the end stands `PASSED ok WHAT: …`.

mod arrive;
mod edu;
mod nvme;
mod pages;
mod pair;
mod pump;
mod remap;
mod space;
mod split;
mod switch;

use anyhow::{Context, Result, bail};

/// Runs `passed ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let number = |text: &str| text.parse().with_context(|| format!("'{text}'"));
    let said = match *args {
        ["arrive"] => arrive::run(),
        ["pair"] => pair::run(),
        ["switch"] => switch::run(),
        ["split"] => split::run(),
        ["remap", seconds] => remap::run(number(seconds)?),
        ["pages", mebibytes] => pages::run(number(mebibytes)?),
        _ => bail!("passed takes what to do, and perhaps a number"),
    }?;
    println!("PASSED ok {}: {said}", args[0]);
    Ok(())
}
