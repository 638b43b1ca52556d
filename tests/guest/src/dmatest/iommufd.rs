// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Character device and iommufd: maps, moves data, changes and takes away address spaces; what is not mapped is refused.

use anyhow::{Context, Result, bail};

use super::driver::Command;
use super::refusals::{Mode, Why};
use super::setup::Setup;
use super::transfer::{FROM, TO, Transfer};
use crate::iommufd::Purpose;
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// A page for reading only.
const READ_ONLY: u64 = 0x5000_0000;

/// Runs `dmatest iommufd MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let mut setup = Setup::new(mode)?;
    let write = Command::fill(TO, 8, 1);
    setup
        .refused(&write, TO, Why::NoTable)
        .context("before anything was attached")?;

    let transfer = Transfer::new()?;
    let ioas = setup.ioas_with(&transfer.from, FROM)?;
    setup.iommufd.map(ioas, &transfer.to, TO, true)?;
    let hwpt = setup.hwpt(ioas, &Purpose::default())?;
    setup.attach(None, hwpt)?;
    transfer.run(&mut setup.device)?;
    read_only(&mut setup, ioas, &transfer)?;

    let bytes = transfer.to.bytes();
    let unmapped = setup.iommufd.unmap(ioas, TO, bytes).context("unmap")?;
    if unmapped != bytes {
        bail!("{unmapped} bytes were unmapped instead of {bytes}");
    }
    let last = TO + bytes - PAGE_BYTES;
    let write = Command::fill(last, 8, 2);
    setup.refused(&write, last, Why::Absent)?;
    transfer.check_last_page().context("after the unmap")?;

    another_space(&mut setup, hwpt)?;
    Ok(format!("64 MiB moved, {}", setup.refusals))
}

fn read_only(setup: &mut Setup, ioas: u32, transfer: &Transfer) -> Result<()> {
    let page = Memory::new(PAGE)?;
    page.set_word(0, 0x1122)?;
    setup.iommufd.map(ioas, &page, READ_ONLY, false)?;
    setup.device.done(&Command::copy(READ_ONLY, TO, 8))?;
    transfer.to.check_word(0, 0x1122)?;
    setup.device.done(&Command::copy(FROM, TO, 8))?;
    let write = Command::fill(READ_ONLY, 8, 1);
    setup.refused(&write, READ_ONLY, Why::ReadOnly)?;
    page.check_word(0, 0x1122)
}

/// Replaces the address space by another in which only [`TO`] is mapped, and then takes that away.
fn another_space(setup: &mut Setup, old: u32) -> Result<()> {
    let page = Memory::new(PAGE)?;
    let ioas = setup.ioas_with(&page, TO)?;
    let hwpt = setup.hwpt(ioas, &Purpose::default())?;
    if setup.iommufd.destroy(old).is_ok() {
        bail!("a table was destroyed while it was attached");
    }
    setup.attach(None, hwpt)?;
    setup
        .iommufd
        .destroy(old)
        .context("destroying the table before")?;
    setup.device.done(&Command::fill(TO, 4096, 3))?;
    page.check_page(0, 3)?;
    let read = Command::checksum(FROM, 8);
    setup
        .refused(&read, FROM, Why::Absent)
        .context("an address of the space before")?;
    setup.detach(None)?;
    let write = Command::fill(TO, 8, 4);
    setup
        .refused(&write, TO, Why::NoTable)
        .context("after the table was detached")?;
    page.check_page(0, 3)
}
