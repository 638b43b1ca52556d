// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Translation by the device. Opcode 0x8xx is with translation.

use super::rig::{Rig, Slot, rig};
use crate::dmatest::{Grant, Refused};
use crate::pci::PciFunction;
use iommu::address::{Iova, IovaRange};
use iommu::ats::{AtsEndpoint, Completion};
use iommu::ids::Pasid;
use iommu::invalidation::DeviceSpaces;
use iommu::request::AddressType::{Translated, TranslationRequest, Untranslated};
use vm_memory::GuestAddress;

fn load(address: u64) -> Slot {
    Slot {
        control: 0x801,
        address,
        length: 8,
        ..Slot::default()
    }
}

fn with_pasid(pasid: u32, slot: Slot) -> Slot {
    Slot {
        control: slot.control | 0x100,
        pasid,
        ..slot
    }
}

fn range(first: u64, last: u64) -> IovaRange {
    IovaRange::new(Iova(first), Iova(last)).unwrap()
}

/// Pages cached, hits, misses, invalidations.
fn counts(rig: &Rig) -> [u32; 4] {
    [0x40, 0x44, 0x48, 0x4c].map(|offset| rig.read(offset))
}

#[test]
fn translation_is_asked_for_once_and_used_without_pasid() {
    let rig = rig();
    rig.map(Some(7), &[(0x1000, 0x5000)]);
    rig.set_ram(0x5010, 0x77);
    for _ in 0..2 {
        assert_eq!(rig.run(with_pasid(7, load(0x1010))).0, 1);
        assert_eq!(rig.read64(0x1_0000), 0x77);
    }
    let expected = [
        (TranslationRequest, Some(7), 0x1000),
        (Translated, None, 0x5010),
        (Translated, None, 0x5010),
    ];
    assert_eq!(rig.unit.take_requests(), expected);
    assert_eq!(counts(&rig), [1, 1, 1, 0]);
}

#[test]
fn touch_tells_the_translated_page() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000), (0x2000, 0x9000)]);
    let touch = Slot {
        control: 0x808,
        length: 0x1001,
        ..load(0x1000)
    };
    assert_eq!(rig.run(touch), (1, 0x1001, 0x9000, 0));
}

#[test]
fn invalidated_translation_is_asked_for_again_and_others_are_not() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000), (0x2000, 0x6000)]);
    rig.map(Some(1), &[(0x1000, 0x7000)]);
    for slot in [load(0x1000), load(0x2000), with_pasid(1, load(0x1000))] {
        rig.run(slot);
    }
    assert_eq!(counts(&rig), [3, 0, 3, 0]);
    let invalidate = |spaces, range| rig.device.invalidate(spaces, range);
    let page = range(0x1000, 0x1fff);
    assert_eq!(
        invalidate(DeviceSpaces::WithoutPasid, page),
        Completion::Completed
    );
    assert_eq!(counts(&rig), [2, 0, 3, 1]);
    rig.map(None, &[(0x1000, 0x8000)]);
    rig.set_ram(0x8000, 0x88);
    rig.run(load(0x1000));
    assert_eq!(rig.read64(0x1_0000), 0x88);
    rig.run(load(0x2000));
    rig.run(with_pasid(1, load(0x1000)));
    assert_eq!(counts(&rig), [3, 2, 4, 1]);
    invalidate(DeviceSpaces::Pasid(Pasid::new(1).unwrap()), IovaRange::ALL);
    assert_eq!(counts(&rig), [2, 2, 4, 2]);
}

#[test]
fn privileged_translation_is_not_used_for_others() {
    let rig = rig();
    rig.map(Some(1), &[(0x1000, 0x5000)]);
    let slot = with_pasid(1, load(0x1000));
    let privileged = Slot {
        control: slot.control | 0x200,
        ..slot
    };
    let fetch = Slot {
        control: slot.control | 0x400,
        ..slot
    };
    for slot in [privileged, slot, fetch, fetch] {
        assert_eq!(rig.run(slot).0, 1);
    }
    // The fetch asks for a right that the cached page was not asked for.
    assert_eq!(counts(&rig), [2, 1, 3, 0]);
    let requests = rig.unit.requests.lock().unwrap();
    let asked: Vec<_> = requests
        .iter()
        .filter(|r| r.address_type == TranslationRequest)
        .map(|r| (r.privileged, r.execute))
        .collect();
    assert_eq!(asked, [(true, false), (false, false), (false, true)]);
}

#[test]
fn page_without_the_right_is_neither_used_nor_cached() {
    let rig = rig();
    let read_only = Grant {
        page: GuestAddress(0x5000),
        read: true,
        ..Grant::default()
    };
    *rig.unit.grant.lock().unwrap() = Some(Ok(read_only));
    let store = Slot {
        control: 0x802,
        ..load(0x1008)
    };
    assert_eq!(rig.run(store), (8, 0, 0, 0x1008));
    assert_eq!(rig.run(load(0x1008)).0, 1);
    assert_eq!(rig.run(store), (8, 0, 0, 0x1008));
    *rig.unit.grant.lock().unwrap() = Some(Ok(Grant::default()));
    assert_eq!(rig.run(load(0x3000)), (8, 0, 0, 0x3000));
    assert_eq!(rig.read(0x40), 1);
}

#[test]
fn refused_translation_request_is_told() {
    let rig = rig();
    *rig.unit.grant.lock().unwrap() = Some(Err(Refused));
    assert_eq!(rig.run(load(0x1000)), (9, 0, 0, 0x1000));
    assert_eq!(rig.read(0x40), 0);
}

#[test]
fn page_for_untranslated_requests_is_used_so() {
    let rig = rig();
    let grant = Grant {
        read: true,
        untranslated_only: true,
        ..Grant::default()
    };
    *rig.unit.grant.lock().unwrap() = Some(Ok(grant));
    rig.map(Some(3), &[(0x1000, 0x5000)]);
    assert_eq!(rig.run(with_pasid(3, load(0x1000))).0, 1);
    let expected = [
        (TranslationRequest, Some(3), 0x1000),
        (Untranslated, Some(3), 0x1000),
    ];
    assert_eq!(rig.unit.take_requests(), expected);
    assert_eq!(rig.read(0x40), 0);
}

#[test]
fn disabling_drops_what_it_forbids() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000)]);
    rig.map(Some(1), &[(0x1000, 0x5000)]);
    let fill = || {
        rig.run(load(0x1000));
        rig.run(with_pasid(1, load(0x1000)));
    };
    fill();
    assert_eq!(rig.read(0x40), 2);
    rig.device.config_write(0x11e, &[0x06, 0]);
    assert_eq!(rig.read(0x40), 1);
    rig.device.config_write(0x11e, &[0x07, 0]);
    fill();
    rig.device.config_write(0x107, &[0x00]);
    assert_eq!(rig.read(0x40), 0);
}

#[test]
fn completion_is_withheld_or_wrong_on_demand_but_the_page_is_dropped() {
    let rig = rig();
    rig.map(None, &[(0x1000, 0x5000)]);
    for (control, completion) in [(1, Completion::TimedOut), (2, Completion::Wrong)] {
        rig.run(load(0x1000));
        assert_eq!(rig.read(0x40), 1);
        rig.write(0x18, control);
        let answer = rig
            .device
            .invalidate(DeviceSpaces::WithoutPasid, IovaRange::ALL);
        assert_eq!(answer, completion);
        assert_eq!(rig.read(0x40), 0);
    }
}
