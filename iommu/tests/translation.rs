// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One device from the outside: tables in RAM, registers and queue as software drives them, DMA and interrupts as a device
//! sends them. Values are raw.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use iommu::address::Iova;
use iommu::capabilities::{Capabilities, LegacyOptions};
use iommu::dma::{DmaError, DmaSpace};
use iommu::ids::{Requester, SourceId};
use iommu::memory::Ram;
use iommu::msi::{MsiMessage, MsiSink};
use iommu::unit::{InterruptListener, Outputs, Unit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress};

const DEVICE: SourceId = SourceId(0x0028);

#[derive(Debug, Default)]
struct Processor(Mutex<Vec<MsiMessage>>);

impl MsiSink for Processor {
    fn deliver(&self, message: MsiMessage) {
        self.0.lock().unwrap().push(message);
    }
}

impl InterruptListener for Processor {
    fn interrupts_changed(&self) {}
}

struct Machine {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    space: Arc<DmaSpace>,
    processor: Arc<Processor>,
    /// Bytes of the queue that are used.
    tail: u64,
}

impl Machine {
    /// Root table 0x1000, contexts 0x2000, domain 3 with four levels from 0x3000 on: IOVA 0x5000 is page 0x8000. Queue at
    /// 0x10000, interrupt table of 256 entries at 0x11000.
    fn new() -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap());
        let processor = Arc::new(Processor::default());
        let outputs = Outputs {
            events: Arc::clone(&processor) as _,
            interrupts: Arc::clone(&processor) as _,
        };
        let capabilities = Capabilities::legacy(&LegacyOptions::default()).unwrap();
        let unit = Unit::new(capabilities, Arc::clone(&ram) as _, outputs);
        let requester = Arc::new(Requester::new(DEVICE));
        requester.set_bus_master(true);
        let space = unit.dma_space(Arc::clone(&ram), requester, None);
        let machine = Self {
            unit,
            ram,
            space,
            processor,
            tail: 0,
        };
        for (gpa, word) in [
            (0x1000, 0x2001),
            (0x2280, 0x3001),
            (0x2288, 0x0302),
            (0x3000, 0x4003),
            (0x4000, 0x5003),
            (0x5000, 0x6003),
            (0x6028, 0x8003),
        ] {
            machine.set(gpa, word);
        }
        machine
    }

    fn set(&self, gpa: u64, word: u64) {
        self.ram.write_obj(word, GuestAddress(gpa)).unwrap();
    }

    fn word(&self, gpa: u64) -> u64 {
        self.ram.read_obj(GuestAddress(gpa)).unwrap()
    }

    fn w32(&self, offset: u64, value: u32) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn w64(&self, offset: u64, value: u64) {
        self.unit.write(offset, &value.to_le_bytes());
    }

    fn r64(&self, offset: u64) -> u64 {
        let mut data = [0; 8];
        self.unit.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    /// Queue, root pointer and translation on; the fault event goes to vector 0x41.
    fn enable(&self) {
        self.w64(0x90, 0x1_0000);
        self.w32(0x18, 1 << 26);
        self.w64(0x20, 0x1000);
        self.w32(0x18, 1 << 30 | 1 << 26);
        self.w32(0x3c, 0x41);
        self.w32(0x40, 0xfee0_0000);
        self.w32(0x38, 0);
        self.w32(0x18, 1 << 31 | 1 << 26);
    }

    /// Puts a descriptor and a wait into the queue, and checks that the wait is done.
    fn queue(&mut self, low: u64, high: u64) {
        let status = 0x1_2000;
        self.set(status, 0);
        let at = 0x1_0000 + self.tail;
        self.set(at, low);
        self.set(at + 8, high);
        self.set(at + 16, 0x0000_0007_0000_0025);
        self.set(at + 24, status);
        self.tail += 32;
        self.w64(0x88, self.tail);
        assert_eq!(self.word(status), 7, "the wait is not done");
    }

    fn write(&self, iova: u64, value: u64) -> Result<(), DmaError> {
        self.space.section().write_value(Iova(iova), &value)
    }
}

#[test]
fn dma_follows_the_tables_from_invalidation_to_invalidation() {
    let mut machine = Machine::new();
    machine.write(0x8010, 1).unwrap();
    assert_eq!(machine.word(0x8010), 1, "translation is off");

    machine.enable();
    machine.write(0x5010, 2).unwrap();
    assert_eq!(machine.word(0x8010), 2);

    // Page-selective, domain 3, one page.
    machine.set(0x6028, 0x9003);
    machine.queue(0x0003_0032, 0x5000);
    machine.write(0x5010, 3).unwrap();
    assert_eq!((machine.word(0x8010), machine.word(0x9010)), (2, 3));

    // Domain-selective by register.
    machine.set(0x6028, 0xa003);
    machine.w32(0x18, 1 << 31);
    machine.w64(0xf8, 1 << 63 | 0b10 << 60 | 3 << 32);
    machine.write(0x5010, 4).unwrap();
    assert_eq!((machine.word(0x9010), machine.word(0xa010)), (3, 4));
    assert_eq!(machine.unit.counters().faults_total(), 0);

    machine.w32(0x18, 0);
    machine.write(0x8010, 5).unwrap();
    assert_eq!(machine.word(0x8010), 5, "translation is off again");
}

#[test]
fn blocked_dma_is_recorded_and_raises_the_event() {
    let mut machine = Machine::new();
    machine.enable();
    machine.write(0x5010, 1).unwrap();
    machine.set(0x6028, 0);
    machine.queue(0x0003_0032, 0x5000);
    assert_eq!(
        machine.write(0x5010, 2),
        Err(DmaError::Blocked(Iova(0x5010)))
    );
    assert_eq!(machine.word(0x8010), 1);
    assert_eq!(machine.r64(0x220), 0x5000, "the page");
    assert_eq!(machine.r64(0x228), 0x8000_0005_0000_0028, "F, a write, 0x5");
    let events = machine.processor.0.lock().unwrap();
    assert_eq!(
        *events,
        [MsiMessage {
            address: 0xfee0_0000,
            data: 0x41
        }]
    );
}

#[test]
fn interrupt_follows_its_entry_from_invalidation_to_invalidation() {
    let mut machine = Machine::new();
    machine.enable();
    let message = MsiMessage {
        address: 0xfee0_0058,
        data: 0,
    };
    let vector = |machine: &Machine| {
        machine
            .unit
            .remap(DEVICE, message)
            .map(|message| message.data & 0xff)
    };
    // Entry 2: vector 0x52, only for this device.
    machine.set(0x1_1020, 0x0000_0001_0052_0001);
    machine.set(0x1_1028, 0x4_0028);
    machine.w64(0xb8, 0x1_1807);
    machine.w32(0x18, 1 << 31 | 1 << 26 | 1 << 24);
    machine.w32(0x18, 1 << 31 | 1 << 26 | 1 << 25);
    assert_eq!(vector(&machine), Some(0x52));

    machine.set(0x1_1020, 0x0000_0001_0053_0001);
    // Index-selective, index 2.
    machine.queue(0x0000_0002_0000_0014, 0);
    assert_eq!(vector(&machine), Some(0x53));

    machine.unit.remap_to(DEVICE, message, &*machine.processor);
    let delivered = MsiMessage {
        address: 0xfee0_1000,
        data: 0x4053,
    };
    assert_eq!(*machine.processor.0.lock().unwrap(), [delivered]);

    assert_eq!(machine.unit.remap(SourceId(0x30), message), None);
    assert_eq!(machine.r64(0x220), 0x0002_0000_0000_0000, "the index");
    assert_eq!(machine.r64(0x228), 0x8000_0026_0000_0030);
}

#[test]
fn interrupt_written_by_dma_is_remapped_like_any_other() {
    let machine = Machine::new();
    machine.enable();
    machine.set(0x1_1020, 0x0000_0001_0052_0001);
    machine.set(0x1_1028, 0x4_0028);
    machine.w64(0xb8, 0x1_1807);
    machine.w32(0x18, 1 << 31 | 1 << 26 | 1 << 24);
    machine.w32(0x18, 1 << 31 | 1 << 26 | 1 << 25);
    let section = machine.space.section();

    // Entry 2, in remappable format.
    section.write(Iova(0xfee0_0050), &[0; 4]).unwrap();
    let delivered = MsiMessage {
        address: 0xfee0_1000,
        data: 0x4052,
    };
    assert_eq!(*machine.processor.0.lock().unwrap(), [delivered]);

    // Eight bytes are no interrupt, and neither is a misaligned write.
    for (iova, bytes) in [(0xfee0_0050, &[0; 8][..]), (0xfee0_0051, &[0; 4])] {
        let blocked = section.write(Iova(iova), bytes);
        assert_eq!(blocked, Err(DmaError::Blocked(Iova(iova))));
    }
    assert_eq!(machine.processor.0.lock().unwrap().len(), 2, "the event");

    machine.space.requester().set_bus_master(false);
    let revoked = section.write(Iova(0xfee0_0050), &[0; 4]);
    assert_eq!(revoked, Err(DmaError::NotBusMaster(Iova(0xfee0_0050))));
}

/// Ends the other thread even when an assertion fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A queue of descriptors while a device writes: whatever the device does, a page that was taken away stays untouched.
#[test]
fn page_taken_away_is_not_written_by_a_busy_device() {
    let mut machine = Machine::new();
    machine.enable();
    let stop = AtomicBool::new(false);
    let space = Arc::clone(&machine.space);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _blocked = space.section().write_value(Iova(0x5000), &0xdead_u64);
            }
        });
        let _stop = StopOnDrop(&stop);
        for round in 0..100 {
            let (taken, given) = if round % 2 == 0 {
                (0x8000, 0x9000)
            } else {
                (0x9000, 0x8000)
            };
            machine.set(0x6028, given | 3);
            machine.queue(0x0003_0032, 0x5000);
            machine.set(taken, round);
            std::thread::yield_now();
            assert_eq!(machine.word(taken), round);
        }
    });
}
