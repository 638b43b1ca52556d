// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Translations in the device's own cache (ATS): they lead to the right memory, and the kernel's unmap takes them away.

use anyhow::{Context, Result, bail};

use super::driver::{Command, NO_TRANSLATION};
use super::refusals::Mode;
use super::setup::Setup;
use crate::iommufd::Purpose;
use crate::memory::{Memory, PAGE, PAGE_BYTES};

const IOVA: u64 = 0x6000_0000;

const PASID: u32 = 0x77;

/// Runs `dmatest ats MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let mut setup = Setup::new(mode)?;
    for pasid in [None, Some(PASID)] {
        cached(&mut setup, pasid).with_context(|| format!("PASID {pasid:x?}"))?;
    }
    let (hits, invalidations) = (setup.device.hits()?, setup.device.invalidations()?);
    Ok(format!(
        "{hits} hits, {invalidations} invalidations, {}",
        setup.refusals
    ))
}

fn cached(setup: &mut Setup, pasid: Option<u32>) -> Result<()> {
    let (first, second) = (Memory::new(PAGE)?, Memory::new(PAGE)?);
    let ioas = setup.ioas_with(&first, IOVA)?;
    let purpose = Purpose {
        pasid: true,
        ..Purpose::default()
    };
    let hwpt = setup.hwpt(ioas, &purpose)?;
    setup.attach(pasid, hwpt)?;
    let fill = |pattern| Command::fill(IOVA, 4096, pattern).pasid(pasid).translated();
    setup.device.done(&fill(1))?;
    first.check_page(0, 1)?;
    let hits = setup.device.hits()?;
    setup.device.done(&fill(2))?;
    first.check_page(0, 2)?;
    if setup.device.hits()? == hits {
        bail!("the device did not keep the translation");
    }

    let invalidations = setup.device.invalidations()?;
    setup.iommufd.unmap(ioas, IOVA, PAGE_BYTES)?;
    if setup.device.invalidations()? == invalidations {
        bail!("the kernel's unmap did not reach the device");
    }
    let answer = setup.device.run(&fill(3))?;
    if (answer.status, answer.fault_address) != (NO_TRANSLATION, IOVA) {
        bail!("an unmapped page was to have no translation: {answer:x?}");
    }
    setup.iommufd.map(ioas, &second, IOVA, true)?;
    setup.device.done(&fill(4))?;
    second.check_page(0, 4)?;
    first.check_page(0, 2)
}
