// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests. The capability is at 0x108: control 0x10c, status 0x10e.

use super::rig::{Rig, Slot, rig};
use crate::pci::PciFunction;
use iommu::ats::{AtsEndpoint, PageResponse, ResponseCode};
use iommu::ids::{Pasid, SourceId};
use iommu::page_request::PageRequest;

/// A touch for writing of a page of PASID 5, translated, with page requests.
fn touch() -> Slot {
    Slot {
        control: 0x5908,
        pasid: 5,
        address: 0x1234,
        length: 1,
        ..Slot::default()
    }
}

impl Rig {
    /// Waits until page request number `number` is outstanding.
    fn request(&self, number: usize) -> PageRequest {
        self.wait_until("asked", |rig| {
            rig.unit.page_requests.lock().unwrap().len() > number && rig.read(0x1c) & 2 != 0
        });
        self.unit.page_requests.lock().unwrap()[number]
    }

    fn respond(&self, group: u16, code: ResponseCode) {
        self.device.respond(PageResponse {
            source: SourceId(0x18),
            pasid: Pasid::new(5),
            group,
            code,
        });
    }

    fn pri_status(&self) -> u32 {
        self.config(0x10c) >> 16
    }
}

#[test]
fn page_that_appears_is_used() {
    let rig = rig();
    assert_eq!(rig.pri_status(), 0x8000);
    let slot = rig.submit(touch());
    let request = rig.request(0);
    let expected = PageRequest {
        source: SourceId(0x18),
        pasid: Pasid::new(5),
        address: iommu::address::Iova(0x1000),
        read: false,
        write: true,
        execute: false,
        privileged: false,
        last: true,
        group: 0,
    };
    assert_eq!(request, expected);
    assert_eq!(rig.read(0x1c), 0x3);
    // The first answer comes without the page: the device asks again.
    rig.respond(0, ResponseCode::Success);
    assert_eq!(rig.request(1).group, 1);
    rig.map(Some(5), &[(0x1000, 0x5000)]);
    rig.respond(1, ResponseCode::Success);
    assert_eq!(rig.answer(slot), (1, 1, 0x5000, 0));
    assert_eq!((rig.read(0x50), rig.read(0x54)), (2, 2));
    assert_eq!(rig.pri_status(), 0x8000);
}

#[test]
fn page_is_asked_for_a_few_times_only() {
    let rig = rig();
    *rig.unit.answer.lock().unwrap() = Some(ResponseCode::Success);
    assert_eq!(rig.run(touch()), (8, 0, 0, 0x1234));
    assert_eq!(rig.read(0x50), 8);
}

#[test]
fn invalid_request_ends_the_command() {
    let rig = rig();
    let slot = rig.submit(touch());
    let group = rig.request(0).group;
    rig.respond(group, ResponseCode::InvalidRequest);
    assert_eq!(rig.answer(slot), (10, 0, 0, 0x1234));
    assert_eq!(rig.pri_status(), 0x8000);
    *rig.unit.answer.lock().unwrap() = Some(ResponseCode::InvalidRequest);
    assert_eq!(rig.run(touch()).0, 10);
}

#[test]
fn failure_stays_until_it_is_cleared() {
    let rig = rig();
    let slot = rig.submit(touch());
    let group = rig.request(0).group;
    rig.respond(group, ResponseCode::Failure);
    assert_eq!(rig.answer(slot).0, 11);
    assert_eq!(rig.pri_status(), 0x8001);
    assert_eq!(rig.run(touch()).0, 11);
    assert_eq!(rig.read(0x50), 1);
    rig.device.config_write(0x10e, &[0x01, 0]);
    assert_eq!(rig.pri_status(), 0x8000);
    *rig.unit.answer.lock().unwrap() = Some(ResponseCode::Failure);
    assert_eq!(rig.run(touch()).0, 11);
    assert_eq!(rig.pri_status(), 0x8001);
}

#[test]
fn answer_that_does_not_come_ends_the_command_and_is_unexpected_later() {
    let rig = rig();
    rig.write(0x2c, 1);
    assert_eq!(rig.run(touch()).0, 12);
    rig.respond(0, ResponseCode::Success);
    assert_eq!(rig.pri_status(), 0x8002);
    rig.device.config_write(0x10e, &[0x02, 0]);
    assert_eq!(rig.pri_status(), 0x8000);
}

#[test]
fn answer_to_another_group_or_pasid_is_unexpected() {
    let rig = rig();
    let slot = rig.submit(touch());
    let group = rig.request(0).group;
    rig.respond(group + 1, ResponseCode::Failure);
    assert_eq!(rig.pri_status(), 0x8002);
    rig.device.respond(PageResponse {
        source: SourceId(0x18),
        pasid: None,
        group,
        code: ResponseCode::Failure,
    });
    assert_eq!(rig.read(0x1c), 0x3);
    rig.respond(group, ResponseCode::InvalidRequest);
    assert_eq!(rig.answer(slot).0, 10);
}

#[test]
fn disabled_interface_stops_when_nothing_is_outstanding() {
    let rig = rig();
    let slot = rig.submit(touch());
    let group = rig.request(0).group;
    rig.device.config_write(0x10c, &[0, 0]);
    assert_eq!(rig.pri_status(), 0x8000);
    // Without the page the device would have to ask again, which it may not.
    rig.respond(group, ResponseCode::Success);
    assert_eq!(rig.pri_status(), 0x8100);
    assert_eq!(rig.answer(slot).0, 4);
    rig.device.config_write(0x10c, &[1, 0]);
    assert_eq!(rig.pri_status(), 0x8000);
}

#[test]
fn reset_bit_forgets_what_is_outstanding() {
    let rig = rig();
    let slot = rig.submit(touch());
    rig.request(0);
    rig.device.config_write(0x10c, &[3, 0]);
    assert_eq!(rig.read(0x1c), 0x3);
    rig.device.config_write(0x10c, &[0, 0]);
    assert_eq!(rig.pri_status(), 0x8000);
    rig.device.config_write(0x10c, &[2, 0]);
    // At once: a driver enables the interface next, and looks at Stopped before.
    assert_eq!(rig.pri_status(), 0x8100);
    assert_eq!(rig.answer(slot).0, 13);
}

#[test]
fn function_level_reset_ends_the_wait() {
    let rig = rig();
    rig.write(0x2c, 60_000);
    rig.submit(touch());
    rig.request(0);
    rig.submit(Slot::default());
    rig.device.config_write(0x48, &[0x00, 0x80]);
    assert_eq!((rig.read(0x1c), rig.read(0x24)), (0, 0));
    assert_eq!(rig.pri_status(), 0x8100);
    rig.respond(0, ResponseCode::Success);
    assert_eq!(rig.pri_status(), 0x8102);
    rig.enable();
    assert_eq!(rig.run(Slot::default()).0, 1);
}

#[test]
fn device_that_goes_does_not_wait_for_a_page() {
    let rig = rig();
    rig.write(0x2c, 60_000);
    rig.submit(touch());
    rig.request(0);
    let unit = std::sync::Arc::clone(&rig.unit);
    drop(rig);
    // Its thread is gone, and with it the last user of the unit.
    assert_eq!(std::sync::Arc::strong_count(&unit), 1);
}
