// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! dmatest above a real unit in scalable mode: PASIDs, translation by the device, invalidations, page requests. Tables,
//! descriptors and registers are raw words.
#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be put together fails the test"
)]

use devices::dmatest::{Dmatest, DmatestOptions, Grant, Refused, Upstream};
use devices::pci::PciFunction;
use devices::pci::express::DeviceType;
use iommu::ats::AtsEndpoint;
use iommu::capabilities::{Capabilities, PasidBits, ScalableOptions};
use iommu::dma::DmaSpace;
use iommu::ids::{Pasid, Requester, SourceId};
use iommu::memory::Ram;
use iommu::msi::{MsiMessage, MsiSender, MsiSink};
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::Request;
use iommu::translate::ats::AtsAnswer;
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::Arc;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

/// Everything outside: it takes all messages.
#[derive(Debug)]
struct Outside;

impl MsiSink for Outside {
    fn deliver(&self, _message: MsiMessage) {}
}

impl MsiSender for Outside {
    fn send(&self, _requester: &Requester, _message: MsiMessage) {}
}

impl InterruptListener for Outside {
    fn interrupts_changed(&self) {}
}

#[derive(Debug)]
struct Above {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    requester: Arc<Requester>,
}

impl Above {
    fn dma_space(&self, pasid: Option<Pasid>) -> Arc<DmaSpace> {
        let (ram, requester) = (Arc::clone(&self.ram), Arc::clone(&self.requester));
        self.unit.dma_space(ram, requester, pasid)
    }
}

impl Upstream for Above {
    fn space(&self, pasid: Pasid) -> Option<Arc<DmaSpace>> {
        Some(self.dma_space(Some(pasid)))
    }

    fn translation_request(&self, request: &Request) -> Result<Grant, Refused> {
        match self.unit.translation_request(request) {
            AtsAnswer::Translation(completion) => Ok(Grant::of(completion, request.address)),
            AtsAnswer::Unsupported(_) | AtsAnswer::Aborted(_) => Err(Refused),
        }
    }

    fn page_request(&self, request: &PageRequest) -> PageRequestOutcome {
        self.unit.page_request(request)
    }
}

const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const PASID_DIRECTORY: u64 = 0x3000;
const PASID_TABLE: u64 = 0x4000;
const QUEUE: u64 = 0x6000;
const PAGE_QUEUE: u64 = 0x7000;
const STATUS: u64 = 0x8000;
/// Last-level tables of PASIDs 1 and 2 for the first 2 MiB.
const LEAVES: [u64; 2] = [0x1_3000, 0x2_3000];

struct Rig {
    device: Arc<Dmatest>,
    unit: Arc<Unit>,
    ram: Arc<Ram>,
}

fn unit(ram: &Arc<Ram>) -> Arc<Unit> {
    let options = ScalableOptions {
        pasid: Some(PasidBits::MAX),
        execute_requests: true,
        supervisor_requests: true,
        device_tlb: true,
        page_requests: true,
        ..ScalableOptions::default()
    };
    let outside = Arc::new(Outside);
    let outputs = Outputs {
        events: outside.clone(),
        interrupts: outside,
    };
    let capabilities = Capabilities::scalable(&options).unwrap();
    Unit::new(capabilities, ram.clone(), outputs)
}

/// Device 00:03.0, whose context entry lets it do everything; PASIDs 1 and 2 with first-stage tables of four levels that
/// map nothing yet, PASID 0 (requests without PASID) passed through. Translation is on, and so are both queues.
fn rig() -> Rig {
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let unit = unit(&ram);
    let requester = Arc::new(Requester::new(SourceId(0x0018)));
    let above = Arc::new(Above {
        unit: unit.clone(),
        ram: ram.clone(),
        requester: requester.clone(),
    });
    let options = DmatestOptions::default();
    let place = DeviceType::IntegratedEndpoint;
    let plain = above.dma_space(None);
    let device = Dmatest::new(&options, place, plain, above, Arc::new(Outside)).unwrap();
    let endpoint: Arc<dyn AtsEndpoint> = device.clone();
    unit.register_endpoint(requester, &endpoint);
    let rig = Rig { device, unit, ram };
    rig.set(ROOT, CONTEXTS | 1);
    // P, DTE, PASIDE, PRE.
    rig.set(CONTEXTS + 0x18 * 32, PASID_DIRECTORY | 0x1d);
    rig.set(PASID_DIRECTORY, PASID_TABLE | 1);
    // P, pass-through; domain 1.
    rig.set(PASID_TABLE, 0x101);
    rig.set(PASID_TABLE + 8, 1);
    for (pasid, leaf) in (1u64..).zip(LEAVES) {
        // P, first stage; domain, PWSNP; SRE, ERE.
        let entry = PASID_TABLE + pasid * 64;
        rig.set(entry, 0x41);
        rig.set(entry + 8, (1 + pasid) | 0x80_0000);
        rig.set(entry + 16, (leaf - 0x3000) | 0x3);
        for level in 1..4 {
            rig.set(leaf - level * 0x1000, (leaf - (level - 1) * 0x1000) | 0x7);
        }
    }
    // Root table in scalable mode; invalidation queue of one page and 256-bit descriptors; page queue of one page.
    rig.unit.write(0x20, &(ROOT | 1 << 10).to_le_bytes());
    rig.unit.write(0x90, &(QUEUE | 1 << 11).to_le_bytes());
    rig.unit.write(0xd0, &PAGE_QUEUE.to_le_bytes());
    for command in [1u32 << 30, 1 << 26, 1 << 31 | 1 << 26] {
        rig.unit.write(0x18, &command.to_le_bytes());
    }
    rig.device.config_write(0x04, &[0x06, 0]);
    rig.device.config_write(0x11e, &[0x07, 0]);
    rig.device.config_write(0x114, &[0x20, 0, 0, 0]);
    rig.device.config_write(0x10c, &[0x01, 0]);
    rig.device.config_write(0x106, &[0x00, 0x80]);
    rig
}

impl Rig {
    fn set(&self, gpa: u64, value: u64) {
        self.ram.write_obj(value, GuestAddress(gpa)).unwrap();
    }

    fn word(&self, gpa: u64) -> u64 {
        self.ram.read_obj(GuestAddress(gpa)).unwrap()
    }

    /// Maps or, with 0, unmaps page `number` of `pasid`; P, R/W, U/S.
    fn map(&self, pasid: usize, number: u64, to: u64) {
        let entry = if to == 0 { 0 } else { to | 0x7 };
        self.set(LEAVES[pasid - 1] + number * 8, entry);
    }

    fn unit32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.unit.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn unit64(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.unit.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    /// Submits descriptors and a wait that writes 1; whether it did.
    fn invalidate(&self, descriptors: &[[u64; 2]]) -> bool {
        let wait = [0x0000_0001_0000_0025, STATUS];
        self.set(STATUS, 0);
        let mut tail = self.unit64(0x88);
        for words in descriptors.iter().chain([&wait]) {
            let at = QUEUE + tail;
            for (word, value) in (at..).step_by(8).zip([words[0], words[1], 0, 0]) {
                self.set(word, value);
            }
            tail = (tail + 32) % 0x1000;
        }
        self.unit.write(0x88, &tail.to_le_bytes());
        self.word(STATUS) == 1
    }

    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.device.bar_read(0, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u64) {
        self.device.bar_write(0, offset, &value.to_le_bytes());
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("never {what}");
    }

    /// Starts an operation on 8 bytes. The slot's offset.
    fn start(&self, control: u64, pasid: u64, address: u64, operand: u64) -> u64 {
        self.start_long(control, pasid, address, operand, 8)
    }

    /// Starts an operation on `length` bytes. The slot's offset.
    fn start_long(&self, control: u64, pasid: u64, address: u64, operand: u64, length: u64) -> u64 {
        let tail = self.read(0x24);
        let slot = 0x1000 + u64::from(tail) * 64;
        self.write(slot, control | pasid << 32);
        self.write(slot + 0x08, address);
        self.write(slot + 0x10, operand);
        self.write(slot + 0x20, length);
        let tail = (tail + 1) % 64;
        self.device.bar_write(0, 0x24, &tail.to_le_bytes());
        slot
    }

    /// Status and low half of the result.
    fn finish(&self, slot: u64) -> (u32, u32) {
        self.wait_until("done", |rig| rig.read(slot + 0x30) != 0);
        (self.read(slot + 0x30), self.read(slot + 0x38))
    }

    fn run(&self, control: u64, pasid: u64, address: u64, operand: u64) -> (u32, u32) {
        let slot = self.start(control, pasid, address, operand);
        self.finish(slot)
    }

    /// The last fault's upper half, and the record is cleared.
    fn take_fault(&self, record: u64) -> u64 {
        let fault = self.unit64(0x220 + record * 16 + 8);
        self.unit
            .write(0x220 + record * 16 + 12, &0x8000_0000u32.to_le_bytes());
        fault
    }
}

/// Fetch-add in the space of a PASID, untranslated and translated.
const ADD: u64 = 0x106;
const ADD_TRANSLATED: u64 = 0x906;
/// Touch for writing, translated, with page requests.
const TOUCH_AND_ASK: u64 = 0x5908;

#[test]
fn each_pasid_has_its_own_space_and_so_have_requests_without() {
    let rig = rig();
    rig.map(1, 5, 0x8_0000);
    rig.map(2, 5, 0x9_0000);
    assert_eq!(rig.run(ADD, 1, 0x5000, 11), (1, 0));
    assert_eq!(rig.run(ADD, 2, 0x5000, 22), (1, 0));
    assert_eq!(rig.run(0x006, 0, 0xa_0000, 33), (1, 0));
    let words = [0x8_0000, 0x9_0000, 0xa_0000].map(|gpa| rig.word(gpa));
    assert_eq!(words, [11, 22, 33]);
    assert_eq!(rig.unit32(0x34), 0);
}

#[test]
fn fault_names_pasid_privilege_and_fetch() {
    let rig = rig();
    // Privileged instruction fetch of PASID 2, whose page is not there: reason 0x71.
    assert_eq!(rig.run(0x701, 2, 0x5000, 0), (6, 0));
    let fault = rig.take_fault(0);
    assert_eq!(fault & 0xffff, 0x18);
    assert_eq!((fault >> 32 & 0xff, fault >> 40 & 0xf_ffff), (0x71, 2));
    // F, T2: a read; PP, EXE, PRIV.
    assert_eq!((fault >> 62, fault >> 29 & 0x7), (3, 0x7));
}

#[test]
fn translation_of_the_device_ends_with_its_invalidation() {
    let rig = rig();
    rig.map(1, 5, 0x8_0000);
    assert_eq!(rig.run(ADD_TRANSLATED, 1, 0x5008, 1), (1, 0));
    // Moved: until the invalidation the device uses what it knows.
    rig.map(1, 5, 0x9_0000);
    assert_eq!(rig.run(ADD_TRANSLATED, 1, 0x5008, 1), (1, 1));
    assert_eq!((rig.read(0x40), rig.read(0x44)), (1, 1));
    // PASID-based IOTLB, page; PASID-based device-TLB, page.
    let iotlb = [0x0000_0001_0002_0036, 0x5000];
    let device_tlb = [0x0000_0001_0018_0008, 0x5000];
    assert!(rig.invalidate(&[iotlb, device_tlb]));
    assert_eq!((rig.read(0x40), rig.read(0x4c)), (0, 1));
    assert_eq!(rig.run(ADD_TRANSLATED, 1, 0x5008, 1), (1, 0));
    assert_eq!((rig.word(0x8_0008), rig.word(0x9_0008)), (2, 1));
    rig.map(1, 5, 0);
    assert!(rig.invalidate(&[iotlb, device_tlb]));
    // No translation is no fault.
    assert_eq!(rig.run(ADD_TRANSLATED, 1, 0x5008, 1), (8, 0));
    assert_eq!(rig.unit32(0x34), 0);
}

#[test]
fn invalidated_page_is_never_written_again() {
    const MARK: u64 = 0x6d61_726b;
    let rig = rig();
    for page in 0..16 {
        rig.map(1, page, 0x4_0000 + page * 0x1000);
    }
    let targets = [0x8_0000, 0x9_0000];
    let mut overtaken = 0;
    for round in 0..400 {
        // Page 12 of what the device fills moves while it does.
        let (old, new) = (targets[round % 2], targets[(round + 1) % 2]);
        rig.map(1, 12, old);
        let descriptors = [
            [0x0000_0001_0002_0036, 0xc000],
            [0x0000_0001_0018_0008, 0xc000],
        ];
        assert!(rig.invalidate(&descriptors));
        let slot = rig.start_long(0x904, 1, 0, 0x55, 0x1_0000);
        rig.map(1, 12, new);
        assert!(rig.invalidate(&descriptors));
        overtaken += u32::from(rig.read(slot + 0x30) == 0);
        rig.set(old + 0xff8, MARK);
        assert_eq!(rig.finish(slot), (1, 0));
        assert_eq!(rig.word(old + 0xff8), MARK, "round {round}");
    }
    assert_ne!(
        overtaken, 0,
        "no invalidation came while the device was at work"
    );
}

#[test]
fn withheld_completion_times_out_and_a_wrong_one_is_told() {
    let rig = rig();
    let device_tlb = [0x0000_0001_0018_0008, 0x5000];
    rig.device.bar_write(0, 0x18, &1u32.to_le_bytes());
    assert!(!rig.invalidate(&[device_tlb]));
    // ITE.
    assert_eq!(rig.unit32(0x34) & 0x70, 0x40);
    rig.device.bar_write(0, 0x18, &0u32.to_le_bytes());
    rig.unit.write(0x34, &0x40u32.to_le_bytes());
    assert!(rig.invalidate(&[device_tlb]));
    rig.device.bar_write(0, 0x18, &2u32.to_le_bytes());
    rig.invalidate(&[device_tlb]);
    // ICE.
    assert_eq!(rig.unit32(0x34) & 0x70, 0x20);
}

#[test]
fn page_request_is_queued_answered_and_the_page_used() {
    let rig = rig();
    let slot = rig.start(TOUCH_AND_ASK, 2, 0x7000, 0);
    rig.wait_until("queued", |rig| rig.unit64(0xc8) != 0);
    // Type, PP, RID, PASID; WR, LPIG, group 0, page.
    assert_eq!(rig.word(PAGE_QUEUE), 0x0000_0002_0018_0101);
    assert_eq!(rig.word(PAGE_QUEUE + 8), 0x7006);
    assert_eq!(rig.unit32(0xdc), 1);
    rig.map(2, 7, 0x9_0000);
    rig.unit.write(0xdc, &1u32.to_le_bytes());
    rig.unit.write(0xc0, &rig.unit64(0xc8).to_le_bytes());
    // Page group response: PP, success, RID, PASID; group 0.
    assert!(rig.invalidate(&[[0x0000_0002_0018_0019, 0]]));
    assert_eq!(rig.finish(slot), (1, 0x9_0000));
    assert_eq!(rig.run(ADD_TRANSLATED, 2, 0x7000, 5), (1, 0));
    assert_eq!(rig.word(0x9_0000), 5);
}

#[test]
fn page_request_that_is_refused_ends_the_command() {
    let rig = rig();
    let slot = rig.start(TOUCH_AND_ASK, 1, 0x7000, 0);
    rig.wait_until("queued", |rig| rig.unit64(0xc8) != 0);
    assert!(rig.invalidate(&[[0x0000_0001_0018_1019, 0]]));
    assert_eq!(rig.finish(slot), (10, 0));
    // Without PRE in the context entry: recorded, and answered at once.
    rig.set(CONTEXTS + 0x18 * 32, PASID_DIRECTORY | 0x0d);
    // Context cache, PASID cache and IOTLB, global.
    assert!(rig.invalidate(&[[0x11, 0], [0x37, 0], [0x12, 0]]));
    assert_eq!(rig.run(TOUCH_AND_ASK, 1, 0x7000, 0), (10, 0));
    assert_eq!(rig.take_fault(0) >> 32 & 0xff, 0x47);
}

#[test]
fn function_level_reset_during_a_page_request_frees_the_device() {
    let rig = rig();
    rig.start(TOUCH_AND_ASK, 1, 0x7000, 0);
    rig.wait_until("queued", |rig| rig.unit64(0xc8) != 0);
    rig.device.config_write(0x48, &[0x00, 0x80]);
    assert_eq!(rig.read(0x1c), 0);
    // The answer comes late: PRI status bit 1, unexpected.
    assert!(rig.invalidate(&[[0x0000_0001_0018_0019, 0]]));
    let mut status = [0; 2];
    rig.device.config_read(0x10e, &mut status);
    assert_eq!(u16::from_le_bytes(status), 0x8102);
}
