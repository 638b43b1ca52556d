// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of dmatest, as docs/dmatest.md describes the device: commands into the ring, answers out of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_memory::{MmapRegion, VolatileMemory};

/// The numbers that dmatest answers to.
pub const VENDOR: u16 = 0x1234;
pub const DEVICE: u16 = 0xd7a7;

const MAGIC: u32 = 0x5441_4d44;
const STATUS: usize = 0x1c;
const TAIL: usize = 0x24;
const ATC_HITS: usize = 0x44;
const ATC_INVALIDATIONS: usize = 0x4c;
const PAGE_REQUESTS: usize = 0x50;
const RING: usize = 0x1000;
const SLOTS: usize = 64;
const SLOT_BYTES: usize = 64;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The statuses of which programs speak.
pub const DONE: u32 = 1;
pub const BLOCKED: u32 = 6;
pub const NO_TRANSLATION: u32 = 8;
pub const TRANSLATION_REFUSED: u32 = 9;
pub const PAGE_INVALID: u32 = 10;

/// A command, as its slot holds it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Command {
    control: u32,
    pasid: u32,
    address: u64,
    operand: u64,
    length: u32,
}

/// What became of a command.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: u32,
    pub fault_address: u64,
    /// Bytes done.
    pub done: u32,
    pub result: u64,
}

impl Command {
    /// Writes the 8 bytes of `pattern` over and over.
    pub fn fill(address: u64, length: u32, pattern: u64) -> Self {
        let operand = pattern;
        Self::new(4, address, operand, length)
    }

    /// Copies memory.
    pub fn copy(from: u64, to: u64, length: u32) -> Self {
        Self::new(3, from, to, length)
    }

    /// Reads memory; the result is a checksum.
    pub fn checksum(address: u64, length: u32) -> Self {
        Self::new(5, address, 0, length)
    }

    /// Adds to the 8 bytes at `address`; the result is the value before.
    pub fn fetch_add(address: u64, addend: u64) -> Self {
        Self::new(6, address, addend, 8)
    }

    fn new(operation: u32, address: u64, operand: u64, length: u32) -> Self {
        Self {
            control: operation,
            address,
            operand,
            length,
            ..Self::default()
        }
    }

    /// With requests of this PASID, if there is one.
    pub fn pasid(mut self, pasid: Option<u32>) -> Self {
        if let Some(pasid) = pasid {
            self.control |= 1 << 8;
            self.pasid = pasid;
        }
        self
    }

    /// With supervisor privilege, which takes a PASID.
    pub fn privileged(mut self) -> Self {
        self.control |= 1 << 9;
        self
    }

    /// As instruction fetches, which take a PASID.
    pub fn execute(mut self) -> Self {
        self.control |= 1 << 10;
        self
    }

    /// The device translates.
    pub fn translated(mut self) -> Self {
        self.control |= 1 << 11;
        self
    }

    /// The device translates and asks for pages that are not there.
    pub fn asking_for_pages(self) -> Self {
        let mut command = self.translated();
        command.control |= 1 << 12;
        command
    }

    /// Its requests only read.
    pub fn only_reads(&self) -> bool {
        self.control & 0xff == 5
    }

    /// The PASID of its requests.
    pub fn requested_pasid(&self) -> Option<u32> {
        (self.control & 1 << 8 != 0).then_some(self.pasid)
    }
}

/// The device.
pub struct Dmatest {
    bar: MmapRegion,
    tail: usize,
}

impl Dmatest {
    /// The device behind this BAR 0, whose ring must be empty.
    pub fn new(bar: MmapRegion) -> Result<Self> {
        let mut device = Self { bar, tail: 0 };
        let (magic, busy) = (device.register(0)?, device.register(STATUS)? & 1);
        if magic != MAGIC || busy != 0 {
            bail!("no idle dmatest: it says {magic:#x}");
        }
        device.tail = usize::try_from(device.register(TAIL)?)?;
        Ok(device)
    }

    /// Starts a command; its slot. There may be others under way.
    pub fn start(&mut self, command: &Command) -> Result<usize> {
        let slot = self.tail;
        let at = RING + slot * SLOT_BYTES;
        self.set_register(at, command.control)?;
        self.set_register(at + 4, command.pasid)?;
        self.set_word(at + 8, command.address)?;
        self.set_word(at + 16, command.operand)?;
        self.set_register(at + 32, command.length)?;
        self.tail = (slot + 1) % SLOTS;
        self.set_register(TAIL, u32::try_from(self.tail)?)?;
        Ok(slot)
    }

    /// The answer to the command in `slot`, if it has ended.
    pub fn answer(&self, slot: usize) -> Result<Option<Answer>> {
        let at = RING + slot * SLOT_BYTES;
        let status = self.register(at + 48)?;
        if status == 0 {
            return Ok(None);
        }
        Ok(Some(Answer {
            status,
            fault_address: self.word(at + 40)?,
            done: self.register(at + 52)?,
            result: self.word(at + 56)?,
        }))
    }

    /// Waits for the answer to the command in `slot`.
    pub fn wait(&self, slot: usize) -> Result<Answer> {
        let start = Instant::now();
        // Reading a register costs an exit, and where there is one processor the device waits for it meanwhile.
        let mut pause = Duration::from_micros(50);
        while start.elapsed() < PATIENCE {
            if let Some(answer) = self.answer(slot)? {
                return Ok(answer);
            }
            sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(2));
        }
        bail!("the command in slot {slot} does not end")
    }

    /// Carries a command out.
    pub fn run(&mut self, command: &Command) -> Result<Answer> {
        let slot = self.start(command)?;
        self.wait(slot)
    }

    /// Carries a command out, and fails unless it was done whole; its result.
    pub fn done(&mut self, command: &Command) -> Result<u64> {
        let slot = self.start(command)?;
        let result = self.finish(slot, command.length);
        result.with_context(|| format!("{command:x?}"))
    }

    /// Carries a command out, and fails unless its first access is refused.
    pub fn blocked(&mut self, command: &Command) -> Result<()> {
        let answer = self.run(command)?;
        if (answer.status, answer.fault_address) != (BLOCKED, command.address) {
            bail!("{command:x?} was to be refused, but: {answer:x?}");
        }
        Ok(())
    }

    /// Waits for the command in `slot`, and fails unless all of its bytes were done; its result.
    pub fn finish(&self, slot: usize, bytes: u32) -> Result<u64> {
        let answer = self.wait(slot)?;
        if (answer.status, answer.done) != (DONE, bytes) {
            bail!("it was not done: {answer:x?}");
        }
        Ok(answer.result)
    }

    /// Accesses for which the device had a translation.
    pub fn hits(&self) -> Result<u32> {
        self.register(ATC_HITS)
    }

    /// Page requests that the device has made.
    pub fn page_requests(&self) -> Result<u32> {
        self.register(PAGE_REQUESTS)
    }

    /// Device-TLB invalidations that the device has received.
    pub fn invalidations(&self) -> Result<u32> {
        self.register(ATC_INVALIDATIONS)
    }

    fn register(&self, offset: usize) -> Result<u32> {
        let register = self.bar.get_atomic_ref::<AtomicU32>(offset);
        Ok(register.context("beyond BAR 0")?.load(Ordering::Acquire))
    }

    fn set_register(&self, offset: usize, value: u32) -> Result<()> {
        let register = self.bar.get_atomic_ref::<AtomicU32>(offset);
        register
            .context("beyond BAR 0")?
            .store(value, Ordering::Release);
        Ok(())
    }

    fn word(&self, offset: usize) -> Result<u64> {
        let word = self.bar.get_atomic_ref::<AtomicU64>(offset);
        Ok(word.context("beyond BAR 0")?.load(Ordering::Acquire))
    }

    fn set_word(&self, offset: usize, value: u64) -> Result<()> {
        let word = self.bar.get_atomic_ref::<AtomicU64>(offset);
        word.context("beyond BAR 0")?
            .store(value, Ordering::Release);
        Ok(())
    }
}
