// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests of a fake host queue through a real unit, whose page request queue has room for 127.

use super::*;
use iommu::address::Iova;
use iommu::capabilities::{Capabilities, PasidBits, ScalableOptions};
use iommu::ids::SourceId;
use iommu::memory::{PhysMem, Ram};
use iommu::testing::Nobody;
use vm_memory::GuestAddress;

const QUEUE: u64 = 0x1_0000;
const STATUS: u64 = 0x1_2000;
const ROOT: u64 = 0x1_3000;
const CONTEXTS: u64 = 0x1_4000;
const PAGE_QUEUE: u64 = 0x1_5000;
const DIRECTORY: u64 = 0x1_8000;
const ENTRIES: u64 = 0x1_9000;
/// The host's name for 00:02.0.
const ID: u32 = 7;

#[derive(Debug, Default)]
struct FakeQueue {
    waiting: Mutex<Vec<HostPageRequest>>,
    responses: Mutex<Vec<(u32, HostResponse)>>,
}

impl HostQueue for FakeQueue {
    fn read(&self) -> Result<Vec<HostPageRequest>, Errno> {
        Ok(std::mem::take(&mut *self.waiting.lock().unwrap()))
    }

    fn respond(&self, cookie: u32, response: HostResponse) -> Result<(), Errno> {
        self.responses.lock().unwrap().push((cookie, response));
        Ok(())
    }
}

struct Bed {
    unit: Arc<Unit>,
    ram: Arc<Ram>,
    queue: Arc<FakeQueue>,
    requests: Arc<PageRequests>,
    free: u64,
}

impl Bed {
    /// PASID 5 of the device is bound to a first-stage table, and may ask for pages.
    fn new() -> Self {
        let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap());
        let capabilities = Capabilities::scalable(&ScalableOptions {
            pasid: Some(PasidBits::MAX),
            device_tlb: true,
            page_requests: true,
            ..ScalableOptions::default()
        })
        .unwrap();
        let unit = Unit::new(capabilities, Arc::clone(&ram) as _, Nobody::outputs());
        let queue = Arc::new(FakeQueue::default());
        let requests = PageRequests::new(queue.clone());
        requests.add(ID, &unit, Arc::new(Requester::new(SourceId(0x10))));
        let bed = Self {
            unit,
            ram,
            queue,
            requests,
            free: 0,
        };
        bed.set(ROOT, CONTEXTS | 1);
        bed.set(CONTEXTS + 32 * 0x10, DIRECTORY | 0x1d);
        bed.set(DIRECTORY, ENTRIES | 1);
        bed.set(ENTRIES + 5 * 64 + 16, 0x2_0000);
        bed.set(ENTRIES + 5 * 64 + 8, 1);
        bed.set(ENTRIES + 5 * 64, 0x41);
        for (offset, value) in [
            (0x90, QUEUE | 0x801),
            (0xd0, PAGE_QUEUE),
            (0x20, ROOT | 0x400),
        ] {
            bed.unit.write(offset, &value.to_le_bytes());
        }
        for command in [0x0400_0000u32, 0x4400_0000, 0x8400_0000] {
            bed.unit.write(0x18, &command.to_le_bytes());
        }
        bed
    }

    fn set(&self, gpa: u64, word: u64) {
        PhysMem::write(&*self.ram, GuestAddress(gpa), &word.to_le_bytes()).unwrap();
    }

    fn ask(&self, pasid: u32, group: u32, cookie: u32) {
        let request = HostPageRequest {
            device: ID,
            pasid: Pasid::new(pasid),
            group,
            address: Iova(0x7000),
            read: true,
            write: true,
            execute: false,
            privileged: false,
            last: true,
            cookie,
        };
        self.queue.waiting.lock().unwrap().push(request);
        self.requests.serve();
    }

    /// A page group response of the guest's.
    fn answer(&mut self, group: u64, code: u64) {
        let low = 0x9 | 1 << 4 | code << 12 | 0x10 << 16 | 5 << 32;
        let high = group << 3;
        self.set(STATUS, 1);
        for (low, high) in [(low, high), (0x0000_0002_0000_0025, STATUS)] {
            let at = QUEUE + 32 * self.free;
            for (offset, word) in [(0, low), (8, high), (16, 0), (24, 0)] {
                self.set(at + offset, word);
            }
            self.free += 1;
        }
        let tail = u32::try_from(self.free << 5).unwrap();
        self.unit.write(0x88, &tail.to_le_bytes());
        assert_eq!(self.ram.load_u64(GuestAddress(STATUS)).unwrap(), 2);
    }

    fn responses(&self) -> Vec<(u32, HostResponse)> {
        std::mem::take(&mut *self.queue.responses.lock().unwrap())
    }
}

#[test]
fn request_reaches_the_guest_and_its_answer_the_host() {
    let mut bed = Bed::new();
    bed.ask(5, 3, 99);
    assert_eq!(bed.responses(), []);
    let low = bed.ram.load_u64(GuestAddress(PAGE_QUEUE)).unwrap();
    let high = bed.ram.load_u64(GuestAddress(PAGE_QUEUE + 8)).unwrap();
    // Type 1, PASID present, source 00:02.0, PASID 5; read, write, last, group 3, page 7.
    assert_eq!(low, 0x1 | 1 << 8 | 0x10 << 16 | 5 << 32);
    assert_eq!(high, 0x7 | 3 << 3 | 0x7000);
    bed.answer(3, 0);
    assert_eq!(bed.responses(), [(99, HostResponse::Success)]);
    bed.answer(3, 0);
    assert_eq!(bed.responses(), [], "one answer is enough");
    bed.ask(5, 3, 100);
    bed.answer(3, 1);
    assert_eq!(bed.responses(), [(100, HostResponse::Invalid)]);
    let stats = bed.requests.stats();
    assert_eq!(
        (stats.requests, stats.answered, stats.unexpected),
        (2, 2, 1)
    );
}

#[test]
fn what_the_guest_cannot_see_is_answered_at_once() {
    let bed = Bed::new();
    for group in 0..127 {
        bed.ask(5, group, 100 + group);
    }
    assert_eq!(bed.responses(), []);
    bed.ask(5, 200, 2);
    assert_eq!(
        bed.responses(),
        [(2, HostResponse::Success)],
        "overflow: try again"
    );
    bed.requests.remove(ID);
    bed.ask(5, 201, 3);
    assert_eq!(bed.responses(), [(3, HostResponse::Invalid)], "gone");
}

#[test]
fn guest_that_never_answers_has_its_devices_requests_given_up() {
    let bed = Bed::new();
    for pasid in 0..MOST_OUTSTANDING {
        let pasid = u32::try_from(pasid).unwrap();
        bed.requests
            .devices()
            .get_mut(&ID)
            .unwrap()
            .outstanding
            .insert((Pasid::new(pasid), 1), pasid);
    }
    bed.ask(5, 2, 9999);
    let given_up = bed.responses();
    assert_eq!(given_up.len(), MOST_OUTSTANDING);
    assert!(
        given_up
            .iter()
            .all(|(_, what)| *what == HostResponse::Invalid)
    );
    let outstanding = bed.requests.take(ID, Pasid::new(5), 2);
    assert_eq!(outstanding, Some(9999), "the new one is told");
}
