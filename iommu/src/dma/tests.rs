// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Transfers over pages, regions and faults.

use super::*;
use crate::fault::{FaultReason, FaultSubject};
use crate::ids::SourceId;
use crate::request::Perms;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::Bytes;

/// Maps page n to page `pages[n]`, 0 meaning nothing and odd numbers meaning read-only, and keeps the requests.
#[derive(Debug)]
struct Pages {
    pages: Vec<u64>,
    requests: Mutex<Vec<Request>>,
}

impl Translate for Pages {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        self.requests.lock().unwrap().push(*request);
        let number = usize::try_from(request.address.0 >> 12).unwrap();
        let page = self.pages.get(number).copied().unwrap_or(0);
        let perms = Perms {
            read: page != 0,
            write: page != 0 && page % 2 == 0,
            execute: false,
        };
        if !perms.allow(request.access) {
            return Err(Fault {
                reason: FaultReason::NoRead,
                subject: FaultSubject::Dma(*request),
                record: true,
            });
        }
        let offset = request.address.0 & 0xfff;
        Ok(Translation {
            gpa: GuestAddress(page << 12 | offset),
            len: 0x1000 - offset,
            perms,
        })
    }
}

/// RAM of two regions that touch at 0x4000.
fn ram() -> Arc<Ram> {
    let regions = [(GuestAddress(0), 0x4000), (GuestAddress(0x4000), 0x4000)];
    Arc::new(Ram::from_ranges(&regions).unwrap())
}

fn requester() -> Arc<Requester> {
    let requester = Arc::new(Requester::new(SourceId(0x18)));
    requester.set_bus_master(true);
    requester
}

fn space(pages: &[u64]) -> (Arc<DmaSpace>, Arc<Ram>, Arc<Pages>) {
    let ram = ram();
    let pages = Arc::new(Pages {
        pages: pages.to_vec(),
        requests: Mutex::default(),
    });
    let space = DmaSpace::translated(
        Arc::clone(&ram),
        requester(),
        Pasid::new(5),
        Arc::clone(&pages) as _,
    );
    (space, ram, pages)
}

#[test]
fn transfer_over_pages_goes_where_each_page_is() {
    let (space, ram, _) = space(&[0, 6, 2]);
    let section = space.section();
    section.write(Iova(0x1ffe), &[1, 2, 3, 4]).unwrap();
    assert_eq!(
        ram.read_obj::<[u8; 2]>(GuestAddress(0x6ffe)).unwrap(),
        [1, 2]
    );
    assert_eq!(
        ram.read_obj::<[u8; 2]>(GuestAddress(0x2000)).unwrap(),
        [3, 4]
    );
    let mut back = [0; 4];
    section.read(Iova(0x1ffe), &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
}

#[test]
fn request_carries_source_pasid_and_access() {
    let (space, _, pages) = space(&[0, 6]);
    let section = space.section();
    section.read_value::<u32>(Iova(0x1008)).unwrap();
    section.write_value(Iova(0x1010), &7u16).unwrap();
    let requests = pages.requests.lock().unwrap();
    let seen: Vec<_> = requests
        .iter()
        .map(|r| (r.source.0, r.pasid, r.address.0, r.access))
        .collect();
    let pasid = Pasid::new(5);
    assert_eq!(
        seen,
        [
            (0x18, pasid, 0x1008, Access::Read),
            (0x18, pasid, 0x1010, Access::Write)
        ]
    );
}

#[test]
fn fault_in_the_middle_ends_the_transfer_there() {
    let (space, ram, _) = space(&[0, 6, 0]);
    let outcome = space.section().write(Iova(0x1ffe), &[1, 2, 3, 4]);
    assert_eq!(outcome, Err(DmaError::Blocked(Iova(0x2000))));
    assert_eq!(
        ram.read_obj::<[u8; 2]>(GuestAddress(0x6ffe)).unwrap(),
        [1, 2]
    );
}

#[test]
fn read_only_page_takes_no_write() {
    let (space, ram, _) = space(&[0, 3]);
    let section = space.section();
    assert_eq!(section.read_value::<u8>(Iova(0x1000)), Ok(0));
    let blocked = Err(DmaError::Blocked(Iova(0x1000)));
    assert_eq!(section.write(Iova(0x1000), &[1]), blocked);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(0x3000)).unwrap(), 0);
}

#[test]
fn page_outside_ram_is_reported() {
    let (space, ..) = space(&[0, 100]);
    assert_eq!(
        space.section().read_value::<u8>(Iova(0x1234)),
        Err(DmaError::NoRam(Iova(0x1234)))
    );
}

#[test]
fn requester_without_bus_mastering_asks_nothing() {
    let (space, _, pages) = space(&[0, 6]);
    space.requester().set_bus_master(false);
    assert_eq!(
        space.section().write(Iova(0x1000), &[1]),
        Err(DmaError::NotBusMaster(Iova(0x1000)))
    );
    assert!(pages.requests.lock().unwrap().is_empty());
}

#[test]
fn identity_transfer_crosses_regions() {
    let ram = ram();
    let space = DmaSpace::identity(Arc::clone(&ram), requester());
    space.section().write(Iova(0x3ffe), &[1, 2, 3, 4]).unwrap();
    assert_eq!(
        ram.read_obj::<[u8; 2]>(GuestAddress(0x4000)).unwrap(),
        [3, 4]
    );
}

#[test]
fn transfer_past_the_last_address_is_refused() {
    let space = DmaSpace::identity(ram(), requester());
    let section = space.section();
    assert_eq!(
        section.read_value::<u16>(Iova(u64::MAX)),
        Err(DmaError::NoRam(Iova(u64::MAX)))
    );
    assert_eq!(
        section.read_value::<u16>(Iova(0x7fff)),
        Err(DmaError::NoRam(Iova(0x8000)))
    );
    assert_eq!(section.read(Iova(u64::MAX), &mut []), Ok(()));
}

#[test]
fn section_is_guest_memory_by_iova() {
    let (space, ram, _) = space(&[0, 6]);
    let section = space.section();
    section
        .store(0x1234u16, GuestAddress(0x1002), Ordering::Release)
        .unwrap();
    assert_eq!(ram.read_obj::<u16>(GuestAddress(0x6002)).unwrap(), 0x1234);
    assert!(section.check_range(GuestAddress(0x1000), 0x1000, Permissions::ReadWrite));
    assert!(!section.check_range(GuestAddress(0x1000), 0x1001, Permissions::Read));
    section
        .store(0u16, GuestAddress(0x2000), Ordering::Release)
        .unwrap_err();
}

#[test]
fn quiesce_waits_for_an_open_section() {
    let (space, ..) = space(&[0, 6]);
    let quiet = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let section = space.section();
        let waiter = scope.spawn(|| {
            space.quiesce();
            quiet.store(true, Ordering::SeqCst);
        });
        for _ in 0..100 {
            std::thread::yield_now();
        }
        assert!(!quiet.load(Ordering::SeqCst));
        drop(section);
        waiter.join().unwrap();
    });
    assert!(quiet.load(Ordering::SeqCst));
}

#[test]
fn attributes_of_an_access_stand_in_its_request() {
    let (space, _, pages) = space(&[0, 6]);
    let section = space.section();
    let fetch = Attributes {
        execute: true,
        privileged: true,
        ..Attributes::default()
    };
    let translated = Attributes {
        address_type: AddressType::Translated,
        ..Attributes::default()
    };
    section.read_with(Iova(0x1000), &mut [0; 2], fetch).unwrap();
    section
        .write_with(Iova(0x1000), &[0; 2], translated)
        .unwrap();
    section.read(Iova(0x1000), &mut [0; 2]).unwrap();
    let seen: Vec<_> = pages
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|r| (r.address_type, r.execute, r.privileged))
        .collect();
    assert_eq!(
        seen,
        [
            (AddressType::Untranslated, true, true),
            (AddressType::Translated, false, false),
            (AddressType::Untranslated, false, false)
        ]
    );
}
