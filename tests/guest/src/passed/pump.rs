// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Keeps the NVMe reading into a set of pages, and compares everything that arrives.

use anyhow::{Result, bail};

use super::nvme::{DEPTH, MOST_PAGES, Nvme, Way};
use super::space::iova;
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// Pages of the disk that are used.
pub const DISK_PAGES: u64 = 4096;

/// What page `number` of the disk holds, in every 8 bytes.
pub fn content(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A request under way.
struct Request {
    first: u64,
    /// Offsets in the buffer.
    pages: Vec<u64>,
}

/// The pump.
pub struct Pump {
    pub nvme: Nvme,
    requests: [Option<Request>; DEPTH],
    /// The next page of the disk.
    next: u64,
    /// Where in the set of pages the next request begins.
    turn: usize,
    /// Pages that arrived and were compared.
    pub moved: u64,
}

impl Pump {
    /// Writes the disk from the first pages of `buffer`, which is mapped whole at [`super::space::BUFFER`].
    pub fn new(mut nvme: Nvme, buffer: &Memory) -> Result<Self> {
        let pages: Vec<u64> = (0..MOST_PAGES as u64).map(|n| n * PAGE_BYTES).collect();
        let places: Vec<u64> = pages.iter().map(|page| iova(*page)).collect();
        for first in (0..DISK_PAGES).step_by(MOST_PAGES) {
            for (number, page) in (first..).zip(&pages) {
                buffer.fill_page(usize::try_from(*page)?, content(number))?;
            }
            nvme.transfer(Way::Write, first, &places)?;
        }
        Ok(Self {
            nvme,
            requests: [const { None }; DEPTH],
            next: 0,
            turn: 0,
            moved: 0,
        })
    }

    /// Lets one round of reads be under way, each into other pages of `set` (offsets in `buffer`), and compares what has
    /// arrived.
    pub fn work(&mut self, buffer: &Memory, set: &[u64]) -> Result<()> {
        self.reap(buffer)?;
        // All pages of the requests under way are different.
        let size = MOST_PAGES.min(set.len() / DEPTH);
        while self.requests.iter().any(Option::is_none) {
            let from = self.turn * size;
            let pages = set[from..from + size].to_vec();
            if self.is_busy(&pages) {
                return Ok(());
            }
            self.turn = (self.turn + 1) % (set.len() / size);
            let places: Vec<u64> = pages.iter().map(|page| iova(*page)).collect();
            let first = self.next;
            self.next = (first + size as u64) % (DISK_PAGES - size as u64);
            let id = self.nvme.submit(Way::Read, first, &places)?;
            self.requests[id] = Some(Request { first, pages });
        }
        Ok(())
    }

    /// Waits for everything under way.
    pub fn drain(&mut self, buffer: &Memory) -> Result<()> {
        while self.requests.iter().any(Option::is_some) {
            self.reap(buffer)?;
        }
        Ok(())
    }

    /// Reads into the page at `offset`, and compares. Nothing else may be under way.
    pub fn read_one(&mut self, buffer: &Memory, offset: u64) -> Result<()> {
        let first = self.next;
        self.nvme.transfer(Way::Read, first, &[iova(offset)])?;
        buffer.check_page(usize::try_from(offset)?, content(first))?;
        self.moved += 1;
        Ok(())
    }

    fn is_busy(&self, pages: &[u64]) -> bool {
        let mut under_way = self.requests.iter().flatten();
        under_way.any(|request| request.pages.first() == pages.first())
    }

    fn reap(&mut self, buffer: &Memory) -> Result<()> {
        while let Some(id) = self.nvme.poll()? {
            let Some(request) = self.requests[id].take() else {
                bail!("request {id} ended twice");
            };
            for (number, page) in (request.first..).zip(&request.pages) {
                let offset = usize::try_from(*page)?;
                // The whole page of one in eight, and both ends of the others.
                if number % 8 == 0 {
                    buffer.check_page(offset, content(number))?;
                } else {
                    buffer.check_word(offset, content(number))?;
                    buffer.check_word(offset + PAGE - 8, content(number))?;
                }
                self.moved += 1;
            }
        }
        Ok(())
    }
}
