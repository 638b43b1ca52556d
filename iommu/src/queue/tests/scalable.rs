// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The descriptors of scalable mode, of device-TLBs and of page requests.

use super::*;
use crate::ats::ResponseCode;
use crate::ids::Pasid;
use crate::invalidation::{DeviceSpaces, DeviceTlbInvalidation};

fn decode_wide(qw0: u64, qw1: u64) -> Result<Decoded, QueueError> {
    let low = u128::from(qw1) << 64 | u128::from(qw0);
    decode(Raw::Wide([low, 0]), &scalable_caps())
}

fn invalidation(qw0: u64, qw1: u64) -> Invalidation {
    match decode_wide(qw0, qw1) {
        Ok(Decoded::Invalidation(invalidation)) => invalidation,
        other => panic!("{qw0:#x} {qw1:#x} is {other:?}"),
    }
}

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

fn range(start: u64, last: u64) -> IovaRange {
    IovaRange::new(Iova(start), Iova(last)).unwrap()
}

#[test]
fn pasid_cache_descriptors_decode() {
    assert_eq!(invalidation(0x37, 0), Invalidation::PasidCacheGlobal);
    assert_eq!(
        invalidation(0x0007_0007, 0),
        Invalidation::PasidCacheDomain(DomainId(7))
    );
    assert_eq!(
        invalidation(0x000f_edcb_0007_0017, 0),
        Invalidation::PasidCacheOne {
            domain: DomainId(7),
            pasid: pasid(0xf_edcb)
        }
    );
}

#[test]
fn pasid_iotlb_descriptors_decode() {
    let domain = DomainId(7);
    assert_eq!(
        invalidation(0x0000_0005_0007_0026, 0),
        Invalidation::PasidIotlbAll {
            domain,
            pasid: pasid(5)
        }
    );
    for (qw1, start, last, leaf_only) in [
        (0x1234_5000u64, 0x1234_5000u64, 0x1234_5fffu64, false),
        (0x1234_5043, 0x1234_0000, 0x1234_7fff, true),
        // MAMV is 18 and does not bound these.
        (
            0xffff_8000_0000_0013,
            0xffff_8000_0000_0000,
            0xffff_8000_7fff_ffff,
            false,
        ),
        (51, 0, 0x7fff_ffff_ffff_ffff, false),
        (52, 0, u64::MAX, false),
        (63, 0, u64::MAX, false),
    ] {
        let expected = Invalidation::PasidIotlbPages {
            domain,
            pasid: pasid(5),
            range: range(start, last),
            leaf_only,
        };
        assert_eq!(
            invalidation(0x0000_0005_0007_0036, qw1),
            expected,
            "{qw1:#x}"
        );
    }
}

/// S, ADDR, and what they name: 8 KiB, doubled with each trailing one of the page number.
const DEVICE_RANGES: [(u64, u64, u64, u64); 7] = [
    (0, 0x1234_5000, 0x1234_5000, 0x1234_5fff),
    (0, 0x1234_7000, 0x1234_7000, 0x1234_7fff),
    (1, 0x1234_4000, 0x1234_4000, 0x1234_5fff),
    (1, 0x1234_5000, 0x1234_4000, 0x1234_7fff),
    (1, 0x1230_f000, 0x1230_0000, 0x1231_ffff),
    (1, 0x7fff_ffff_ffff_f000, 0, u64::MAX),
    (1, 0xffff_ffff_ffff_f000, 0, u64::MAX),
];

#[test]
fn device_tlb_descriptors_decode() {
    for (s, address, start, last) in DEVICE_RANGES {
        let expected = Invalidation::DeviceTlb(DeviceTlbInvalidation {
            source: SourceId(0x1fb),
            spaces: DeviceSpaces::WithoutPasid,
            range: range(start, last),
        });
        // MIP 5, PFSID 0x1f8.
        let found = invalidation(0x01f0_01fb_0005_8003, address | s);
        assert_eq!(found, expected, "{address:#x}");
    }
}

#[test]
fn pasid_device_tlb_descriptors_decode() {
    for (s, address, start, last) in DEVICE_RANGES {
        for (g, spaces) in [
            (0, DeviceSpaces::Pasid(pasid(0xf_edcb))),
            (1, DeviceSpaces::AllPasids),
        ] {
            let expected = Invalidation::DeviceTlb(DeviceTlbInvalidation {
                source: SourceId(0x1fb),
                spaces,
                range: range(start, last),
            });
            let found = invalidation(0x01ff_edcb_01fb_8058, address | s << 11 | g);
            assert_eq!(found, expected, "{address:#x}");
        }
    }
}

/// Types 1 to 5 need no wide descriptors, the device-TLB one included.
#[test]
fn device_tlb_descriptor_is_legal_in_a_narrow_queue() {
    let narrow = raw(0x0000_01fb_0000_0003, 0);
    assert!(decode(narrow, &scalable_caps()).is_ok());
}

#[test]
fn physical_function_is_reserved_without_dit() {
    let base = scalable_caps();
    let caps = Capabilities::new(base.cap(), base.ecap().with_dit(false), 48).unwrap();
    for kind in [3u128, 8] {
        assert!(decode(Raw::Wide([kind, 0]), &caps).is_ok());
        for bit in (12..16).chain(52..64) {
            let descriptor = Raw::Wide([kind | 1 << bit, 0]);
            assert_eq!(
                decode(descriptor, &caps),
                Err(QueueError::Reserved),
                "type {kind} bit {bit}"
            );
            assert!(decode(descriptor, &base).is_ok());
        }
    }
}

#[test]
fn page_group_responses_decode() {
    for (bits, code) in [
        (0u64, ResponseCode::Success),
        (1, ResponseCode::InvalidRequest),
        (0xf, ResponseCode::Failure),
        (2, ResponseCode::Failure),
    ] {
        assert_eq!(
            decode_wide(0x000f_edcb_01fb_0019 | bits << 12, 0xff8),
            Ok(Decoded::Response(PageResponse {
                source: SourceId(0x1fb),
                pasid: Some(pasid(0xf_edcb)),
                group: 0x1ff,
                code,
            }))
        );
    }
    let Ok(Decoded::Response(response)) = decode_wide(0x000f_edcb_01fb_0009, 0x8) else {
        panic!("a response");
    };
    assert_eq!((response.pasid, response.group), (None, 1));
}

/// Drivers for old revisions of the specification copy LPIG into the response.
#[test]
fn last_page_flag_of_old_drivers_is_ignored() {
    assert_eq!(decode_wide(0x09, 0x0c), decode_wide(0x09, 0x08));
}

/// (a legal descriptor, its reserved bits), the latter from the table of descriptor layouts.
#[test]
fn each_reserved_bit_is_refused() {
    for (qw0, reserved0, reserved1) in [
        (0x03u64, 0x000f_0000_ffe0_01f0u64, 0xffeu64),
        (0x36, 0xfff0_0000_0000_f1c0, 0xf80),
        (0x17, 0xfff0_0000_0000_f1c0, u64::MAX),
        (0x08, 0, 0x7fe),
        (0x19, 0xfff0_0000_0000_01e0, 0xffff_ffff_ffff_f003),
        (0x25, 0xffff_f100, 0x3),
    ] {
        assert!(decode_wide(qw0, 0).is_ok(), "{qw0:#x}");
        for bit in (0..64).map(|bit| 1 << bit) {
            // Bits 11:9 belong to the type.
            if bit & 0xe0f == 0 {
                let illegal = reserved0 & bit != 0;
                assert_eq!(
                    decode_wide(qw0 | bit, 0) == Err(QueueError::Reserved),
                    illegal || !is_defined(qw0 | bit),
                    "{qw0:#x} {bit:#x}"
                );
            }
            let illegal = reserved1 & bit != 0;
            assert_eq!(
                decode_wide(qw0, bit) == Err(QueueError::Reserved),
                illegal,
                "{qw0:#x}, {bit:#x} in the second word"
            );
        }
    }
}

/// Whether the granularity of a descriptor has a meaning.
fn is_defined(qw0: u64) -> bool {
    let granularity = qw0 >> 4 & 3;
    match qw0 & 0xf {
        6 => granularity >= 2,
        7 => granularity != 2,
        _ => true,
    }
}

#[test]
fn reserved_granularities_are_refused() {
    for qw0 in [0x06, 0x16, 0x27] {
        assert_eq!(decode_wide(qw0, 0), Err(QueueError::Reserved), "{qw0:#x}");
    }
}

#[test]
fn types_of_256_bits_are_unknown_in_a_narrow_queue() {
    for qw0 in [0x26, 0x36, 0x17, 0x37, 0x08, 0x09] {
        let narrow = raw(qw0, 0);
        assert_eq!(
            decode(narrow, &scalable_caps()),
            Err(QueueError::Type),
            "{qw0:#x}"
        );
    }
}

#[test]
fn types_that_are_not_offered_are_unknown() {
    let without = Capabilities::scalable(&ScalableOptions::default()).unwrap();
    for qw0 in [0x03, 0x08, 0x09] {
        let wide = Raw::Wide([qw0, 0]);
        assert_eq!(decode(wide, &without), Err(QueueError::Type), "{qw0:#x}");
    }
    // Abort mode alone makes descriptors wide.
    let base = caps();
    let abort = Capabilities::new(base.cap(), base.ecap().with_adms(true), 48).unwrap();
    assert!(abort.wide_descriptors());
    for qw0 in [0x26, 0x37] {
        let wide = Raw::Wide([qw0, 0]);
        assert_eq!(decode(wide, &abort), Err(QueueError::Type), "{qw0:#x}");
    }
}

#[test]
fn step_keeps_responses_apart_and_counts_them() {
    let ram = ram(&[
        (0, [0x26, 0]),
        (2, [0x09, 0x10]),
        (4, [0xd2, 0]),
        (6, [0x0000_0002_0000_00a5, 0x3000]),
    ]);
    let step = view(true, 0, 8).step(&scalable_caps(), &ram);
    assert_eq!(step.invalidations.len(), 2);
    assert_eq!(step.responses[0].group, 2);
    assert_eq!((step.descriptors, step.head), (4, 8));
    assert!(matches!(step.end, StepEnd::Wait { wait, at: 6 } if wait.drain));
}

#[test]
fn wide_queue_in_abort_mode_runs() {
    let base = caps();
    let caps = Capabilities::new(base.cap(), base.ecap().with_adms(true), 48).unwrap();
    let mut view = view(true, 0, 2);
    view.mode = TableMode::Abort;
    let step = view.step(&caps, &ram(&[(0, [0x11, 0])]));
    assert_eq!(step.invalidations, [Invalidation::ContextGlobal]);
}
