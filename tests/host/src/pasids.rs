// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs and first-stage tables of a guest, bound on the host's real iommufd: a unit of ours whose guest is this program, the
//! mirror, and dmatest doing DMA by whatever is bound. The host's unit has to nest.

mod dmatest;
mod guest;
mod pages;
mod two_stages;

use std::sync::Arc;

use anyhow::{Result, bail};
use dmatest::{BLOCKED, Command, DONE, Dmatest};
use guest::{
    Guest, PASID_CACHE_GLOBAL, RAM, SOURCE, first, iotlb_domain, pasid_cache_domain,
    pasid_cache_one, pasid_iotlb_page, pass_through, second,
};
use iommu::follow::{DeviceHandle, FollowedDevice, PasidBudget};
use iommu::ids::{Requester, SourceId};
use vfio::hardware::Support;
use vfio::iommufd::{Iommufd, Options};
use vfio::mirror::{self, Budget, Mirror, UnitId};
use vfio::pci_address::PciAddress;
use vfio::shared::Shared;
use vfio::sysfs::HostDevice;

use crate::check::same;

const DEVICE: DeviceHandle = DeviceHandle(3);
/// Where everybody's page is in their own address space.
const IOVA: u64 = 0x4000_0000;
/// How many PASIDs are bound at a time.
const MANY: u32 = 256;
/// The domain id of most entries.
const DOMAIN: u64 = 1;

pub struct Bench {
    guest: Guest,
    mirror: Mirror,
    backend: Shared<Iommufd>,
    device: Dmatest,
    requester: Arc<Requester>,
    support: Support,
}

/// Runs `pasids BDF ROUNDS`.
pub fn run(address: PciAddress, rounds: u32) -> Result<()> {
    let mut bench = Bench::new(address)?;
    bench.own_requests()?;
    bench.many()?;
    bench.second_stage()?;
    bench.two_stages()?;
    bench.passes_through()?;
    bench.invalidated()?;
    bench.moves_under_dma()?;
    bench.only_what_differs()?;
    bench.refused()?;
    bench.unbound()?;
    bench.churn(rounds)?;
    if bench.support.page_requests {
        bench.page_requests()?;
    } else {
        println!("page requests: none on this host");
    }
    bench.end()?;
    println!("PASIDS ok");
    Ok(())
}

impl Bench {
    fn new(address: PciAddress) -> Result<Self> {
        let guest = Guest::new()?;
        let map = guest.map()?;
        let mut backend = Iommufd::new(&map, Options::default())?;
        let file = backend.open(DEVICE, &HostDevice::read(address)?, None)?;
        println!("hardware {:x?}", backend.hardware(DEVICE));
        let support = backend.support(DEVICE)?;
        println!("support {support:?}");
        if !support.first_stage || support.pasid_bits < 10 {
            bail!("the host does not nest, or has no PASIDs");
        }
        let backend = Shared::new(backend);
        let options = mirror::Options {
            budget: Budget::for_ram(RAM),
            compaction: true,
        };
        let host = Box::new(backend.clone());
        let mirror = Mirror::new(host, Arc::clone(&guest.ram) as _, map, options);
        let follower = mirror.follower(UnitId(0), guest.capabilities);
        guest.unit.set_follower(follower)?;
        let requester = Arc::new(Requester::new(SourceId(SOURCE)));
        guest.unit.follow(FollowedDevice {
            handle: DEVICE,
            requester: requester.clone(),
            pasids: Some(PasidBudget {
                bits: 20,
                bindings: 4096,
                tables: 4096,
            }),
        })?;
        let mut bench = Self {
            guest,
            mirror,
            backend,
            device: Dmatest::new(file)?,
            requester,
            support,
        };
        bench.reaches(
            "all RAM while translation is off",
            None,
            0x30_0000,
            0x30_0000,
        )?;
        bench.guest.enable()?;
        bench.is_blocked("no entry is present", None)?;
        Ok(bench)
    }

    /// Fails unless what the device writes at `iova` with `pasid` is at `gpa` afterwards.
    fn reaches(&mut self, what: &str, pasid: Option<u32>, iova: u64, gpa: u64) -> Result<()> {
        let pattern = gpa.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self.guest.set(gpa + 64, 0)?;
        let status = self
            .device
            .run(&Command::fill(pasid, iova + 64, 8, pattern))?;
        let found = self.guest.word(gpa + 64)?;
        if (status, found) != (DONE, pattern) {
            bail!(
                "{what}: status {status}, {found:#x} and not {pattern:#x} at {gpa:#x}; {:?}",
                self.mirror.report().devices
            );
        }
        Ok(())
    }

    fn is_blocked(&mut self, what: &str, pasid: Option<u32>) -> Result<()> {
        let status = self.device.run(&Command::fill(pasid, IOVA + 64, 8, 0))?;
        if status != BLOCKED {
            bail!("{what}: status {status} and not {BLOCKED}");
        }
        Ok(())
    }

    /// A first-stage table with one page at [`IOVA`]; the table and the page.
    fn table(&mut self) -> Result<(u64, u64)> {
        let (root, page) = (self.guest.page(), self.guest.page());
        self.guest.map_first(root, IOVA, Some(page))?;
        Ok((root, page))
    }

    /// Requests without PASID through a first-stage table, another one, all RAM, a second-stage table.
    fn own_requests(&mut self) -> Result<()> {
        for _ in 0..2 {
            let (root, page) = self.table()?;
            self.guest.bind(0, first(root, DOMAIN), DOMAIN)?;
            self.reaches("own first stage", None, IOVA, page)?;
        }
        self.guest.bind(0, pass_through(DOMAIN), DOMAIN)?;
        self.reaches("own pass-through", None, 0x30_0000, 0x30_0000)?;
        let (root, page) = (self.guest.page(), self.guest.page());
        self.guest.map_second(root, IOVA, Some(page))?;
        self.guest.bind(0, second(root, 9), 9)?;
        self.reaches("own second stage", None, IOVA, page)?;
        same("faults of own requests", &self.guest.fault(), &None)
    }

    /// Many PASIDs, each with a table and a page of its own; none leaks into another.
    fn many(&mut self) -> Result<()> {
        let mut pages = Vec::new();
        for pasid in 1..=MANY {
            let (root, page) = self.table()?;
            self.guest.entry(pasid, first(root, DOMAIN))?;
            pages.push((pasid, page));
        }
        self.guest.submit(&[(PASID_CACHE_GLOBAL, 0)])?;
        for (pasid, page) in &pages {
            self.guest.set(*page, 0)?;
            let value = u64::from(*pasid) << 32 | page;
            let command = Command::fill(Some(*pasid), IOVA, 8, value);
            let status = self.device.run(&command)?;
            if status != DONE {
                bail!("PASID {pasid}: status {status}");
            }
        }
        for (pasid, page) in &pages {
            let found = self.guest.word(*page)?;
            if found != u64::from(*pasid) << 32 | page {
                bail!("PASID {pasid} wrote {found:#x} at {page:#x}");
            }
        }
        self.is_blocked("a PASID that is not bound", Some(MANY + 1))?;
        let tables = self.mirror.tables().len();
        println!("{MANY} PASIDs through {tables} tables");
        same("faults of many", &self.guest.fault(), &None)
    }

    /// A PASID through a copy of a second-stage table.
    fn second_stage(&mut self) -> Result<()> {
        let (root, page, other) = (self.guest.page(), self.guest.page(), self.guest.page());
        self.guest.map_second(root, IOVA, Some(page))?;
        self.guest.bind(0x300, second(root, 5), 5)?;
        self.reaches("second stage", Some(0x300), IOVA, page)?;
        self.guest.map_second(root, IOVA, Some(other))?;
        self.guest.submit(&[(iotlb_domain(5), 0)])?;
        self.reaches("second stage, moved", Some(0x300), IOVA, other)?;
        self.guest.map_second(root, IOVA, None)?;
        self.guest.submit(&[(iotlb_domain(5), 0)])?;
        self.is_blocked("second stage, unmapped", Some(0x300))?;
        same("faults of the second stage", &self.guest.fault(), &None)
    }

    fn passes_through(&mut self) -> Result<()> {
        self.guest.bind(0x301, pass_through(6), 6)?;
        self.reaches("pass-through", Some(0x301), 0x31_0000, 0x31_0000)
    }

    /// What the guest changes in a first-stage table counts once it is invalidated.
    fn invalidated(&mut self) -> Result<()> {
        let (root, page) = self.table()?;
        self.guest.bind(0x302, first(root, DOMAIN), DOMAIN)?;
        self.reaches("before", Some(0x302), IOVA, page)?;
        let calls = self.mirror.stats().calls.invalidate;
        for _ in 0..8 {
            let page = self.guest.page();
            self.guest.map_first(root, IOVA, Some(page))?;
            // Twice in a batch, leaves only.
            let descriptor = (pasid_iotlb_page(DOMAIN, 0x302), IOVA | 0x40);
            self.guest.submit(&[descriptor, descriptor])?;
            self.reaches("after", Some(0x302), IOVA, page)?;
        }
        self.guest.map_first(root, IOVA, None)?;
        self.guest
            .submit(&[(pasid_iotlb_page(DOMAIN, 0x302), IOVA | 0x40)])?;
        self.is_blocked("a page that went", Some(0x302))?;
        let calls = self.mirror.stats().calls.invalidate - calls;
        same("calls for nine batches", &calls, &9)
    }

    /// A live entry changes its table again and again while another PASID does DMA.
    fn moves_under_dma(&mut self) -> Result<()> {
        let length = 1 << 20;
        let (root, _) = self.table()?;
        let pages: Vec<u64> = (0..2 * length / 4096).map(|_| self.guest.page()).collect();
        for (iova, page) in (IOVA..).step_by(4096).zip(&pages) {
            self.guest.map_first(root, iova, Some(*page))?;
        }
        self.guest.bind(0x303, first(root, 7), 7)?;
        let tables = [self.table()?, self.table()?];
        let mut moves = 0;
        for round in 0..8u64 {
            let fill = Command::fill(Some(0x303), IOVA, 1 << 20, round + 1);
            let copy = Command::copy(Some(0x303), IOVA, IOVA + length, 1 << 20);
            for command in [fill, copy] {
                let slot = self.device.start(&command)?;
                loop {
                    let (root, _) = tables[moves % 2];
                    self.guest.bind(0x304, first(root, DOMAIN), DOMAIN)?;
                    moves += 1;
                    match self.device.status(slot)? {
                        0 => {}
                        DONE => break,
                        status => bail!("status {status} while another PASID moved"),
                    }
                }
            }
            let last = self.guest.word(pages[pages.len() - 1])?;
            if last != round + 1 {
                bail!("round {round} brought {last:#x}");
            }
        }
        let (_, page) = tables[(moves + 1) % 2];
        self.reaches("where it moved last", Some(0x304), IOVA, page)?;
        println!("{moves} moves under DMA");
        same("faults under DMA", &self.guest.fault(), &None)
    }

    /// Global and domain-selective invalidations cost the host what differs.
    fn only_what_differs(&mut self) -> Result<()> {
        let calls = |bench: &Self| {
            let calls = bench.mirror.stats().calls;
            calls.attach + calls.detach
        };
        let before = calls(self);
        self.guest.submit(&[(PASID_CACHE_GLOBAL, 0)])?;
        same("calls when nothing differs", &(calls(self) - before), &0)?;
        let (root, page) = self.table()?;
        self.guest.entry(17, first(root, DOMAIN))?;
        self.guest.submit(&[(pasid_cache_domain(77), 0)])?;
        same("calls for another domain", &(calls(self) - before), &0)?;
        self.guest.submit(&[(pasid_cache_domain(DOMAIN), 0)])?;
        same("calls for one that differs", &(calls(self) - before), &1)?;
        self.reaches("the one that differs", Some(17), IOVA, page)
    }

    /// What the host cannot do is blocked, and the guest knows.
    fn refused(&mut self) -> Result<()> {
        let wide = 1 << self.support.pasid_bits;
        let (root, page) = self.table()?;
        if self.support.pasid_bits < 20 {
            self.guest.bind(wide, first(root, DOMAIN), DOMAIN)?;
            let fault = Some((0x5b, SOURCE, wide));
            same("fault of a PASID too wide", &self.guest.fault(), &fault)?;
        }
        // Privilege that the entry does not allow its requests, which the kernel cannot be told (SRE, SMEP).
        let [low, domain, high] = first(root, DOMAIN);
        self.guest.bind(0x305, [low, domain, high | 0x41], DOMAIN)?;
        let fault = Some((0x5b, SOURCE, 0x305));
        same("fault of what the host cannot", &self.guest.fault(), &fault)?;
        self.is_blocked("what the host cannot", Some(0x305))?;
        self.guest.bind(0x305, first(root, DOMAIN), DOMAIN)?;
        self.reaches("what it can after all", Some(0x305), IOVA, page)
    }

    fn unbound(&mut self) -> Result<()> {
        let (root, page) = self.table()?;
        self.guest.bind(0x306, first(root, DOMAIN), DOMAIN)?;
        self.reaches("bound", Some(0x306), IOVA, page)?;
        self.guest.entry(0x306, [0; 3])?;
        self.guest.submit(&[(pasid_cache_one(DOMAIN, 0x306), 0)])?;
        self.is_blocked("unbound", Some(0x306))?;
        println!("unbound: ok");
        Ok(())
    }

    /// Binds and unbinds in random order; each PASID reaches what it was told last.
    fn churn(&mut self, rounds: u32) -> Result<()> {
        let tables = (0..8).map(|_| self.table()).collect::<Result<Vec<_>>>()?;
        let mut bound = [None; 32];
        let mut state = 0x1234_5678u32;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            usize::try_from(state >> 8).unwrap_or_default() % below
        };
        for round in 0..rounds {
            let (index, choice) = (random(bound.len()), random(10));
            let pasid = 0x200 + u32::try_from(index)?;
            bound[index] = tables.get(choice).copied();
            let words = bound[index].map_or([0; 3], |(root, _)| first(root, DOMAIN));
            self.guest.bind(pasid, words, DOMAIN)?;
            if round % 16 == 0 {
                self.is_as_bound(pasid, bound[index])?;
            }
        }
        for (pasid, place) in (0x200..).zip(bound) {
            self.is_as_bound(pasid, place)?;
        }
        println!("{rounds} binds and unbinds");
        same("faults of the churn", &self.guest.fault(), &None)
    }

    fn is_as_bound(&mut self, pasid: u32, place: Option<(u64, u64)>) -> Result<()> {
        match place {
            Some((_, page)) => self.reaches("churn", Some(pasid), IOVA, page),
            None => self.is_blocked("churn", Some(pasid)),
        }
    }

    /// Everything off again: nothing is left on the host but the table of all RAM.
    fn end(&mut self) -> Result<()> {
        self.guest.unit.reset();
        self.reaches("all RAM after the reset", None, 0x32_0000, 0x32_0000)?;
        self.is_blocked("no PASID after the reset", Some(1))?;
        same("tables after the reset", &self.mirror.tables().len(), &0)?;
        self.guest.unit.unfollow(DEVICE);
        self.mirror.forget(DEVICE);
        let devices = self.mirror.report().devices.len();
        same("endpoints after the device left", &devices, &0)?;
        same("the device answers", &self.device.answers()?, &true)?;
        Ok(self.backend.lock().close(DEVICE, None)?)
    }
}
