// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in scalable mode without a machine: memory, a unit of ours, and raw words in both. What it binds the mirror binds on
//! the host's real iommufd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use iommu::capabilities::{Capabilities, LegacyOptions, PasidBits, ScalableOptions};
use iommu::memory::{PhysMem, Ram};
use iommu::msi::{MsiMessage, MsiSink};
use iommu::unit::{InterruptListener, Outputs, Unit};
use vfio::ram::{HostVa, RamMap, RamRegion};
use vm_memory::{GuestAddress, GuestMemoryBackend};

/// Bytes of RAM, from 0 on.
pub const RAM: u64 = 64 << 20;

const QUEUE: u64 = 0x10_0000;
const STATUS: u64 = 0x10_2000;
const ROOT: u64 = 0x10_3000;
const CONTEXTS: u64 = 0x10_4000;
const PAGE_QUEUE: u64 = 0x10_6000;
/// A directory of 2^14 entries.
const DIRECTORY: u64 = 0x20_0000;
/// Tables are allocated from here on.
const TABLES: u64 = 0x40_0000;
/// 00:02.0.
pub const SOURCE: u16 = 0x10;

const PAGE: u64 = 4096;
/// How long the unit may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Descriptors, low words.
pub const PASID_CACHE_GLOBAL: u64 = 0x37;

pub fn pasid_cache_domain(domain: u64) -> u64 {
    0x07 | domain << 16
}

pub fn pasid_cache_one(domain: u64, pasid: u32) -> u64 {
    0x17 | domain << 16 | u64::from(pasid) << 32
}

pub fn pasid_iotlb_all(domain: u64, pasid: u32) -> u64 {
    0x26 | domain << 16 | u64::from(pasid) << 32
}

pub fn pasid_iotlb_page(domain: u64, pasid: u32) -> u64 {
    0x36 | domain << 16 | u64::from(pasid) << 32
}

pub fn iotlb_domain(domain: u64) -> u64 {
    0x22 | domain << 16
}

/// The words of PASID entries.
pub fn first(table: u64, domain: u64) -> [u64; 3] {
    [0x41, domain, table]
}

pub fn second(table: u64, domain: u64) -> [u64; 3] {
    [table | 0x89, domain, 0]
}

/// The first stage on the second.
pub fn both(above: u64, below: u64, domain: u64) -> [u64; 3] {
    [below | 0xc9, domain, above]
}

pub fn pass_through(domain: u64) -> [u64; 3] {
    [0x109, domain, 0]
}

/// Bits of table entries: present, written, user, accessed and dirty; read and write.
const FIRST: u64 = 0x67;
const SECOND: u64 = 0x3;

#[derive(Debug)]
struct Nobody;

impl MsiSink for Nobody {
    fn deliver(&self, _message: MsiMessage) {}
}

impl InterruptListener for Nobody {
    fn interrupts_changed(&self) {}
}

pub struct Guest {
    pub unit: Arc<Unit>,
    pub ram: Arc<Ram>,
    pub capabilities: Capabilities,
    free: u64,
    next_table: u64,
    next_request: u64,
}

impl Guest {
    /// Everything is off.
    pub fn new() -> Result<Self> {
        let ram = Arc::new(Ram::from_ranges(&[(
            GuestAddress(0),
            usize::try_from(RAM)?,
        )])?);
        let capabilities = Capabilities::scalable(&ScalableOptions {
            base: LegacyOptions {
                caching_mode: true,
                fault_records: 1,
                ..LegacyOptions::default()
            },
            nesting: true,
            pasid: Some(PasidBits::MAX),
            execute_requests: false,
            supervisor_requests: true,
            extended_accessed: true,
            device_tlb: true,
            page_requests: true,
            ..ScalableOptions::default()
        })?;
        let outputs = Outputs {
            events: Arc::new(Nobody),
            interrupts: Arc::new(Nobody),
        };
        let unit = Unit::new(capabilities, Arc::clone(&ram) as _, outputs);
        Ok(Self {
            unit,
            ram,
            capabilities,
            free: 0,
            next_table: TABLES,
            next_request: 0,
        })
    }

    /// Where the RAM is in this process.
    pub fn map(&self) -> Result<RamMap> {
        let host = self.ram.get_host_address(GuestAddress(0))?;
        let region = RamRegion {
            gpa: GuestAddress(0),
            len: RAM,
            host: HostVa(host as u64),
        };
        Ok(RamMap::new(vec![region])?)
    }

    /// The queue with descriptors of 256 bits, the page request queue, scalable mode, and translation.
    pub fn enable(&self) -> Result<()> {
        self.set(ROOT, CONTEXTS | 1)?;
        let context = CONTEXTS + 32 * u64::from(SOURCE);
        // 2^(7 + 7) directory entries, page requests, PASIDs and device-TLB allowed, present.
        self.set(context, DIRECTORY | 7 << 9 | 0x1d)?;
        self.w64(0x90, QUEUE | 0x801);
        self.w32(0x18, 0x0400_0000);
        self.w64(0xd0, PAGE_QUEUE);
        self.w64(0x20, ROOT | 0x400);
        self.w32(0x18, 0x4400_0000);
        self.w32(0x18, 0x8400_0000);
        match self.r32(0x1c) & 0x8400_0000 {
            0x8400_0000 => Ok(()),
            other => bail!("the unit's status is {other:#x}"),
        }
    }

    pub fn set(&self, gpa: u64, word: u64) -> Result<()> {
        Ok(PhysMem::write(
            &*self.ram,
            GuestAddress(gpa),
            &word.to_le_bytes(),
        )?)
    }

    pub fn word(&self, gpa: u64) -> Result<u64> {
        Ok(self.ram.load_u64(GuestAddress(gpa))?)
    }

    fn w32(&self, offset: u64, value: u32) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn w64(&self, offset: u64, value: u64) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn r32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// A page of zeros.
    pub fn page(&mut self) -> u64 {
        let page = self.next_table;
        self.next_table += PAGE;
        page
    }

    fn leaf(&mut self, root: u64, iova: u64, bits: u64) -> Result<u64> {
        let mut table = root;
        for level in (2..=4).rev() {
            let at = table + (iova >> (12 + 9 * (level - 1)) & 511) * 8;
            if self.word(at)? & 1 == 0 {
                let below = self.page();
                self.set(at, below | bits)?;
            }
            table = self.word(at)? & 0xf_ffff_ffff_f000;
        }
        Ok(table + (iova >> 12 & 511) * 8)
    }

    /// Maps a page in a first-stage table, or takes it away.
    pub fn map_first(&mut self, root: u64, iova: u64, gpa: Option<u64>) -> Result<()> {
        let at = self.leaf(root, iova, FIRST)?;
        self.set(at, gpa.map_or(0, |gpa| gpa | FIRST))
    }

    /// The same in a second-stage table.
    pub fn map_second(&mut self, root: u64, iova: u64, gpa: Option<u64>) -> Result<()> {
        let at = self.leaf(root, iova, SECOND)?;
        self.set(at, gpa.map_or(0, |gpa| gpa | SECOND))
    }

    /// The same for reading only.
    pub fn map_read_only(&mut self, root: u64, iova: u64, gpa: u64) -> Result<()> {
        let at = self.leaf(root, iova, SECOND)?;
        self.set(at, gpa | 1)
    }

    /// Writes the entry of a PASID, whose table is made if need be. Nothing is invalidated.
    pub fn entry(&mut self, pasid: u32, words: [u64; 3]) -> Result<()> {
        let pasid = u64::from(pasid);
        let directory = DIRECTORY + pasid / 64 * 8;
        if self.word(directory)? & 1 == 0 {
            let table = self.page();
            self.set(directory, table | 1)?;
        }
        let at = (self.word(directory)? & !0xfff) + pasid % 64 * 64;
        self.set(at, 0)?;
        self.set(at + 16, words[2])?;
        self.set(at + 8, words[1])?;
        self.set(at, words[0])
    }

    /// Puts descriptors and a wait into the queue, writes the tail, and waits for the status.
    pub fn submit(&mut self, descriptors: &[(u64, u64)]) -> Result<()> {
        self.set(STATUS, 1)?;
        for (low, high) in descriptors.iter().chain(&[(0x0000_0002_0000_0025, STATUS)]) {
            let at = QUEUE + 32 * self.free;
            for (offset, word) in [(0, *low), (8, *high), (16, 0), (24, 0)] {
                self.set(at + offset, word)?;
            }
            self.free = (self.free + 1) % 256;
        }
        self.w32(0x88, u32::try_from(self.free << 5)?);
        let start = Instant::now();
        while self.word(STATUS)? != 2 {
            if self.r32(0x34) & 0x70 != 0 || start.elapsed() > PATIENCE {
                bail!("the unit's fault status is {:#x}", self.r32(0x34));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Writes the entry of a PASID and invalidates it.
    pub fn bind(&mut self, pasid: u32, words: [u64; 3], domain: u64) -> Result<()> {
        self.entry(pasid, words)?;
        self.submit(&[
            (pasid_cache_one(domain, pasid), 0),
            (pasid_iotlb_all(domain, pasid), 0),
        ])
    }

    /// Takes the fault record: its reason, source and PASID.
    pub fn fault(&self) -> Option<(u8, u16, u32)> {
        let mut cap = [0; 8];
        self.unit.read(0x08, &mut cap);
        let at = (u64::from_le_bytes(cap) >> 24 & 0x3ff) * 16;
        let mut high = [0; 8];
        self.unit.read(at + 8, &mut high);
        self.w32(at + 12, 0x8000_0000);
        let high = u64::from_le_bytes(high);
        let [source, ..] = [u16::try_from(high & 0xffff).ok()?];
        let reason = u8::try_from(high >> 32 & 0xff).ok()?;
        let pasid = u32::try_from(high >> 40 & 0xf_ffff).ok()?;
        (high >> 63 == 1).then_some((reason, source, pasid))
    }

    /// The next page request in the queue, once one is there: its first two words.
    pub fn page_request(&mut self) -> Result<[u64; 2]> {
        let start = Instant::now();
        while u64::from(self.r32(0xc8)) >> 5 == self.next_request {
            if start.elapsed() > PATIENCE {
                bail!("no page request comes");
            }
            std::thread::yield_now();
        }
        let at = PAGE_QUEUE + 32 * self.next_request;
        self.next_request = (self.next_request + 1) % 128;
        let words = [self.word(at)?, self.word(at + 8)?];
        self.w64(0xc0, self.next_request << 5);
        Ok(words)
    }
}
