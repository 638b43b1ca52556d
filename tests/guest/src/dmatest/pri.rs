// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests: they reach the fault queue of the table that lacks the page, and the device acts on the answers.

use anyhow::{Context, Result, bail};

use super::driver::{Command, NO_TRANSLATION, PAGE_INVALID};
use super::first_stage::{READ_WRITE, Tables};
use super::refusals::Mode;
use super::setup::Setup;
use crate::iommufd::faults::{FaultQueue, PageFault, Response};
use crate::iommufd::{ObjectId, Purpose};
use crate::memory::{Memory, PAGE, PAGE_BYTES};

const IOVA: u64 = 0x7000_0000;

/// Pages that one command asks for, one after the other.
const PAGES: u64 = 12;

const PASID: u32 = 0x1234;
const NESTED_PASID: u32 = 0x1235;

/// Permissions of a request.
const READ: u32 = 1;
const WRITE: u32 = 2;

/// A table with a fault queue of its own.
struct Asked {
    pasid: Option<u32>,
    ioas: ObjectId,
    faults: FaultQueue,
}

/// Runs `dmatest pri MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let mut setup = Setup::new(mode)?;
    let mut requests = 0;
    for pasid in [None, Some(PASID)] {
        let mut asked = Asked::attach(&setup, pasid)?;
        let made = asked.all(&mut setup);
        requests += made.with_context(|| format!("PASID {pasid:x?}"))?;
    }
    // No guest of a host that passes the device through is offered two stages.
    if mode != Mode::Passed {
        requests += nested(&mut setup).context("nested")?;
    }
    let seen = setup.device.page_requests()?;
    if seen != requests {
        bail!("the device made {seen} page requests, {requests} were read");
    }
    Ok(format!("{requests} page requests, {}", setup.refusals))
}

impl Asked {
    fn attach(setup: &Setup, pasid: Option<u32>) -> Result<Self> {
        let faults = setup.iommufd.fault_queue()?;
        let ioas = setup.iommufd.ioas()?;
        let purpose = Purpose {
            pasid: true,
            faults: Some(faults.id),
            ..Purpose::default()
        };
        let hwpt = setup.hwpt(ioas, &purpose)?;
        setup.attach(pasid, hwpt)?;
        Ok(Self {
            pasid,
            ioas,
            faults,
        })
    }

    /// Everything; how many requests the device made.
    fn all(&mut self, setup: &mut Setup) -> Result<u32> {
        let memory = Memory::new(usize::try_from(PAGES)? * PAGE)?;
        self.pages_come_when_asked_for(setup, &memory)?;
        self.invalid_is_seen(setup)?;
        self.nothing_is_asked_for_unbidden(setup)?;
        self.detach_answers(setup)?;
        self.faults.expect_none()?;
        Ok(u32::try_from(PAGES)? + 3)
    }

    /// The next request, which must be this one.
    fn next(&mut self, setup: &Setup, address: u64, permissions: u32) -> Result<PageFault> {
        let fault = self.faults.next()?;
        if (fault.device, fault.pasid, fault.last) != (setup.cdev.id, self.pasid, true)
            || (fault.address, fault.permissions) != (address, permissions)
        {
            bail!("{address:#x} was to be asked for with {permissions}, but: {fault:x?}");
        }
        Ok(fault)
    }

    /// A command over many pages asks for each when its turn comes; reading one more asks for reading.
    fn pages_come_when_asked_for(&mut self, setup: &mut Setup, memory: &Memory) -> Result<()> {
        let bytes = u32::try_from(memory.bytes())?;
        let fill = Command::fill(IOVA, bytes, 0x77).pasid(self.pasid);
        let slot = setup.device.start(&fill.asking_for_pages())?;
        for page in 0..PAGES {
            let (start, end) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            let fault = self.next(setup, IOVA + start, WRITE)?;
            if setup.device.answer(slot)?.is_some() {
                bail!("the command ended with a page missing");
            }
            let iommufd = &setup.iommufd;
            iommufd.map_part(self.ioas, memory, start..end, IOVA + start, true)?;
            self.faults.answer(&fault, Response::Success)?;
        }
        setup.device.finish(slot, bytes)?;
        for page in (0..memory.bytes()).step_by(PAGE) {
            memory.check_page(usize::try_from(page)?, 0x77)?;
        }
        let iova = IOVA + PAGES * PAGE_BYTES;
        let copy = Command::copy(iova, IOVA, 8).pasid(self.pasid);
        let slot = setup.device.start(&copy.asking_for_pages())?;
        let fault = self.next(setup, iova, READ)?;
        let page = Memory::new(PAGE)?;
        page.set_word(0, 0x1f1f)?;
        setup.iommufd.map(self.ioas, &page, iova, true)?;
        self.faults.answer(&fault, Response::Success)?;
        setup.device.finish(slot, 8)?;
        memory.check_word(0, 0x1f1f)
    }

    fn invalid_is_seen(&mut self, setup: &mut Setup) -> Result<()> {
        let iova = IOVA - PAGE_BYTES;
        let slot = self.ask_for_reading(setup, iova)?;
        let fault = self.next(setup, iova, READ)?;
        self.faults.answer(&fault, Response::Invalid)?;
        self.ends_invalid(setup, slot, iova)
    }

    fn nothing_is_asked_for_unbidden(&mut self, setup: &mut Setup) -> Result<()> {
        let iova = IOVA - PAGE_BYTES;
        let read = Command::checksum(iova, 8).pasid(self.pasid).translated();
        let answer = setup.device.run(&read)?;
        if answer.status != NO_TRANSLATION {
            bail!("a page that is not there was read: {answer:x?}");
        }
        self.faults.expect_none()
    }

    /// Whoever takes the table away answers what is not answered yet.
    fn detach_answers(&mut self, setup: &mut Setup) -> Result<()> {
        let iova = IOVA - 2 * PAGE_BYTES;
        let slot = self.ask_for_reading(setup, iova)?;
        self.next(setup, iova, READ)?;
        setup.detach(self.pasid)?;
        self.ends_invalid(setup, slot, iova)
    }

    fn ask_for_reading(&self, setup: &mut Setup, iova: u64) -> Result<usize> {
        let read = Command::checksum(iova, 8).pasid(self.pasid);
        setup.device.start(&read.asking_for_pages())
    }

    fn ends_invalid(&self, setup: &Setup, slot: usize, iova: u64) -> Result<()> {
        let answer = setup.device.wait(slot)?;
        if (answer.status, answer.fault_address) != (PAGE_INVALID, iova) {
            bail!("the answer was to be Invalid Request, but: {answer:x?}");
        }
        Ok(())
    }
}

/// A page that the program's own table lacks; how many requests the device made.
fn nested(setup: &mut Setup) -> Result<u32> {
    const TABLES: u64 = 0x10_0000;
    const DATA: u64 = 0x20_0000;
    let mut tables = Tables::new(8, TABLES)?;
    let data = Memory::new(PAGE)?;
    let ioas = setup.ioas_with(&data, DATA)?;
    setup.iommufd.map(ioas, tables.memory(), TABLES, true)?;
    let parent = Purpose {
        parent: true,
        pasid: true,
        ..Purpose::default()
    };
    let parent = setup.hwpt(ioas, &parent)?;
    let faults = setup.iommufd.fault_queue()?;
    let purpose = Purpose {
        pasid: true,
        faults: Some(faults.id),
        ..Purpose::default()
    };
    let device = setup.cdev.id;
    let table = setup.iommufd.nested(device, parent, tables.top(), &purpose);
    setup.attach(Some(NESTED_PASID), table.context("making a nested HWPT")?)?;
    let mut asked = Asked {
        pasid: Some(NESTED_PASID),
        ioas,
        faults,
    };
    let fill = Command::fill(IOVA, 4096, 0x99).pasid(asked.pasid);
    let slot = setup.device.start(&fill.asking_for_pages())?;
    let fault = asked.next(setup, IOVA, WRITE)?;
    tables.map(IOVA, DATA, READ_WRITE)?;
    asked.faults.answer(&fault, Response::Success)?;
    setup.device.finish(slot, 4096)?;
    data.check_page(0, 0x99)?;
    asked.faults.expect_none()?;
    Ok(1)
}
