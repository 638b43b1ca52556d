// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fault recording registers: layout, order, overflow, and how Linux empties them.

use super::*;
use crate::fault::{FaultReason, FaultSubject};
use crate::ids::Pasid;
use crate::request::AddressType;

const FSTS: u64 = 0x34;
const F: u32 = 0x8000_0000;

fn record(bench: &Bench, reason: FaultReason, subject: FaultSubject) {
    bench.unit.record(&Fault {
        reason,
        subject,
        record: true,
    });
}

fn request(access: Access) -> Request {
    Request::untranslated(SourceId(0x01fb), Iova(0x1234_5678_9abc), access)
}

/// The first record as its two halves.
fn first(bench: &Bench) -> (u64, u64) {
    (bench.r64(0x220), bench.r64(0x228))
}

#[test]
fn record_holds_source_page_reason_and_type() {
    for (access, high) in [
        (Access::Read, 0xc000_0006_0000_01fb),
        (Access::Write, 0x8000_0006_0000_01fb),
        (Access::Atomic, 0xc000_0006_1000_01fb),
    ] {
        let bench = Bench::new();
        record(
            &bench,
            FaultReason::NoRead,
            FaultSubject::Dma(request(access)),
        );
        assert_eq!(first(&bench), (0x1234_5678_9000, high), "{access:?}");
    }
}

#[test]
fn record_holds_the_address_type() {
    for (address_type, high) in [
        (AddressType::TranslationRequest, 0xd000_000d_0000_01fb),
        (AddressType::Translated, 0xe000_000d_0000_01fb),
    ] {
        let bench = Bench::new();
        let request = Request {
            address_type,
            ..request(Access::Read)
        };
        record(&bench, FaultReason::AtsBlocked, FaultSubject::Dma(request));
        assert_eq!(first(&bench).1, high, "{address_type:?}");
    }
}

#[test]
fn record_holds_the_pasid_and_its_rights() {
    let bench = Bench::new();
    let request = Request {
        pasid: Pasid::new(0xa_bcde),
        execute: true,
        privileged: true,
        ..request(Access::Read)
    };
    record(
        &bench,
        FaultReason::PasidInLegacyMode,
        FaultSubject::Dma(request),
    );
    assert_eq!(first(&bench).1, 0xcabc_de31_e000_01fb);
}

#[test]
fn record_without_pasid_shows_no_rights() {
    let bench = Bench::new();
    let request = Request {
        execute: true,
        privileged: true,
        ..request(Access::Read)
    };
    record(&bench, FaultReason::NoRead, FaultSubject::Dma(request));
    assert_eq!(first(&bench).1, 0xc000_0006_0000_01fb);
}

#[test]
fn record_of_an_interrupt_holds_its_index_only() {
    let bench = Bench::new();
    let subject = FaultSubject::Interrupt {
        source: SourceId(0xf8),
        index: 0xabcd,
    };
    record(&bench, FaultReason::IrteNotPresent, subject);
    assert_eq!(
        first(&bench),
        (0xabcd_0000_0000_0000, 0x8000_0022_0000_00f8)
    );
}

/// The way Linux reads a record: dword 3, dword 2, then the low half in 8 bytes.
#[test]
fn record_reads_the_same_in_pieces() {
    let bench = Bench::new();
    bench.fault(0x01fb, 0x5000, Access::Read);
    assert_eq!(bench.r32(0x22c), 0xc000_0006);
    assert_eq!(bench.r32(0x228), 0x0000_01fb);
    assert_eq!(bench.r64(0x220), 0x5000);
    assert_eq!(bench.r32(0x220), 0x5000);
    assert_eq!(bench.r32(0x224), 0);
}

#[test]
fn fault_that_is_not_to_be_recorded_is_counted_only() {
    let bench = Bench::new();
    bench.unit.record(&Fault {
        reason: FaultReason::NoWrite,
        subject: FaultSubject::Dma(request(Access::Write)),
        record: false,
    });
    assert_eq!(bench.r32(FSTS), 0);
    assert_eq!(bench.r32(0x22c), 0);
    assert_eq!(bench.unit.counters().faults, [(FaultReason::NoWrite, 1)]);
}

#[test]
fn faults_fill_the_records_in_order_and_then_overflow() {
    let bench = Bench::new();
    for index in 0..8u64 {
        bench.fault(0x10, index << 12, Access::Read);
        assert_eq!(bench.r32(FSTS), 2, "FRI stays at the first fault");
        assert_eq!(bench.r64(0x220 + 16 * index), index << 12);
        assert_eq!(bench.r32(0x22c + 16 * index) & F, F);
    }
    bench.fault(0x10, 0x9_9000, Access::Read);
    assert_eq!(bench.r32(FSTS), 3);
    for index in 0..8u64 {
        assert_eq!(
            bench.r64(0x220 + 16 * index),
            index << 12,
            "nothing overwritten"
        );
    }
    assert_eq!(bench.unit.counters().faults_lost, 1);
}

#[test]
fn faults_are_dropped_until_pfo_is_cleared() {
    let bench = Bench::new();
    for index in 0..9 {
        bench.fault(0x10, index << 12, Access::Read);
    }
    for index in 0..8 {
        bench.w32(0x22c + 16 * index, F);
    }
    assert_eq!(bench.r32(FSTS), 1);
    bench.fault(0x10, 0xa000, Access::Read);
    assert_eq!(bench.r32(FSTS), 1, "dropped while PFO is set");
    bench.w32(FSTS, 1);
    bench.fault(0x10, 0xb000, Access::Read);
    assert_eq!(bench.r32(FSTS), 2);
    assert_eq!(bench.r64(0x220), 0xb000);
    assert_eq!(bench.unit.counters().faults_lost, 2);
}

#[test]
fn ppf_follows_the_records_and_cannot_be_written() {
    let bench = Bench::new();
    bench.fault(0x10, 0x1000, Access::Read);
    bench.fault(0x10, 0x2000, Access::Read);
    bench.w32(FSTS, 0xffff_ffff);
    assert_eq!(bench.r32(FSTS), 2);
    bench.w32(0x22c, F);
    assert_eq!(bench.r32(FSTS), 2);
    bench.w32(0x23c, F);
    assert_eq!(bench.r32(FSTS), 0);
}

#[test]
fn writing_0_or_other_bits_leaves_the_fault() {
    let bench = Bench::new();
    bench.fault(0x10, 0x1000, Access::Read);
    bench.w32(0x22c, 0x7fff_ffff);
    bench.w64(0x220, u64::MAX);
    bench.w32(0x228, u32::MAX);
    assert_eq!(first(&bench), (0x1000, 0xc000_0006_0000_0010));
}

#[test]
fn fault_is_cleared_by_an_8_byte_write_too() {
    let bench = Bench::new();
    bench.fault(0x10, 0x1000, Access::Read);
    bench.w64(0x228, 0x8000_0000_0000_0000);
    assert_eq!(bench.r32(FSTS), 0);
}

/// Reads FRI, goes round the ring until a record is empty, clearing each, and clears PFO at the end.
fn linux_handler(bench: &Bench) -> Vec<u64> {
    let status = bench.r32(FSTS);
    let mut pages = Vec::new();
    let mut index = u64::from(status >> 8 & 0xff);
    while status & 2 != 0 && bench.r32(0x22c + 16 * index) & F != 0 {
        pages.push(bench.r64(0x220 + 16 * index));
        bench.w32(0x22c + 16 * index, F);
        index = (index + 1) % 8;
        assert!(pages.len() <= 8, "a record does not clear");
    }
    bench.w32(FSTS, 0x83);
    pages
}

#[test]
fn ring_goes_on_where_it_was_and_linux_finds_it() {
    let bench = Bench::new();
    let mut next = 1u64;
    for burst in [3usize, 1, 7, 8, 5] {
        let expected: Vec<u64> = (next..).take(burst).map(|page| page << 12).collect();
        for &page in &expected {
            bench.fault(0x10, page, Access::Write);
        }
        next += u64::try_from(burst).unwrap();
        assert_eq!(linux_handler(&bench), expected);
        assert_eq!(bench.r32(FSTS) & 0xff, 0);
    }
}

#[test]
fn blocked_dma_of_a_device_is_recorded() {
    use crate::dma::DmaError;
    use crate::ids::Requester;
    let bench = Bench::new();
    let requester = Arc::new(Requester::new(SourceId(0x18)));
    requester.set_bus_master(true);
    let space = bench
        .unit
        .dma_space(Arc::clone(&bench.ram), requester, None);
    let mut data = [0; 4];
    assert_eq!(space.section().read(Iova(0x5000), &mut data), Ok(()));
    assert_eq!(bench.r32(FSTS), 0);
    bench.w32(0x18, 0x8000_0000);
    let blocked = space.section().read(Iova(0x5004), &mut data);
    assert_eq!(blocked, Err(DmaError::Blocked(Iova(0x5004))));
    assert_eq!(first(&bench), (0x5000, 0xc000_0001_0000_0018));
    assert_eq!(bench.unit.counters().translations, 2);
}

#[test]
fn number_of_records_follows_the_capabilities() {
    let bench = Bench::with(&LegacyOptions {
        fault_records: 2,
        ..LegacyOptions::default()
    });
    for page in 1..4 {
        bench.fault(0x10, page << 12, Access::Read);
    }
    assert_eq!(bench.r32(FSTS), 3);
    assert_eq!((bench.r64(0x220), bench.r64(0x230)), (0x1000, 0x2000));
    assert_eq!(bench.r64(0x240), 0);
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Ear {
    counts: Mutex<Vec<u64>>,
    switches: Mutex<Vec<bool>>,
}

impl Observer for Ear {
    fn fault(&self, _: &Fault, count: u64) {
        self.counts.lock().unwrap().push(count);
    }

    fn translation(&self, on: bool) {
        self.switches.lock().unwrap().push(on);
    }
}

#[test]
fn observer_hears_the_first_faults_and_each_change_of_translation() {
    let bench = Bench::new();
    let ear = Arc::new(Ear::default());
    assert!(bench.unit.observe(ear.clone()));
    assert!(!bench.unit.observe(Arc::new(Ear::default())));
    for _ in 0..20 {
        let subject = FaultSubject::Dma(request(Access::Read));
        record(&bench, FaultReason::NoRead, subject);
    }
    assert_eq!(*ear.counts.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 16]);
    // Root table, translation on, the root table again, off, on, reset, reset.
    for command in [0x4000_0000, 0x8000_0000, 0xc000_0000, 0, 0x8000_0000] {
        bench.w32(0x18, command);
    }
    bench.unit.reset();
    bench.unit.reset();
    assert_eq!(*ear.switches.lock().unwrap(), [true, false, true, false]);
}
