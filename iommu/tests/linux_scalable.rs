// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What Linux's intel-iommu driver does to a unit in scalable mode: boot, a first-stage domain, a PASID, a page request and
//! its drain, a device that does not answer. Values are the raw ones that the driver writes.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use iommu::address::{Iova, IovaRange};
use iommu::ats::{AtsEndpoint, Completion, PageResponse, ResponseCode};
use iommu::capabilities::{Capabilities, PasidBits, ScalableOptions};
use iommu::dma::Translate;
use iommu::ids::{Pasid, Requester, SourceId};
use iommu::invalidation::DeviceSpaces;
use iommu::memory::{PhysMem, Ram};
use iommu::msi::{MsiMessage, MsiSink};
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::{Access, Request};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::{Arc, Mutex};
use vm_memory::GuestAddress;

const QUEUE: u64 = 0x10_0000;
const STATUS: u64 = 0x10_2000;
const ROOT: u64 = 0x10_3000;
const CONTEXTS: u64 = 0x10_4000;
const DIRECTORY: u64 = 0x10_5000;
const PASIDS: u64 = 0x10_6000;
const PAGE_REQUESTS: u64 = 0x18_0000;
/// Four tables of one first-stage domain each, from the top down.
const DOMAINS: [u64; 2] = [0x20_0000, 0x20_4000];
/// 00:03.0.
const DEVICE: SourceId = SourceId(0x18);

#[derive(Debug, Default)]
struct Machine {
    messages: Mutex<Vec<MsiMessage>>,
    invalidations: Mutex<Vec<(DeviceSpaces, IovaRange)>>,
    responses: Mutex<Vec<PageResponse>>,
    late: Mutex<bool>,
}

impl MsiSink for Machine {
    fn deliver(&self, message: MsiMessage) {
        self.messages.lock().unwrap().push(message);
    }
}

impl InterruptListener for Machine {
    fn interrupts_changed(&self) {}
}

impl AtsEndpoint for Machine {
    fn invalidate(&self, spaces: DeviceSpaces, range: IovaRange) -> Completion {
        self.invalidations.lock().unwrap().push((spaces, range));
        if *self.late.lock().unwrap() {
            Completion::TimedOut
        } else {
            Completion::Completed
        }
    }

    fn respond(&self, response: PageResponse) {
        self.responses.lock().unwrap().push(response);
    }
}

/// The driver's view of one unit.
struct Linux {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    machine: Arc<Machine>,
    gcmd: u32,
    /// The slot of 32 bytes that the next descriptor goes to.
    free: u64,
}

impl Linux {
    /// Up to and including translation; the device has a default domain and everything switched on.
    fn boot() -> Self {
        let options = ScalableOptions {
            nesting: true,
            pasid: Some(PasidBits::MAX),
            device_tlb: true,
            page_requests: true,
            dirty_tracking: true,
            ..ScalableOptions::default()
        };
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x40_0000)]).unwrap());
        let machine = Arc::new(Machine::default());
        let outputs = Outputs {
            events: Arc::clone(&machine) as _,
            interrupts: Arc::clone(&machine) as _,
        };
        let capabilities = Capabilities::scalable(&options).unwrap();
        let unit = Unit::new(capabilities, Arc::clone(&ram) as _, outputs);
        let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&machine) as _;
        unit.register_endpoint(Arc::new(Requester::new(DEVICE)), &endpoint);
        let mut linux = Self {
            unit,
            ram,
            machine,
            gcmd: 0,
            free: 0,
        };
        linux.init();
        linux
    }

    fn init(&mut self) {
        assert_eq!(self.r64(0x08), 0x01d2_078c_222f_0606);
        assert_eq!(self.r64(0x10), 0x0003_ef98_24f0_0fdf);
        self.w32(0x88, 0);
        self.w64(0x90, QUEUE | 0x801);
        self.command(0x0400_0000);
        self.w64(0x20, ROOT | 0x400);
        self.command(0x4000_0000);
        self.submit(&[(0x11, 0)]);
        self.submit(&[(0x37, 0)]);
        self.submit(&[(0xd2, 0)]);
        // The page request interrupt, and the queue of 16 pages.
        self.w32(0xe4, 0x22);
        self.w32(0xe8, 0xfee0_1000);
        self.w32(0xec, 0);
        self.w32(0xe0, 0);
        self.w64(0xc0, 0);
        self.w64(0xc8, 0);
        self.w64(0xd0, PAGE_REQUESTS | 4);
        self.build_tables();
        self.command(0x8000_0000);
    }

    /// Context entry of the device, and PASID 0 bound to the first domain, number 2.
    fn build_tables(&self) {
        self.store(ROOT, CONTEXTS | 1);
        // PDTS 7, PRE, PASIDE, DTE, P.
        self.store(CONTEXTS + 0x18 * 32, DIRECTORY | 0xe1d);
        self.store(DIRECTORY, PASIDS | 1);
        for (domain, page) in DOMAINS.into_iter().zip([0x30_0000, 0x31_0000]) {
            for level in 0..3u64 {
                self.store(
                    domain + 0x1000 * level,
                    (domain + 0x1000 * (level + 1)) | 0x27,
                );
            }
            // IOVA 0x1000: accessed, dirty, user, writable.
            self.store(domain + 0x3008, page | 0x67);
        }
        self.bind(0, 2, DOMAINS[0]);
    }

    /// A first-stage PASID entry: PWSNP, AW 48 bits, PGTT 001; P last.
    fn bind(&self, pasid: u64, domain: u64, table: u64) {
        let entry = PASIDS + 64 * pasid;
        self.store(entry + 16, table);
        self.store(entry + 8, 1 << 23 | domain);
        self.store(entry, 0x49);
    }

    fn r32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn r64(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.unit.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    fn w32(&self, offset: u64, value: u32) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn w64(&self, offset: u64, value: u64) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn command(&mut self, bit: u32) {
        self.w32(0x18, self.gcmd | bit);
        assert_eq!(self.r32(0x1c) & bit, bit, "command {bit:#x} is not done");
        self.gcmd |= bit & !0x4100_0000;
    }

    fn store(&self, at: u64, value: u64) {
        PhysMem::write(&*self.ram, GuestAddress(at), &value.to_le_bytes()).unwrap();
    }

    fn load(&self, at: u64) -> u64 {
        PhysMem::load_u64(&*self.ram, GuestAddress(at)).unwrap()
    }

    fn put(&mut self, qw0: u64, qw1: u64) {
        for (word, value) in (0..).zip([qw0, qw1, 0, 0]) {
            self.store(QUEUE + 32 * self.free + 8 * word, value);
        }
        self.free = (self.free + 1) % 256;
    }

    /// Puts descriptors and a wait into the queue and writes the tail. Returns the status word of the wait.
    fn try_submit(&mut self, descriptors: &[(u64, u64)], wait: u64) -> u64 {
        for &(qw0, qw1) in descriptors {
            self.put(qw0, qw1);
        }
        let status = STATUS + 8 * self.free;
        self.store(status, 1);
        self.put(wait, status);
        self.w32(0x88, u32::try_from(self.free << 5).unwrap());
        self.load(status)
    }

    fn submit(&mut self, descriptors: &[(u64, u64)]) {
        let status = self.try_submit(descriptors, 0x0000_0002_0000_0025);
        assert_eq!(status, 2, "the wait is not done");
        assert_eq!(self.r32(0x34) & 0x70, 0, "queue error");
    }

    /// Where a write of the device to `address` lands.
    fn dma(&self, pasid: Option<u32>, address: u64) -> Option<u64> {
        let request = Request {
            pasid: pasid.and_then(Pasid::new),
            ..Request::untranslated(DEVICE, Iova(address), Access::Write)
        };
        let translation = self.unit.translate(&request).ok()?;
        Some(translation.gpa.0)
    }
}

#[test]
fn first_stage_default_domain_translates_and_unmaps() {
    let mut linux = Linux::boot();
    assert_eq!(linux.r32(0x1c), 0xc400_0000);
    assert_eq!(linux.dma(None, 0x1234), Some(0x30_0234));
    linux.store(DOMAINS[0] + 0x3008, 0);
    linux.submit(&[(0x0002_0036, 0x1040), (0x0000_0018_0000_0003, 0x1000)]);
    assert_eq!(linux.dma(None, 0x1234), None);
    // Write, without PASID, not present.
    assert_eq!(linux.r64(0x220), 0x1000);
    assert_eq!(linux.r64(0x228), 0x8000_0071_0000_0018);
    let counters = linux.unit.counters();
    assert_eq!(counters.pasid_iotlb_invalidations, 1);
    assert_eq!(counters.device_tlb_invalidations, 1);
}

#[test]
fn pasid_is_bound_and_torn_down() {
    let mut linux = Linux::boot();
    assert_eq!(linux.dma(Some(5), 0x1000), None);
    // P of the PASID entry, DMA write with PASID 5.
    assert_eq!(linux.r64(0x228), 0x8000_0559_8000_0018);
    linux.bind(5, 3, DOMAINS[1]);
    linux.submit(&[(0x0000_0005_0003_0017, 0), (0x0000_0005_0003_0026, 0)]);
    assert_eq!(linux.dma(Some(5), 0x1000), Some(0x31_0000));
    assert_eq!(linux.dma(None, 0x1000), Some(0x30_0000));
    // Teardown: P first, flush, then the rest; then the drain.
    linux.store(PASIDS + 64 * 5, 0);
    linux.submit(&[
        (0x0000_0005_0003_0017, 0),
        (0x0000_0005_0003_0026, 0),
        (0x0000_0005_0018_0008, 0x7fff_ffff_ffff_f800),
    ]);
    assert_eq!(
        linux.machine.invalidations.lock().unwrap().as_slice(),
        [(DeviceSpaces::Pasid(Pasid::new(5).unwrap()), IovaRange::ALL)]
    );
    assert_eq!(linux.dma(Some(5), 0x1000), None);
    linux.put(0x0000_0002_0000_0045, 0);
    let drained = linux.try_submit(
        &[
            (0x0000_0005_0003_0026, 0),
            (0x0000_0005_0018_0008, 0x7fff_ffff_ffff_f800),
        ],
        0x0000_0002_0000_00a5,
    );
    assert_eq!(drained, 2);
}

#[test]
fn page_request_is_read_and_answered() {
    let mut linux = Linux::boot();
    linux.bind(5, 3, DOMAINS[1]);
    let request = PageRequest {
        source: DEVICE,
        pasid: Pasid::new(5),
        address: Iova(0x7000),
        read: true,
        write: true,
        execute: false,
        privileged: false,
        last: true,
        group: 9,
    };
    assert_eq!(
        linux.unit.page_request(&request),
        PageRequestOutcome::Queued
    );
    assert_eq!(linux.machine.messages.lock().unwrap().len(), 1);
    // The handler clears PPR, reads the tail and then the head, and moves the head to the tail.
    assert_eq!(linux.r32(0xdc), 1);
    linux.w32(0xdc, 1);
    assert_eq!((linux.r64(0xc8), linux.r64(0xc0)), (0x20, 0));
    assert_eq!(linux.load(PAGE_REQUESTS), 0x0000_0005_0018_0101);
    assert_eq!(linux.load(PAGE_REQUESTS + 8), 0x704f);
    linux.w64(0xc0, 0x20);
    linux.store(DOMAINS[1] + 0x3038, 0x32_0067);
    linux.submit(&[(0x0000_0005_0018_0019, 0x48)]);
    let expected = PageResponse {
        source: DEVICE,
        pasid: Pasid::new(5),
        group: 9,
        code: ResponseCode::Success,
    };
    assert_eq!(
        linux.machine.responses.lock().unwrap().as_slice(),
        [expected]
    );
    assert_eq!(linux.dma(Some(5), 0x7000), Some(0x32_0000));
}

/// Linux marks its wait as aborted, clears ITE, and submits again.
#[test]
fn time_out_is_cleared_and_submitted_again() {
    let mut linux = Linux::boot();
    *linux.machine.late.lock().unwrap() = true;
    let descriptors = [(0x0000_0018_0000_0003, 0x1000)];
    assert_eq!(linux.try_submit(&descriptors, 0x0000_0002_0000_0025), 1);
    assert_eq!(linux.r32(0x34) & 0x70, 0x40);
    assert_eq!(linux.r64(0xb0) >> 32 & 0xffff, 0x18);
    assert_eq!(linux.r64(0x80), linux.free << 5, "the wait was fetched");
    linux.w32(0x34, 0x40);
    *linux.machine.late.lock().unwrap() = false;
    linux.submit(&descriptors);
}
