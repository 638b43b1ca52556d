// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors as raw words: what Linux emits, and every way in which one can be illegal.

mod scalable;

use super::*;
use crate::address::{Iova, IovaRange};
use crate::capabilities::{LegacyOptions, PasidBits, ScalableOptions};
use crate::ids::{DomainId, SourceId};
use crate::invalidation::FunctionMask;
use crate::memory::Ram;

fn caps() -> Capabilities {
    Capabilities::legacy(&LegacyOptions::default()).unwrap()
}

/// With everything that descriptors can name.
fn scalable_caps() -> Capabilities {
    Capabilities::scalable(&ScalableOptions {
        pasid: Some(PasidBits::MAX),
        device_tlb: true,
        page_requests: true,
        ..ScalableOptions::default()
    })
    .unwrap()
}

fn raw(qw0: u64, qw1: u64) -> Raw {
    Raw::Narrow(u128::from(qw1) << 64 | u128::from(qw0))
}

fn decode_narrow(qw0: u64, qw1: u64) -> Result<Decoded, QueueError> {
    decode(raw(qw0, qw1), &caps())
}

fn invalidation(qw0: u64, qw1: u64) -> Invalidation {
    match decode_narrow(qw0, qw1) {
        Ok(Decoded::Invalidation(invalidation)) => invalidation,
        other => panic!("{qw0:#x} {qw1:#x} is {other:?}"),
    }
}

fn pages(domain: u16, start: u64, last: u64, leaf_only: bool) -> Invalidation {
    Invalidation::IotlbPages {
        domain: DomainId(domain),
        range: IovaRange::new(Iova(start), Iova(last)).unwrap(),
        leaf_only,
    }
}

#[test]
fn context_descriptors_decode() {
    assert_eq!(invalidation(0x11, 0), Invalidation::ContextGlobal);
    assert_eq!(
        invalidation(0x0007_0021, 0),
        Invalidation::ContextDomain(DomainId(7))
    );
    for (fm, mask) in [
        (0, FunctionMask::Exact),
        (1, FunctionMask::Bit2),
        (2, FunctionMask::Bits21),
        (3, FunctionMask::Bits210),
    ] {
        assert_eq!(
            invalidation(0x0000_01fb_0007_0031 | fm << 48, 0),
            Invalidation::ContextDevice {
                domain: DomainId(7),
                source: SourceId(0x1fb),
                mask,
            }
        );
    }
}

#[test]
fn iotlb_descriptors_decode() {
    assert_eq!(invalidation(0xd2, 0), Invalidation::IotlbGlobal);
    assert_eq!(
        invalidation(0x0002_00e2, 0),
        Invalidation::IotlbDomain(DomainId(2))
    );
    assert_eq!(
        invalidation(0x0002_00f2, 0x1234_5000),
        pages(2, 0x1234_5000, 0x1234_5fff, false)
    );
    assert_eq!(
        invalidation(0x0002_00f2, 0x1234_5043),
        pages(2, 0x1234_0000, 0x1234_7fff, true)
    );
    // MAMV is 18.
    assert_eq!(
        invalidation(0x0002_00f2, 0xffff_ffff_ffff_f012),
        pages(2, 0xffff_ffff_c000_0000, u64::MAX, false)
    );
}

/// Without drain bits the meaning is the same: everything is drained anyway.
#[test]
fn iotlb_descriptors_without_drain_decode() {
    assert_eq!(invalidation(0x12, 0), Invalidation::IotlbGlobal);
    assert_eq!(
        invalidation(0x0002_0022, 0),
        Invalidation::IotlbDomain(DomainId(2))
    );
}

#[test]
fn interrupt_descriptors_decode() {
    assert_eq!(invalidation(0x04, 0), Invalidation::InterruptGlobal);
    for (qw0, first, count) in [
        (0x0000_1234_0000_0014u64, 0x1234, 1),
        (0x0000_1234_1800_0014, 0x1230, 8),
        // MHMV is 15.
        (0x0000_ffff_7800_0014, 0x8000, 0x8000),
    ] {
        assert_eq!(
            invalidation(qw0, 0),
            Invalidation::InterruptIndex { first, count }
        );
    }
}

#[test]
fn wait_descriptors_decode() {
    let status = Some((GuestAddress(0x1_2345_6784), 2));
    for (qw0, status, interrupt) in [
        (0x0000_0002_0000_0025, status, false),
        (0x0000_0002_0000_0035, status, true),
        (0x0000_0002_0000_0015, None, true),
        (0x0000_0002_0000_0045, None, false),
        (0x0000_0000_0000_0005, None, false),
    ] {
        assert_eq!(
            decode_narrow(qw0, 0x1_2345_6784),
            Ok(Decoded::Wait(Wait {
                drain: false,
                status,
                interrupt
            }))
        );
    }
}

#[test]
fn descriptor_of_unknown_type_is_refused() {
    // 3, 6, 7, 8 and 9 are not offered; 10 is gone; bits 11:9 belong to the type.
    for kind in [0, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
        assert_eq!(decode_narrow(kind, 0), Err(QueueError::Type), "type {kind}");
    }
    for high in 1..8 {
        assert_eq!(
            decode_narrow(0x11 | high << 9, 0),
            Err(QueueError::Type),
            "bits 11:9 = {high}"
        );
    }
}

#[test]
fn interrupt_descriptor_without_remapping_is_of_unknown_type() {
    let caps = Capabilities::legacy(&LegacyOptions {
        interrupt_remapping: false,
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    })
    .unwrap();
    assert_eq!(decode(raw(0x04, 0), &caps), Err(QueueError::Type));
}

#[test]
fn granularity_0_is_refused() {
    assert_eq!(decode_narrow(0x01, 0), Err(QueueError::Reserved));
    assert_eq!(decode_narrow(0x02, 0), Err(QueueError::Reserved));
}

#[test]
fn masks_beyond_what_is_offered_are_refused() {
    assert_eq!(decode_narrow(0xf2, 19), Err(QueueError::Reserved));
    assert_eq!(decode_narrow(0xf2, 63), Err(QueueError::Reserved));
    for im in 16..32 {
        assert_eq!(
            decode_narrow(0x14 | im << 27, 0),
            Err(QueueError::Reserved),
            "IM {im}"
        );
    }
}

#[test]
fn domain_beyond_what_is_offered_is_refused() {
    let base = caps();
    let few = Capabilities::new(base.cap().with_nd(0), base.ecap(), 48).unwrap();
    for qw0 in [0x0010_0021, 0x0010_0031, 0x0010_0022, 0x0010_0032] {
        assert_eq!(decode(raw(qw0, 0), &few), Err(QueueError::Reserved));
        assert_eq!(
            decode(raw(qw0 & !0x10_0000, 0), &few).map(|_| ()),
            Ok(()),
            "{qw0:#x}"
        );
    }
}

/// (a legal descriptor, its reserved bits), the latter from the table of descriptor layouts.
#[test]
fn each_reserved_bit_is_refused() {
    for (qw0, reserved0, reserved1) in [
        (0x31u64, 0xfffc_0000_0000_f1c0u64, u64::MAX),
        (0xf2, 0xffff_ffff_0000_f100, 0xf80),
        (0x14, 0xffff_0000_07ff_f1e0, u64::MAX),
        (0x25, 0xffff_f180, 0x3),
    ] {
        assert!(decode_narrow(qw0, 0).is_ok(), "{qw0:#x}");
        for bit in (0..64).map(|bit| 1 << bit) {
            if reserved0 & bit != 0 {
                assert_eq!(decode_narrow(qw0 | bit, 0), Err(QueueError::Reserved));
            }
            if reserved1 & bit != 0 {
                assert_eq!(decode_narrow(qw0, bit), Err(QueueError::Reserved));
            }
        }
    }
}

/// The upper half of a wide descriptor belongs to no type.
#[test]
fn upper_half_of_a_wide_descriptor_is_reserved() {
    for bit in [0, 63, 64, 127] {
        let wide = Raw::Wide([0x11, 1 << bit]);
        assert_eq!(decode(wide, &caps()), Err(QueueError::Reserved));
    }
}

#[test]
fn error_codes_are_those_of_iqercd() {
    let codes = [
        (QueueError::StatusWrite, 0),
        (QueueError::Tail, 1),
        (QueueError::Read, 2),
        (QueueError::Type, 3),
        (QueueError::Reserved, 4),
        (QueueError::Width, 5),
        (QueueError::TailAlignment, 6),
        (QueueError::TableMode, 7),
    ];
    for (error, code) in codes {
        assert_eq!(error.code(), code, "{error:?}");
    }
}

fn view(wide: bool, head: u32, tail: u32) -> QueueView {
    QueueView {
        setup: QueueSetup {
            base: GuestAddress(0x1000),
            pages: 1,
            wide,
        },
        head,
        tail,
        mode: TableMode::Legacy,
    }
}

fn ram(descriptors: &[(u64, [u64; 2])]) -> Ram {
    let ram = Ram::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    for (index, words) in descriptors {
        let at = 0x1000 + 16 * index;
        PhysMem::write(&ram, GuestAddress(at), &words[0].to_le_bytes()).unwrap();
        PhysMem::write(&ram, GuestAddress(at + 8), &words[1].to_le_bytes()).unwrap();
    }
    ram
}

#[test]
fn step_ends_behind_the_first_wait() {
    let ram = ram(&[
        (0, [0x11, 0]),
        (1, [0xd2, 0]),
        (2, [0x0000_0002_0000_0025, 0x3000]),
        (3, [0x04, 0]),
    ]);
    let step = view(false, 0, 4).step(&caps(), &ram);
    assert_eq!(
        step.invalidations,
        [Invalidation::ContextGlobal, Invalidation::IotlbGlobal]
    );
    assert_eq!(step.head, 3);
    assert!(matches!(step.end, StepEnd::Wait { at: 2, .. }));
}

#[test]
fn step_wraps_at_the_end_of_the_queue() {
    let ram = ram(&[(255, [0x11, 0]), (0, [0xd2, 0])]);
    let step = view(false, 255, 1).step(&caps(), &ram);
    assert_eq!(step.invalidations.len(), 2);
    assert_eq!((step.head, step.end), (1, StepEnd::Continue));
}

#[test]
fn step_stops_at_the_offending_descriptor_after_what_precedes_it() {
    let ram = ram(&[(0, [0x11, 0]), (1, [0x0f, 0]), (2, [0xd2, 0])]);
    let step = view(false, 0, 3).step(&caps(), &ram);
    assert_eq!(step.invalidations, [Invalidation::ContextGlobal]);
    assert_eq!((step.head, step.end), (1, StepEnd::Stop(QueueError::Type)));
}

#[test]
fn step_is_bounded() {
    let ram = Ram::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
    for index in 0..1024 {
        PhysMem::write(&ram, GuestAddress(0x1000 + 16 * index), &[0xd2]).unwrap();
    }
    let mut view = view(false, 0, 1000);
    view.setup.pages = 4;
    let step = view.step(&caps(), &ram);
    assert_eq!((step.invalidations.len(), step.head), (256, 256));
    assert_eq!(step.end, StepEnd::Continue);
}

#[test]
fn queue_outside_ram_stops_with_a_read_error() {
    let mut view = view(false, 0, 1);
    for base in [0x10_0000, u64::MAX - 0xfff] {
        view.setup.base = GuestAddress(base);
        let step = view.step(&caps(), &ram(&[]));
        assert_eq!((step.head, step.end), (0, StepEnd::Stop(QueueError::Read)));
    }
    // The whole address space is passed by the last descriptor of the largest queue.
    view.setup.pages = 128;
    view.head = 0x7ffe;
    view.tail = 0x7fff;
    let step = view.step(&caps(), &ram(&[]));
    assert_eq!(step.end, StepEnd::Stop(QueueError::Read));
}

#[test]
fn tail_beyond_the_queue_stops_it() {
    for tail in [256, 257, 0x7fff] {
        let step = view(false, 0, tail).step(&caps(), &ram(&[(0, [0x11, 0])]));
        assert!(step.invalidations.is_empty());
        assert_eq!((step.head, step.end), (0, StepEnd::Stop(QueueError::Tail)));
    }
}

#[test]
fn wide_queue_without_the_capability_stops() {
    let step = view(true, 0, 2).step(&caps(), &ram(&[(0, [0x11, 0])]));
    assert_eq!(step.end, StepEnd::Stop(QueueError::Width));
}

#[test]
fn wide_queue_is_read_in_strides_of_32_bytes() {
    let ram = ram(&[(0, [0x11, 0]), (2, [0xd2, 0]), (4, [0x45, 0])]);
    let step = view(true, 0, 6).step(&scalable_caps(), &ram);
    assert_eq!(
        step.invalidations,
        [Invalidation::ContextGlobal, Invalidation::IotlbGlobal]
    );
    assert_eq!(step.head, 6);
    assert!(matches!(step.end, StepEnd::Wait { at: 4, .. }));
}

#[test]
fn wide_descriptor_with_its_upper_half_set_stops_the_queue() {
    let ram = ram(&[(0, [0x11, 0]), (1, [0, 1])]);
    let step = view(true, 0, 2).step(&scalable_caps(), &ram);
    assert_eq!(step.end, StepEnd::Stop(QueueError::Reserved));
}

#[test]
fn wide_queue_with_an_odd_tail_stops() {
    let step = view(true, 0, 3).step(&scalable_caps(), &ram(&[(0, [0x11, 0])]));
    assert_eq!(
        (step.head, step.end),
        (0, StepEnd::Stop(QueueError::TailAlignment))
    );
}

#[test]
fn narrow_queue_in_scalable_mode_stops() {
    let mut view = view(false, 0, 1);
    view.mode = TableMode::Scalable;
    let step = view.step(&scalable_caps(), &ram(&[(0, [0x11, 0])]));
    assert_eq!(step.end, StepEnd::Stop(QueueError::Width));
}

#[test]
fn wait_with_drain_is_legal_where_page_requests_are_offered() {
    let Ok(Decoded::Wait(wait)) = decode(raw(0x0000_0002_0000_00a5, 0), &scalable_caps()) else {
        panic!("a wait");
    };
    assert!(wait.drain);
    assert_eq!(
        decode_narrow(0x0000_0002_0000_00a5, 0),
        Err(QueueError::Reserved)
    );
}

#[test]
fn table_mode_that_is_not_offered_stops_the_queue() {
    for mode in [TableMode::Scalable, TableMode::Reserved, TableMode::Abort] {
        let mut view = view(false, 0, 1);
        view.mode = mode;
        let step = view.step(&caps(), &ram(&[(0, [0x11, 0])]));
        assert_eq!(step.end, StepEnd::Stop(QueueError::TableMode), "{mode:?}");
    }
}

#[test]
fn pending_descriptors_are_counted_around_the_end() {
    assert_eq!(view(false, 0, 0).pending(), 0);
    assert_eq!(view(false, 250, 4).pending(), 10);
    assert_eq!(view(true, 250, 4).pending(), 5);
    assert_eq!(view(true, 0, 0).capacity(), 128);
}
