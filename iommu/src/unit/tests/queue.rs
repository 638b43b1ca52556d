// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queued invalidation through the registers: progress, waits, errors and how they are left.

use super::*;

const FSTS: u64 = 0x34;
const IQH: u64 = 0x80;
const IQT: u64 = 0x88;
const IQERCD: u64 = 0xb0;

/// A wait descriptor that writes `status` to `address`.
fn wait(status: u64, address: u64) -> (u64, u64) {
    (status << 32 | 0x25, address)
}

#[test]
fn each_descriptor_type_is_carried_out() {
    let bench = Bench::with_queue();
    bench.submit(&[
        (0x11, 0),
        (0x0007_0021, 0),
        (0x0000_01fb_0007_0031, 0),
        (0xd2, 0),
        (0x0007_00e2, 0),
        (0x0007_00f2, 0x1000),
        (0x04, 0),
        (0x0000_1234_0000_0014, 0),
        wait(2, 0x2000),
    ]);
    let counters = bench.unit.counters();
    assert_eq!(counters.context_invalidations, 3);
    assert_eq!(counters.iotlb_invalidations, 2);
    assert_eq!(counters.page_invalidations, 1);
    assert_eq!(counters.interrupt_invalidations, 2);
    assert_eq!(counters.waits, 1);
    assert_eq!(bench.r64(IQH), 0x90);
    assert_eq!(bench.r32(FSTS), 0);
}

#[test]
fn wait_writes_its_status_within_the_tail_write() {
    let bench = Bench::with_queue();
    PhysMem::write(&*bench.ram, GuestAddress(0x2000), &[0xff; 12]).unwrap();
    bench.submit(&[(0xd2, 0), wait(2, 0x2004)]);
    assert_eq!(bench.memory32(0x2000), u32::MAX);
    assert_eq!(bench.memory32(0x2004), 2);
    assert_eq!(bench.memory32(0x2008), u32::MAX);
    assert_eq!(bench.r64(IQH), 0x20);
}

#[test]
fn wait_with_neither_status_nor_interrupt_succeeds() {
    let bench = Bench::with_queue();
    bench.submit(&[(0x0000_0002_0000_0045, 0x2000), (0x05, 0)]);
    assert_eq!(bench.r64(IQH), 0x20);
    assert_eq!(bench.r32(FSTS), 0);
    assert_eq!(bench.memory32(0x2000), 0);
    assert_eq!(bench.unit.counters().waits, 2);
    assert_eq!(bench.r32(0x9c), 0);
}

#[test]
fn several_waits_in_one_submission_all_complete() {
    let bench = Bench::with_queue();
    bench.submit(&[wait(1, 0x2000), (0xd2, 0), wait(2, 0x2004), wait(3, 0x2008)]);
    for (index, status) in [(0, 1), (4, 2), (8, 3)] {
        assert_eq!(bench.memory32(0x2000 + index), status);
    }
}

#[test]
fn queue_wraps_and_goes_on() {
    let bench = Bench::with_queue();
    for index in 0..256 {
        bench.put(index, 0xd2, 0);
    }
    bench.w32(IQT, 0xff0);
    assert_eq!(bench.r64(IQH), 0xff0);
    bench.put(0, 2 << 32 | 0x25, 0x2000);
    bench.w64(IQT, 0x10);
    assert_eq!(bench.r64(IQH), 0x10);
    assert_eq!(bench.memory32(0x2000), 2);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 256);
}

/// Index of the descriptor in question, the descriptor, the code.
#[test]
fn error_stops_at_the_descriptor_with_its_code() {
    for (descriptor, code) in [
        ((0x0000_0002_0000_0025, 0x8000_0000u64), 0),
        ((0x03, 0), 3),
        ((0x07, 0), 3),
        ((0x01, 0), 4),
        ((0x11, 1), 4),
        ((0xf2, 19), 4),
    ] {
        let bench = Bench::with_queue();
        bench.submit(&[
            (0xd2, 0),
            wait(1, 0x2000),
            descriptor,
            (0xd2, 0),
            wait(2, 0x2004),
        ]);
        assert_eq!(bench.r32(FSTS), 0x10, "{descriptor:x?}");
        assert_eq!(bench.r64(IQERCD), code, "{descriptor:x?}");
        assert_eq!(bench.r64(IQH), 0x20, "{descriptor:x?}");
        assert_eq!(bench.memory32(0x2000), 1, "what precedes it has completed");
        assert_eq!(bench.memory32(0x2004), 0, "what follows it has not");
        assert_eq!(bench.unit.counters().queue_errors, 1);
    }
}

#[test]
fn unreadable_queue_stops_with_code_2() {
    let bench = Bench::new();
    bench.w64(0x90, 0x10_0000);
    bench.w32(0x18, 0x0400_0000);
    bench.w32(IQT, 0x10);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 2));
    assert_eq!(bench.r64(IQH), 0);
}

#[test]
fn tail_beyond_the_queue_stops_with_code_1() {
    let bench = Bench::with_queue();
    bench.submit(&[(0xd2, 0)]);
    bench.w32(IQT, 0x1000);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 1));
    assert_eq!(bench.r64(IQH), 0x10);
    assert_eq!(bench.r64(IQT), 0x1000);
}

#[test]
fn wide_descriptors_stop_with_code_5_when_the_address_is_written() {
    let bench = Bench::new();
    bench.w64(0x90, QUEUE | 0x800);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 5));
    bench.w32(FSTS, 0x10);
    bench.w32(0x18, 0x0400_0000);
    bench.submit(&[(0x11, 0)]);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 5));
    assert_eq!(bench.r64(IQH), 0);
}

#[test]
fn reserved_table_mode_stops_with_code_7() {
    let bench = Bench::with_queue();
    bench.w64(0x20, 0x800);
    bench.w32(0x18, 0x4400_0000);
    bench.submit(&[(0x11, 0)]);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 7));
    assert_eq!(bench.r64(IQH), 0);
}

#[test]
fn stopped_queue_records_the_tail_and_fetches_nothing() {
    let bench = Bench::with_queue();
    bench.submit(&[(0x0f, 0), wait(2, 0x2000)]);
    bench.put(0, 0xd2, 0);
    bench.w32(IQT, 0x20);
    assert_eq!(bench.r64(IQH), 0);
    assert_eq!(bench.r64(IQT), 0x20);
    assert_eq!(bench.memory32(0x2000), 0);
    assert_eq!(bench.unit.counters().queue_errors, 1);
}

/// Linux replaces the bad descriptor by a wait, clears IQE and expects the queue to go on by itself.
#[test]
fn clearing_iqe_resumes_at_the_head() {
    let bench = Bench::with_queue();
    bench.submit(&[(0xd2, 0), (0x0f, 0), wait(2, 0x2000)]);
    assert_eq!(bench.r64(IQH), 0x10);
    bench.put(1, 3 << 32 | 0x25, 0x2004);
    bench.w32(FSTS, 0x10);
    assert_eq!(bench.r64(IQH), 0x30);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0, 0));
    assert_eq!((bench.memory32(0x2004), bench.memory32(0x2000)), (3, 2));
    assert_eq!(
        bench.unit.counters().iotlb_invalidations,
        1,
        "not done twice"
    );
}

#[test]
fn clearing_iqe_with_the_error_still_there_stops_again() {
    let bench = Bench::with_queue();
    bench.submit(&[(0x0f, 0)]);
    bench.w32(FSTS, 0x10);
    assert_eq!(bench.r32(FSTS), 0x10);
    assert_eq!(bench.r64(IQERCD), 3);
    assert_eq!(bench.unit.counters().queue_errors, 2);
}

#[test]
fn wait_whose_status_cannot_be_written_is_repeated_after_the_error() {
    let bench = Bench::with_queue();
    bench.submit(&[(0xd2, 0), wait(2, 0x10_0000)]);
    assert_eq!((bench.r64(IQH), bench.r32(FSTS)), (0x10, 0x10));
    assert_eq!(bench.unit.counters().waits, 0);
    bench.put(1, 2 << 32 | 0x25, 0x2000);
    bench.w32(FSTS, 0x10);
    assert_eq!((bench.r64(IQH), bench.memory32(0x2000)), (0x20, 2));
    assert_eq!(bench.unit.counters().waits, 1);
}

#[test]
fn device_tlb_time_out_freezes_the_queue_until_it_is_cleared() {
    let bench = Bench::with_queue();
    bench.unit.shell().state.registers.set_dword(0x34, 0x40);
    bench
        .unit
        .shell()
        .state
        .registers
        .set_qword(0xb0, 0x01fb << 32);
    bench.submit(&[wait(2, 0x2000)]);
    assert_eq!((bench.r64(IQH), bench.memory32(0x2000)), (0, 0));
    bench.w32(FSTS, 0x40);
    assert_eq!((bench.r64(IQH), bench.memory32(0x2000)), (0x10, 2));
    assert_eq!(bench.r64(IQERCD), 0);
}

#[test]
fn interrupt_entry_invalidation_tells_routes_and_others_do_not() {
    let bench = Bench::with_queue();
    bench.submit(&[(0xd2, 0), (0x11, 0), wait(1, 0x2000)]);
    assert_eq!(bench.changes(), 0);
    bench.put(3, 0x04, 0);
    bench.w32(IQT, 0x40);
    assert_eq!(bench.changes(), 1);
    bench.put(4, 0x14, 0);
    bench.w32(IQT, 0x50);
    assert_eq!(bench.changes(), 1);
}

#[test]
fn narrow_descriptors_in_scalable_mode_stop_with_code_5() {
    let bench = Bench::scalable();
    bench.w64(0x90, QUEUE);
    bench.w64(0x20, 0x8400);
    bench.w32(0x18, 0x4000_0000);
    bench.w32(0x18, 0x0400_0000);
    bench.submit(&[(0x11, 0)]);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 5));
    assert_eq!(bench.r64(IQH), 0);
}

#[test]
fn odd_tail_of_a_wide_queue_stops_with_code_6() {
    let bench = Bench::with_wide_queue();
    bench.submit_wide(&[(0xd2, 0)]);
    bench.w32(IQT, 0x30);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0x10, 6));
    assert_eq!(bench.r64(IQH), 0x20);
    bench.w32(IQT, 0x20);
    bench.w32(FSTS, 0x10);
    assert_eq!((bench.r32(FSTS), bench.r64(IQH)), (0, 0x20));
}

/// Descriptors of scalable mode, each as Linux writes it or with one thing wrong, and the code.
#[test]
fn wide_descriptors_run_or_stop_with_their_code() {
    for (qw0, qw1, code) in [
        (0x0000_0005_0003_0017u64, 0u64, None),
        (0x37, 0, None),
        (0x0003_0007, 0, None),
        (0x0000_0005_0003_0026, 0, None),
        (0x0000_0005_0003_0036, 0x1073, None),
        (0x0000_0018_0000_0003, 0x1001, None),
        (0x0000_0005_0018_0008, 0x1801, None),
        (0x0000_0005_0018_0019, 0x48, None),
        (0x0000_0002_0000_00a5, 0x2008, None),
        (0x27, 0, Some(4)),
        (0x16, 0, Some(4)),
        (0x37, 1, Some(4)),
        (0x0000_0018_0000_0003, 2, Some(4)),
        (0x0000_0005_0018_0008, 2, Some(4)),
        (0x0000_0005_0018_0019, 1, Some(4)),
        (0x0a, 0, Some(3)),
    ] {
        let bench = Bench::with_wide_queue();
        bench.submit_wide(&[(qw0, qw1), wait(2, 0x2000)]);
        let (status, head) = if code.is_some() { (0x10, 0) } else { (0, 0x40) };
        assert_eq!(bench.r32(FSTS), status, "{qw0:#x}");
        assert_eq!(bench.r64(IQERCD), code.unwrap_or(0), "{qw0:#x}");
        assert_eq!(bench.r64(IQH), head, "{qw0:#x}");
        let expected = if code.is_some() { 0 } else { 2 };
        assert_eq!(bench.memory32(0x2000), expected, "{qw0:#x}");
    }
}
