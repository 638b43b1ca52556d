// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device with fakes around it.

use crate::dmatest::{Dmatest, DmatestOptions, Grant, Refused, Upstream};
use crate::pci::PciFunction;
use crate::pci::express::DeviceType;
use crate::testing::RecordingSender;
use iommu::ats::ResponseCode;
use iommu::dma::{DmaSpace, Translate};
use iommu::fault::{Fault, FaultReason, FaultSubject};
use iommu::ids::{Pasid, Requester, SourceId};
use iommu::memory::Ram;
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::{AddressType, Perms, Request, Translation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

/// Where a page of a PASID is; all rights.
type Pages = BTreeMap<(Option<u32>, u64), u64>;

/// A unit: untranslated requests and translation requests look into one table; translated requests pass.
#[derive(Debug, Default)]
pub struct FakeUnit {
    pub pages: Mutex<Pages>,
    /// Overrides the grant for every translation request.
    pub grant: Mutex<Option<Result<Grant, Refused>>>,
    pub requests: Mutex<Vec<Request>>,
    pub page_requests: Mutex<Vec<PageRequest>>,
    /// What a page request that is answered at once gets; it stays queued without.
    pub answer: Mutex<Option<ResponseCode>>,
}

impl FakeUnit {
    fn find(&self, request: &Request) -> Option<u64> {
        let key = (request.pasid.map(Pasid::get), request.address.0 & !0xfff);
        self.pages.lock().unwrap().get(&key).copied()
    }

    /// The requests so far: type, PASID, address.
    pub fn take_requests(&self) -> Vec<(AddressType, Option<u32>, u64)> {
        std::mem::take(&mut *self.requests.lock().unwrap())
            .iter()
            .map(|r| (r.address_type, r.pasid.map(Pasid::get), r.address.0))
            .collect()
    }
}

impl Translate for FakeUnit {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        self.requests.lock().unwrap().push(*request);
        let offset = request.address.0 & 0xfff;
        let page = match request.address_type {
            AddressType::Translated => Some(request.address.0 & !0xfff),
            _ => self.find(request),
        };
        let page = page.ok_or(Fault {
            reason: FaultReason::NoRead,
            subject: FaultSubject::Dma(*request),
            record: true,
        })?;
        Ok(Translation {
            gpa: GuestAddress(page | offset),
            len: 0x1000 - offset,
            perms: Perms::READ_WRITE,
        })
    }
}

/// The unit and what it needs to make spaces.
#[derive(Debug)]
struct FakeUpstream {
    unit: Arc<FakeUnit>,
    ram: Arc<Ram>,
    requester: Arc<Requester>,
}

impl FakeUpstream {
    fn space(&self, pasid: Option<Pasid>) -> Arc<DmaSpace> {
        let translate = Arc::clone(&self.unit) as _;
        let requester = Arc::clone(&self.requester);
        DmaSpace::translated(Arc::clone(&self.ram), requester, pasid, translate)
    }
}

impl Upstream for FakeUpstream {
    fn space(&self, pasid: Pasid) -> Option<Arc<DmaSpace>> {
        Some(self.space(Some(pasid)))
    }

    fn translation_request(&self, request: &Request) -> Result<Grant, Refused> {
        self.unit.requests.lock().unwrap().push(*request);
        if let Some(grant) = *self.unit.grant.lock().unwrap() {
            return grant;
        }
        Ok(self
            .unit
            .find(request)
            .map_or(Grant::default(), |page| Grant {
                page: GuestAddress(page),
                read: true,
                write: true,
                execute: request.execute,
                untranslated_only: false,
            }))
    }

    fn page_request(&self, request: &PageRequest) -> PageRequestOutcome {
        self.unit.page_requests.lock().unwrap().push(*request);
        match *self.unit.answer.lock().unwrap() {
            Some(code) => PageRequestOutcome::Answered(code),
            None => PageRequestOutcome::Queued,
        }
    }
}

/// A command: the fields of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    pub control: u32,
    pub pasid: u32,
    pub address: u64,
    pub operand: u64,
    pub compare: u64,
    pub length: u32,
    pub buffer: u32,
}

/// An answer: status, bytes done, result, fault address.
pub type Answer = (u32, u32, u64, u64);

pub struct Rig {
    pub device: Arc<Dmatest>,
    pub unit: Arc<FakeUnit>,
    pub ram: Arc<Ram>,
    pub sender: Arc<RecordingSender>,
}

/// A device with `options` below a port or not, as after power-on.
pub fn cold(options: &DmatestOptions, place: DeviceType) -> Rig {
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let unit = Arc::new(FakeUnit::default());
    let upstream = Arc::new(FakeUpstream {
        unit: Arc::clone(&unit),
        ram: Arc::clone(&ram),
        requester: Arc::new(Requester::new(SourceId(0x0018))),
    });
    let sender = Arc::new(RecordingSender::default());
    let plain = upstream.space(None);
    let device = Dmatest::new(options, place, plain, upstream, sender.clone()).unwrap();
    Rig {
        device,
        unit,
        ram,
        sender,
    }
}

/// A device that may do everything: memory, bus master, PASID with execute and privilege, PRI with 4 requests, ATS. The
/// capabilities are at 0x100 (ATS), 0x108 (PRI) and 0x118 (PASID).
pub fn rig() -> Rig {
    let rig = cold(&DmatestOptions::default(), DeviceType::IntegratedEndpoint);
    rig.enable();
    rig
}

impl Rig {
    pub fn enable(&self) {
        self.device.config_write(0x04, &[0x06, 0]);
        self.device.config_write(0x11e, &[0x07, 0]);
        self.device.config_write(0x114, &[0x04, 0, 0, 0]);
        self.device.config_write(0x10c, &[0x01, 0]);
        self.device.config_write(0x106, &[0x00, 0x80]);
    }

    /// Maps `pages` of `pasid`: untranslated address, address in RAM.
    pub fn map(&self, pasid: Option<u32>, pages: &[(u64, u64)]) {
        let mut map = self.unit.pages.lock().unwrap();
        for (from, to) in pages {
            map.insert((pasid, *from), *to);
        }
    }

    pub fn config(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        self.device.config_read(at, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn read(&self, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        self.device.bar_read(0, offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn read64(&self, offset: u64) -> u64 {
        let mut data = [0xff; 8];
        self.device.bar_read(0, offset, &mut data);
        u64::from_le_bytes(data)
    }

    pub fn write(&self, offset: u64, value: u32) {
        self.device.bar_write(0, offset, &value.to_le_bytes());
    }

    pub fn write64(&self, offset: u64, value: u64) {
        self.device.bar_write(0, offset, &value.to_le_bytes());
    }

    pub fn ram(&self, address: u64) -> u64 {
        self.ram.read_obj(GuestAddress(address)).unwrap()
    }

    pub fn set_ram(&self, address: u64, value: u64) {
        self.ram.write_obj(value, GuestAddress(address)).unwrap();
    }

    /// Polls until `condition` holds; a device that never gets there fails the test.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("never {what}");
    }

    /// Puts a command into the slot at the tail and moves the tail. The slot's number.
    pub fn submit(&self, command: Slot) -> u32 {
        let tail = self.read(0x24);
        let at = 0x1000 + u64::from(tail) * 64;
        self.write(at, command.control);
        self.write(at + 0x04, command.pasid);
        self.write64(at + 0x08, command.address);
        self.write64(at + 0x10, command.operand);
        self.write64(at + 0x18, command.compare);
        self.write(at + 0x20, command.length);
        self.write(at + 0x24, command.buffer);
        self.write(0x24, (tail + 1) % 64);
        tail
    }

    /// Waits for the command in `slot`.
    pub fn answer(&self, slot: u32) -> Answer {
        let at = 0x1000 + u64::from(slot) * 64;
        self.wait_until("answered", |rig| rig.read(at + 0x30) != 0);
        (
            self.read(at + 0x30),
            self.read(at + 0x34),
            self.read64(at + 0x38),
            self.read64(at + 0x28),
        )
    }

    /// Carries a command out.
    pub fn run(&self, command: Slot) -> Answer {
        let slot = self.submit(command);
        let answer = self.answer(slot);
        self.wait_until("idle", |rig| rig.read(0x1c) == 0);
        answer
    }
}
