// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Dirty tracking: the bitmap shows the pages that the device wrote since they were last cleared, all of them and no others.

use anyhow::{Context, Result, bail};

use super::driver::Command;
use super::refusals::Mode;
use super::setup::Setup;
use crate::iommufd::{ObjectId, Purpose};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pattern::Random;

const IOVA: u64 = 0x8000_0000;

/// No multiple of the bits in a word, and more than a table of the last level covers.
const PAGES: usize = 1000;

const ROUNDS: u64 = 6;

/// Writes a round, each of one to [`MOST`] pages.
const WRITES: usize = 24;
const MOST: u64 = 5;

struct Dirty {
    setup: Setup,
    hwpt: ObjectId,
    memory: Memory,
}

/// Runs `dmatest dirty`.
pub fn run() -> Result<String> {
    let setup = Setup::new(Mode::SecondStage)?;
    let memory = Memory::new(PAGES * PAGE)?;
    let ioas = setup.iommufd.ioas()?;
    // A large page would be dirty as a whole.
    setup.iommufd.small_pages_only(ioas)?;
    setup.iommufd.map(ioas, &memory, IOVA, true)?;
    let purpose = Purpose {
        dirty: true,
        ..Purpose::default()
    };
    let hwpt = setup.hwpt(ioas, &purpose)?;
    setup.attach(None, hwpt)?;
    let mut dirty = Dirty {
        setup,
        hwpt,
        memory,
    };
    let mut total = 0;
    dirty.track(true)?;
    dirty.expect(&[false; PAGES], true).context("at first")?;
    for round in 0..ROUNDS {
        let pages = dirty.round(round);
        total += pages.with_context(|| format!("in round {round}"))?;
    }
    dirty.starts_anew()?;
    Ok(format!("{total} pages, {}", dirty.setup.refusals))
}

impl Dirty {
    /// Writes at random, reads everywhere, and compares the bitmap; how many pages were written.
    fn round(&mut self, round: u64) -> Result<usize> {
        let mut written = [false; PAGES];
        let mut random = Random::new(round);
        for number in 0..WRITES {
            let pages = random.next() % MOST + 1;
            let first = random.next() % (PAGES as u64 - pages);
            let start = IOVA + first * PAGE_BYTES;
            let pattern = round << 32 | number as u64;
            if number % 3 == 0 {
                // Eight bytes are as good as a page.
                let at = start + random.next() % 512 * 8;
                self.setup.device.done(&Command::fetch_add(at, 1))?;
                written[usize::try_from(first)?] = true;
            } else {
                let bytes = u32::try_from(pages * PAGE_BYTES)?;
                self.setup
                    .device
                    .done(&Command::fill(start, bytes, pattern))?;
                for page in first..first + pages {
                    written[usize::try_from(page)?] = true;
                }
                let last = usize::try_from((first + pages - 1) * PAGE_BYTES)?;
                self.memory.check_page(last, pattern)?;
            }
        }
        let bytes = u32::try_from(self.memory.bytes())?;
        self.setup.device.done(&Command::checksum(IOVA, bytes))?;
        self.expect(&written, false).context("without clearing")?;
        self.expect(&written, true).context("when clearing")?;
        self.expect(&[false; PAGES], true)
            .context("after clearing")?;
        Ok(written.iter().filter(|page| **page).count())
    }

    /// What is written while nothing is tracked does not count.
    fn starts_anew(&mut self) -> Result<()> {
        self.setup.device.done(&Command::fill(IOVA, 8192, 1))?;
        self.track(false)?;
        self.setup
            .device
            .done(&Command::fill(IOVA + 8192, 8192, 2))?;
        self.track(true)?;
        self.expect(&[false; PAGES], true)
            .context("when tracking was switched on again")?;
        self.setup
            .device
            .done(&Command::fill(IOVA + 4096, 4096, 3))?;
        let mut written = [false; PAGES];
        written[1] = true;
        self.expect(&written, true)
            .context("after tracking was switched on again")
    }

    fn expect(&self, written: &[bool], clear: bool) -> Result<()> {
        let found = self.setup.iommufd.dirty(self.hwpt, IOVA, PAGES, clear)?;
        let pairs = || (0..PAGES).filter(|page| found[*page] != written[*page]);
        match pairs().next() {
            None => Ok(()),
            Some(page) => bail!(
                "{} pages are wrong in the bitmap; page {page} was{} written",
                pairs().count(),
                if written[page] { "" } else { " not" }
            ),
        }
    }

    fn track(&self, enable: bool) -> Result<()> {
        let set = self.setup.iommufd.track_dirty(self.hwpt, enable);
        set.with_context(|| format!("switching dirty tracking ({enable})"))
    }
}
