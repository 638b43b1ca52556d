// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of one NVMe controller (NVM Express Base Specification 1.4): one queue of reads and writes, polled.
//!
//! Queues and lists of pages lie in memory of the driver's own, which must be mapped for the device at [`QUEUES`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_memory::{MmapRegion, VolatileMemory};

use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// The numbers of QEMU's controller.
pub const VENDOR: u16 = 0x1b36;
pub const DEVICE: u16 = 0x0010;

/// Where the device finds the driver's memory.
pub const QUEUES: u64 = 0x0010_0000;

/// The most pages of a request: what the controller takes, and what fits in one list.
pub const MOST_PAGES: usize = 128;
/// The most requests at a time.
pub const DEPTH: usize = 8;

/// Registers.
const INTERRUPT_MASK_SET: usize = 0x0c;
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const ADMIN_QUEUE_SIZES: usize = 0x24;
const ADMIN_SUBMISSIONS: usize = 0x28;
const ADMIN_COMPLETIONS: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// Enabled; entries of 64 and 16 bytes.
const ENABLED: u32 = 1 | 6 << 16 | 4 << 20;

/// Entries of each queue, and pages of each half of one.
const ENTRIES: usize = 64;
/// Logical blocks of 512 bytes in a page.
const BLOCKS: u64 = PAGE_BYTES / 512;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the disk into memory.
    Read,
    /// From memory to the disk.
    Write,
}

/// A pair of queues, at pages `2 * id` and `2 * id + 1` of the driver's memory.
#[derive(Debug, Default)]
struct Queue {
    id: usize,
    tail: usize,
    head: usize,
    /// What the phase bit of a new completion is not.
    old_phase: u64,
}

/// The controller.
pub struct Nvme {
    bar: MmapRegion,
    memory: Memory,
    admin: Queue,
    io: Queue,
    /// Requests under way, by number.
    busy: [bool; DEPTH],
}

impl Nvme {
    /// The driver's memory, to be mapped at [`QUEUES`] before the controller is started.
    pub fn memory() -> Result<Memory> {
        // Two pages a queue pair, and a list for each request.
        Memory::new((4 + DEPTH) * PAGE)
    }

    /// Starts the controller behind this BAR 0.
    pub fn start(bar: MmapRegion, memory: Memory) -> Result<Self> {
        let mut nvme = Self {
            bar,
            memory,
            admin: Queue::default(),
            io: Queue {
                id: 1,
                ..Queue::default()
            },
            busy: [false; DEPTH],
        };
        nvme.set(CONFIGURATION, 0)?;
        nvme.until_ready(0)?;
        nvme.set(INTERRUPT_MASK_SET, u32::MAX)?;
        let size = u32::try_from(ENTRIES - 1)?;
        nvme.set(ADMIN_QUEUE_SIZES, size << 16 | size)?;
        nvme.set_wide(ADMIN_SUBMISSIONS, QUEUES)?;
        nvme.set_wide(ADMIN_COMPLETIONS, QUEUES + PAGE_BYTES)?;
        nvme.set(CONFIGURATION, ENABLED)?;
        nvme.until_ready(1)?;
        // Completions of queue 1, without interrupts; then its submissions.
        let pair = 1 | u64::from(size) << 16;
        nvme.command([5, QUEUES + 3 * PAGE_BYTES, pair | 1 << 32])?;
        nvme.command([1, QUEUES + 2 * PAGE_BYTES, pair | 1 << 32 | 1 << 48])?;
        Ok(nvme)
    }

    /// Starts moving whole pages between the disk, from its page `first` on, and these addresses. Returns the request's number.
    pub fn submit(&mut self, way: Way, first: u64, pages: &[u64]) -> Result<usize> {
        let free = self.busy.iter().position(|busy| !busy);
        let id = free.context("too many requests at a time")?;
        let list = (4 + id) * PAGE;
        let (Some(start), 1..=MOST_PAGES) = (pages.first(), pages.len()) else {
            bail!("a request of {} pages", pages.len());
        };
        for (index, page) in pages.iter().skip(1).enumerate() {
            self.memory.set_word(list + 8 * index, *page)?;
        }
        let second = match pages {
            [_, second] => *second,
            [_] => 0,
            _ => QUEUES + list as u64,
        };
        let opcode = match way {
            Way::Read => 2,
            Way::Write => 1,
        };
        let mut words = [0; 8];
        words[0] = opcode | (id as u64) << 16 | 1 << 32;
        words[3] = *start;
        words[4] = second;
        words[5] = first * BLOCKS;
        words[6] = pages.len() as u64 * BLOCKS - 1;
        self.busy[id] = true;
        push(&mut self.io, &self.memory, &self.bar, words)?;
        Ok(id)
    }

    /// The number of a request that was done well, if one was done.
    pub fn poll(&mut self) -> Result<Option<usize>> {
        let Some(id) = pop(&mut self.io, &self.memory, &self.bar)? else {
            return Ok(None);
        };
        *self.busy.get_mut(id).context("an unknown request ended")? = false;
        Ok(Some(id))
    }

    /// Moves pages and waits.
    pub fn transfer(&mut self, way: Way, first: u64, pages: &[u64]) -> Result<()> {
        let id = self.submit(way, first, pages)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.poll()? {
                Some(ended) if ended == id => return Ok(()),
                Some(_) => bail!("a request ended that nobody waits for"),
                None if Instant::now() > deadline => bail!("a request does not end"),
                None => thread::yield_now(),
            }
        }
    }

    /// An administrative command: opcode, first address, and words 10 and 11.
    fn command(&mut self, [opcode, address, arguments]: [u64; 3]) -> Result<()> {
        let mut words = [0; 8];
        (words[0], words[3], words[5]) = (opcode, address, arguments);
        push(&mut self.admin, &self.memory, &self.bar, words)?;
        let deadline = Instant::now() + PATIENCE;
        while pop(&mut self.admin, &self.memory, &self.bar)?.is_none() {
            if Instant::now() > deadline {
                bail!("an administrative command does not end");
            }
            thread::yield_now();
        }
        Ok(())
    }

    fn until_ready(&self, ready: u32) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self
            .bar
            .get_atomic_ref::<AtomicU32>(STATUS)?
            .load(Ordering::Acquire)
            & 1
            != ready
        {
            if Instant::now() > deadline {
                bail!("the controller does not become ready ({ready})");
            }
            thread::yield_now();
        }
        Ok(())
    }

    fn set(&self, at: usize, value: u32) -> Result<()> {
        set(&self.bar, at, value)
    }

    fn set_wide(&self, at: usize, value: u64) -> Result<()> {
        self.set(at, u32::try_from(value & 0xffff_ffff)?)?;
        self.set(at + 4, u32::try_from(value >> 32)?)
    }
}

fn set(bar: &MmapRegion, at: usize, value: u32) -> Result<()> {
    let register = bar.get_atomic_ref::<AtomicU32>(at)?;
    register.store(value, Ordering::Release);
    Ok(())
}

/// Puts a command into a queue.
fn push(queue: &mut Queue, memory: &Memory, bar: &MmapRegion, words: [u64; 8]) -> Result<()> {
    let slot = 2 * queue.id * PAGE + 64 * queue.tail;
    for (index, word) in words.into_iter().enumerate() {
        memory.set_word(slot + 8 * index, word)?;
    }
    queue.tail = (queue.tail + 1) % ENTRIES;
    set(bar, DOORBELLS + 8 * queue.id, u32::try_from(queue.tail)?)
}

/// The number of the next command that ended, which must have ended well.
fn pop(queue: &mut Queue, memory: &Memory, bar: &MmapRegion) -> Result<Option<usize>> {
    let slot = (2 * queue.id + 1) * PAGE + 16 * queue.head;
    let word = memory.word(slot + 8)?;
    if word >> 48 & 1 == queue.old_phase {
        return Ok(None);
    }
    queue.head = (queue.head + 1) % ENTRIES;
    if queue.head == 0 {
        queue.old_phase ^= 1;
    }
    set(
        bar,
        DOORBELLS + 8 * queue.id + 4,
        u32::try_from(queue.head)?,
    )?;
    match word >> 49 & 0x7ff {
        0 => Ok(Some(usize::try_from(word >> 32 & 0xffff)?)),
        status => bail!("the controller ended a request with status {status:#x}"),
    }
}
