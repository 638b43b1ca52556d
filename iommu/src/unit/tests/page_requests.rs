// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The page request queue: what a descriptor looks like, when the ring is full, and which events are raised.

use super::*;
use crate::ats::ResponseCode;
use crate::page_request::{PageRequest, PageRequestOutcome};

const PQH: u64 = 0xc0;
const PQT: u64 = 0xc8;
const PQA: u64 = 0xd0;
const PRS: u64 = 0xdc;
const PECTL: u64 = 0xe0;
const RING: u64 = 0x8000;
const MASK: u32 = 0x8000_0000;

/// Set up as Linux does, except for the size: one page, 128 descriptors.
fn bench() -> Bench {
    let bench = Bench::with_wide_queue();
    bench.w32(PECTL + 4, 0x33);
    bench.w32(PECTL + 8, 0xfee0_2000);
    bench.w32(PECTL + 12, 0x100);
    bench.w32(PECTL, 0);
    bench.w64(PQH, 0);
    bench.w64(PQT, 0);
    bench.w64(PQA, RING);
    bench
}

fn request(group: u16) -> PageRequest {
    PageRequest {
        source: SourceId(0x1fb),
        pasid: Pasid::new(0xa_bcde),
        address: Iova(0x1234_5678),
        read: true,
        write: true,
        execute: false,
        privileged: false,
        last: true,
        group,
    }
}

fn words(bench: &Bench, index: u64) -> [u64; 4] {
    std::array::from_fn(|word| {
        let at = RING + 32 * index + 8 * word as u64;
        PhysMem::load_u64(&*bench.ram, GuestAddress(at)).unwrap()
    })
}

#[test]
fn registers_are_reserved_without_page_requests() {
    let bench = Bench::new();
    for offset in [PQH, PQT, PQA, 0xd4, PRS, PECTL, 0xe4, 0xe8, 0xec] {
        bench.w32(offset, u32::MAX);
        assert_eq!(bench.r32(offset), 0, "{offset:#x}");
    }
    let outcome = bench.unit.page_request(&request(0));
    assert_eq!(outcome, PageRequestOutcome::Answered(ResponseCode::Failure));
    assert_eq!(bench.r32(0x34), 0);
}

#[test]
fn registers_hold_what_the_table_says() {
    let bench = Bench::scalable();
    for (offset, mask) in [
        (PQH, 0x7_ffe0u64),
        (PQT, 0x7_ffe0),
        (PQA, 0xffff_ffff_ffff_f007),
    ] {
        bench.w64(offset, u64::MAX);
        assert_eq!(bench.r64(offset), mask, "{offset:#x}");
        bench.w64(offset, 0);
        assert_eq!(bench.r64(offset), 0);
    }
    assert_eq!(bench.r32(PECTL), MASK);
    for (offset, mask) in [
        (0xe4, 0xffffu32),
        (0xe8, 0xffff_fffc),
        (0xec, u32::MAX),
        (PRS, 0),
    ] {
        bench.w32(offset, u32::MAX);
        assert_eq!(bench.r32(offset), mask, "{offset:#x}");
    }
}

#[test]
fn request_is_queued_and_told_of() {
    let bench = bench();
    let outcome = bench.unit.enqueue(&request(0x1ff));
    assert_eq!(outcome, PageRequestOutcome::Queued);
    assert_eq!(words(&bench, 0), [0x000a_bcde_01fb_0101, 0x1234_5fff, 0, 0]);
    assert_eq!((bench.r64(PQT), bench.r32(PRS)), (0x20, 1));
    let message = MsiMessage {
        address: 0x0000_0100_fee0_2000,
        data: 0x33,
    };
    assert_eq!(bench.messages(), [message]);
    assert_eq!(bench.r32(PECTL), 0);
}

#[test]
fn each_field_of_a_request_reaches_its_descriptor() {
    let base = PageRequest {
        pasid: None,
        address: Iova(0),
        read: false,
        write: false,
        last: false,
        ..request(0)
    };
    let with_pasid = PageRequest {
        pasid: Pasid::new(0),
        ..base
    };
    for (request, low, high) in [
        (base, 0x01fb_0001u64, 0u64),
        (with_pasid, 0x01fb_0101, 0),
        (PageRequest { read: true, ..base }, 0x01fb_0001, 1),
        (
            PageRequest {
                write: true,
                ..base
            },
            0x01fb_0001,
            2,
        ),
        (PageRequest { last: true, ..base }, 0x01fb_0001, 4),
        (PageRequest { group: 1, ..base }, 0x01fb_0001, 8),
        (
            PageRequest {
                execute: true,
                ..with_pasid
            },
            0x0010_0000_01fb_0101,
            0,
        ),
        (
            PageRequest {
                privileged: true,
                ..with_pasid
            },
            0x0020_0000_01fb_0101,
            0,
        ),
        (
            PageRequest {
                address: Iova(u64::MAX),
                ..base
            },
            0x01fb_0001,
            0xffff_ffff_ffff_f000,
        ),
    ] {
        let bench = bench();
        bench.unit.enqueue(&request);
        assert_eq!(words(&bench, 0), [low, high, 0, 0], "{request:?}");
    }
}

#[test]
fn event_is_raised_once_until_both_conditions_are_cleared() {
    let bench = bench();
    bench.unit.enqueue(&request(0));
    bench.unit.enqueue(&request(1));
    assert_eq!(bench.messages().len(), 1);
    bench.w32(PRS, 1);
    assert_eq!(bench.r32(PRS), 0);
    bench.unit.enqueue(&request(2));
    assert_eq!(bench.messages().len(), 1);
    assert_eq!(bench.r64(PQT), 0x60);
}

#[test]
fn event_is_pending_while_masked_and_dropped_when_served() {
    let bench = bench();
    bench.w32(PECTL, MASK);
    bench.unit.enqueue(&request(0));
    assert_eq!(bench.r32(PECTL), 0xc000_0000);
    bench.w32(PRS, 1);
    assert_eq!(bench.r32(PECTL), MASK);
    bench.unit.enqueue(&request(0));
    bench.w32(PECTL, 0);
    assert_eq!(bench.messages().len(), 1);
    assert_eq!(bench.r32(PECTL), 0);
}

/// One place always stays free. Requests that do not end a group vanish, others are told to try again.
#[test]
fn full_queue_loses_requests_until_software_clears_pro() {
    let bench = bench();
    for group in 0..127 {
        let outcome = bench.unit.enqueue(&request(group));
        assert_eq!(outcome, PageRequestOutcome::Queued);
    }
    bench.w32(PRS, 1);
    bench.messages();
    assert_eq!(bench.r64(PQT), 0xfe0);
    let before = words(&bench, 127);
    let success = PageRequestOutcome::Answered(ResponseCode::Success);
    assert_eq!(bench.unit.enqueue(&request(127)), success);
    assert_eq!((bench.r32(PRS), bench.r64(PQT)), (2, 0xfe0));
    assert_eq!(words(&bench, 127), before, "nothing is written");
    assert_eq!(bench.messages().len(), 1, "overflow raises the event");
    // Software makes room, but PRO still holds everything back, without another event.
    bench.w64(PQH, 0xfe0);
    assert_eq!(bench.unit.enqueue(&request(0)), success);
    let more = PageRequest {
        last: false,
        ..request(0)
    };
    assert_eq!(bench.unit.enqueue(&more), PageRequestOutcome::Lost);
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.unit.counters().page_requests_lost, 3);
    bench.w32(PRS, 2);
    assert_eq!(bench.unit.enqueue(&request(0)), PageRequestOutcome::Queued);
    assert_eq!(bench.r64(PQT), 0, "the ring wraps");
    assert_eq!(bench.r32(PRS), 1);
}

#[test]
fn overflow_while_a_request_is_pending_raises_no_event() {
    let bench = bench();
    bench.unit.enqueue(&request(0));
    bench.messages();
    bench.w64(PQH, 0x40);
    bench.unit.enqueue(&request(1));
    assert_eq!((bench.r32(PRS), bench.messages()), (3, vec![]));
    bench.w32(PECTL, MASK);
    bench.w32(PRS, 1);
    assert_eq!(bench.r32(PRS), 2);
}

/// A stop marker asks for nothing: it is queued like any request, and its loss needs no answer.
#[test]
fn stop_marker_is_queued_and_never_answered() {
    let bench = bench();
    let marker = PageRequest {
        read: false,
        write: false,
        ..request(3)
    };
    assert_eq!(bench.unit.enqueue(&marker), PageRequestOutcome::Queued);
    assert_eq!(words(&bench, 0)[1], 0x1234_501c);
    bench.w64(PQH, 0x40);
    assert_eq!(bench.unit.enqueue(&marker), PageRequestOutcome::Lost);
}

#[test]
fn large_ring_wraps_at_its_size() {
    let bench = bench();
    bench.w64(PQA, RING | 1);
    bench.w64(PQT, 0x1fe0);
    bench.w64(PQH, 0x1fe0);
    bench.unit.enqueue(&request(0));
    assert_eq!(bench.r64(PQT), 0);
    assert_eq!(words(&bench, 255)[0], 0x000a_bcde_01fb_0101);
}

/// Head and tail are the guest's to write: beyond the ring they count modulo its size.
#[test]
fn offsets_beyond_the_ring_stay_in_it() {
    let bench = bench();
    bench.w64(PQT, 0x7_ffe0);
    bench.w64(PQH, 0x7_ffc0);
    assert_eq!(bench.unit.enqueue(&request(0)), PageRequestOutcome::Queued);
    assert_eq!(bench.r64(PQT), 0);
    assert_eq!(words(&bench, 127)[0], 0x000a_bcde_01fb_0101);
}

#[test]
fn queue_that_is_no_memory_fails_the_group() {
    let bench = bench();
    for base in [0x10_0000, !0xfff] {
        bench.w64(PQA, base);
        bench.w64(PQT, 0x40);
        let outcome = bench.unit.enqueue(&request(0));
        assert_eq!(outcome, PageRequestOutcome::Answered(ResponseCode::Failure));
        assert_eq!((bench.r64(PQT), bench.r32(PRS)), (0x40, 0));
    }
}

#[test]
fn request_while_translation_is_off_is_refused_silently() {
    let bench = bench();
    let outcome = bench.unit.page_request(&request(0));
    assert_eq!(
        outcome,
        PageRequestOutcome::Answered(ResponseCode::InvalidRequest)
    );
    assert_eq!((bench.r32(0x34), bench.r64(PQT)), (0, 0));
    assert_eq!(bench.unit.counters().page_requests, 1);
}

#[test]
fn request_in_legacy_mode_is_refused_and_recorded() {
    let bench = bench();
    bench.w32(0x18, 0xc400_0000);
    let outcome = bench.unit.page_request(&request(0));
    assert_eq!(
        outcome,
        PageRequestOutcome::Answered(ResponseCode::InvalidRequest)
    );
    assert_eq!(bench.r32(0x34), 2);
    assert_eq!(bench.r64(0x220), 0x1234_5000);
    // F, type 01, PASID, reason 0x32; PP, T2, SID.
    assert_eq!(bench.r64(0x228), 0x8abc_de32_9000_01fb);
    let more = PageRequest {
        last: false,
        ..request(0)
    };
    assert_eq!(bench.unit.page_request(&more), PageRequestOutcome::Lost);
}

#[test]
fn drain_waits_for_the_request_on_its_way() {
    let bench = bench();
    thread::scope(|scope| {
        let on_its_way = bench.unit.page_queue.lock().unwrap();
        let submitter = scope.spawn(|| bench.submit_wide(&[(0x0000_0002_0000_00a5, 0x2000)]));
        while bench.r64(0x80) == 0 {
            thread::yield_now();
        }
        assert_eq!(bench.memory32(0x2000), 0);
        assert!(!submitter.is_finished());
        drop(on_its_way);
    });
    assert_eq!(bench.memory32(0x2000), 2);
}

/// Where the scalable-mode context entry of 01:1f.3 is.
const CONTEXT: u64 = 0xb000 + 0x7b * 32;

fn store(bench: &Bench, at: u64, value: u64) {
    PhysMem::write(&*bench.ram, GuestAddress(at), &value.to_le_bytes()).unwrap();
}

/// Scalable mode, with this first word of the context entry of 01:1f.3.
fn scalable(context: u64) -> Bench {
    let bench = bench();
    store(&bench, 0xa000 + 16, 0xb001);
    store(&bench, 0xa000 + 24, 0xb001);
    store(&bench, CONTEXT, context);
    bench.w64(0x20, 0xa400);
    bench.w32(0x18, 0x4400_0000);
    bench.w32(0x18, 0x8400_0000);
    bench
}

#[test]
fn request_in_scalable_mode_is_queued_where_pre_is_set() {
    // P, DTE, PASIDE, PRE, PDTS 7, directory at 0xc000.
    let bench = scalable(0xce1d);
    let outcome = bench.unit.page_request(&request(0x1ff));
    assert_eq!(outcome, PageRequestOutcome::Queued);
    assert_eq!(words(&bench, 0)[0], 0x000a_bcde_01fb_0101);
    assert_eq!(bench.r32(0x34), 0);
}

/// The context entry, and the reason; each neighbour is legal but for one bit.
#[test]
fn request_that_the_context_does_not_allow_is_refused_and_recorded() {
    for (context, reason) in [
        (0xce1cu64, 0x41u64),
        (0xce0d, 0x47),
        (0xce15, 0x45),
        (0xc01d, 0x46),
        (0xce3d, 0x42),
    ] {
        let bench = scalable(context);
        let outcome = bench.unit.page_request(&request(0));
        assert_eq!(
            outcome,
            PageRequestOutcome::Answered(ResponseCode::InvalidRequest)
        );
        let record = 0x8abc_de00_9000_01fb | reason << 32;
        assert_eq!(bench.r64(0x228), record, "{context:#x}");
        assert_eq!(bench.r64(PQT), 0);
        let silent = scalable(context | 2);
        silent.unit.page_request(&request(0));
        assert_eq!(silent.r64(0x228), 0, "FPD keeps {reason:#x} out");
    }
}

#[test]
fn translation_request_records_why_it_is_refused() {
    use crate::translate::ats::AtsAnswer;
    // P, PASIDE, PRE is reserved without DTE.
    let bench = scalable(0xce09);
    let ask = Request {
        pasid: Pasid::new(1),
        ..Request::untranslated(SourceId(0x1fb), Iova(0x5000), Access::Read)
    };
    let answer = bench.unit.translation_request(&ask);
    assert!(matches!(answer, AtsAnswer::Unsupported(Some(_))));
    // F, read, translation request, PASID 1, reason 0x44, PP, SID.
    assert_eq!(bench.r64(0x228), 0xd000_0144_8000_01fb);
    assert_eq!(bench.unit.counters().translation_requests, 1);
}

#[test]
fn reset_waits_for_the_request_on_its_way() {
    let bench = bench();
    thread::scope(|scope| {
        let on_its_way = bench.unit.page_queue.lock().unwrap();
        let reset = scope.spawn(|| bench.unit.reset());
        while bench.unit.turns.is_free() {
            thread::yield_now();
        }
        assert!(!reset.is_finished());
        assert_eq!(bench.r64(PQA), RING);
        drop(on_its_way);
    });
    assert_eq!(bench.r64(PQA), 0);
}
