// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two devices that are passed through, and one address space for both, for requests with and without PASID: all of them go
//! through the same table, and a page that is unmapped is gone for all.

use anyhow::{Context, Result, bail};

use super::driver::{BLOCKED, Command, DEVICE, Dmatest, VENDOR};
use super::space::FOR_PASIDS;
use super::turns::wait_at;
use crate::iommufd::Iommufd;
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pci::Function;
use crate::vfio;
use crate::vfio::cdev::Cdev;

const IOVA: u64 = 0x1234_5000;
const PASID: u32 = 0x55;

/// Pages of the address space, of which the first stays.
const PAGES: usize = 9;

/// Who sends: the PASIDs of each device, and its requests without.
const SENDERS: [Option<u32>; 2] = [None, Some(PASID)];

struct Device {
    cdev: Cdev,
    dmatest: Dmatest,
}

/// Runs `dmatest shared`.
pub fn run() -> Result<String> {
    let functions = Function::all(VENDOR, DEVICE)?;
    if functions.len() != 2 {
        bail!("two devices are needed, not {}", functions.len());
    }
    let iommufd = Iommufd::open()?;
    let devices = functions.iter().map(|function| open(function, &iommufd));
    let mut devices = devices.collect::<Result<Vec<_>>>()?;
    let memory = Memory::new(PAGES * PAGE)?;
    let ioas = iommufd.ioas()?;
    for offset in (0..memory.bytes()).step_by(PAGE) {
        let page = offset..offset + PAGE_BYTES;
        iommufd.map_part(ioas, &memory, page, IOVA + offset, true)?;
    }
    let hwpt = iommufd.hwpt(devices[0].cdev.id, ioas, &FOR_PASIDS)?;
    for device in &devices {
        for pasid in SENDERS {
            let attach = device.cdev.attach(pasid, hwpt);
            attach.with_context(|| format!("attaching the table for PASID {pasid:x?}"))?;
        }
    }
    everyone_reaches(&mut devices, &memory, PAGES)?;
    wait_at("attached")?;

    let last = PAGES - 1;
    for page in (1..PAGES).rev() {
        let iova = IOVA + page as u64 * PAGE_BYTES;
        iommufd.unmap(ioas, iova, PAGE_BYTES).context("unmap")?;
        if page == last {
            everyone_reaches(&mut devices, &memory, last)?;
            nobody_reaches(&mut devices, iova)?;
        }
    }
    wait_at("unmapped")?;
    everyone_reaches(&mut devices, &memory, 1)?;
    for device in &devices {
        for pasid in SENDERS {
            device.cdev.detach(pasid).context("detaching the table")?;
        }
    }
    wait_at("detached")?;
    Ok(format!("{} pages unmapped", PAGES - 1))
}

fn open(function: &Function, iommufd: &Iommufd) -> Result<Device> {
    function.bind_to_vfio()?;
    let cdev = Cdev::open(function, iommufd)?;
    let dmatest = Dmatest::new(vfio::enable(&cdev.device)?)?;
    Ok(Device { cdev, dmatest })
}

/// Has everyone write to the first `pages` pages.
fn everyone_reaches(devices: &mut [Device], memory: &Memory, pages: usize) -> Result<()> {
    let bytes = u32::try_from(pages * PAGE)?;
    for (number, device) in devices.iter_mut().enumerate() {
        for pasid in SENDERS {
            let pattern = (number as u64) << 32 | u64::from(pasid.unwrap_or(0)) | 1 << 63;
            let fill = Command::fill(IOVA, bytes, pattern).pasid(pasid);
            device.dmatest.done(&fill)?;
            for page in 0..pages {
                memory.check_page(page * PAGE, pattern)?;
            }
        }
    }
    Ok(())
}

fn nobody_reaches(devices: &mut [Device], iova: u64) -> Result<()> {
    for device in devices {
        for pasid in SENDERS {
            let answer = device
                .dmatest
                .run(&Command::fill(iova, 8, 1).pasid(pasid))?;
            if (answer.status, answer.fault_address) != (BLOCKED, iova) {
                bail!("PASID {pasid:x?} still reaches an unmapped page: {answer:x?}");
            }
        }
    }
    Ok(())
}
