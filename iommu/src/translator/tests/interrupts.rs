// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping: formats, each fault reason beside a neighbour that does not raise it, and what is delivered.

use super::*;
use crate::invalidation::Invalidation;

/// Remappable, handle 3, no subhandle.
const ADDRESS: u64 = 0xfee0_0070;
/// Entry 3 of the table at 0x7_0000.
const ENTRY: u64 = 0x7_0030;
/// Present, fixed, edge, physical, redirection hint, vector 0x31, destination 0x0000_0002.
const LOW: u64 = 0x0000_0002_0031_0009;
/// SVT = 01, SQ = 00, SID of [`DEVICE`].
const HIGH: u64 = 0x4_0008;

fn table(extended: bool) -> InterruptTable {
    InterruptTable {
        table: GuestAddress(0x7_0000),
        entries: 256,
        extended,
    }
}

/// Remapping with 32-bit destinations, compatibility format blocked, and entry 3 valid.
fn bench() -> Bench {
    let bench = Bench::standard();
    set_mode(&bench, Some(table(true)), false);
    bench.memory.set(ENTRY, LOW);
    bench.memory.set(ENTRY + 8, HIGH);
    bench
}

fn set_mode(bench: &Bench, table: Option<InterruptTable>, compatibility_allowed: bool) {
    bench.translator.set_interrupts(InterruptMode {
        table,
        compatibility_allowed,
    });
}

/// Address and data, or code, index and whether it is recorded.
type Outcome = Result<(u64, u32), (u8, u16, bool)>;

fn send(bench: &Bench, source: SourceId, address: u64, data: u32) -> Outcome {
    bench
        .translator
        .remap(source, MsiMessage { address, data })
        .map(|delivery| {
            let message = delivery.message().unwrap();
            (message.address, message.data)
        })
        .map_err(|fault| {
            let FaultSubject::Interrupt {
                source: blamed,
                index,
            } = fault.subject
            else {
                panic!("an interrupt fault that blames a DMA");
            };
            assert_eq!(blamed, source);
            (fault.reason.code(), index, fault.record)
        })
}

/// The outcome for entry 3 with these words.
fn through(low: u64, high: u64) -> Outcome {
    let bench = bench();
    bench.memory.set(ENTRY, low);
    bench.memory.set(ENTRY + 8, high);
    send(&bench, DEVICE, ADDRESS, 0)
}

const DELIVERED: Outcome = Ok((0xfee0_2008, 0x4031));

#[test]
fn valid_entry_is_delivered() {
    assert_eq!(through(LOW, HIGH), DELIVERED);
}

#[test]
fn every_format_passes_while_remapping_is_off() {
    let bench = bench();
    set_mode(&bench, None, false);
    assert_eq!(
        send(&bench, DEVICE, 0xfee0_1000, 0x41),
        Ok((0xfee0_1000, 0x41))
    );
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0x41), Ok((ADDRESS, 0x41)));
}

#[test]
fn compatibility_format_faults_0x25_unless_allowed() {
    let bench = bench();
    let compatibility = |bench: &Bench| send(bench, DEVICE, 0xfee0_1000, 0x41);
    set_mode(&bench, Some(table(false)), false);
    assert_eq!(compatibility(&bench), Err((0x25, 0, true)));
    set_mode(&bench, Some(table(false)), true);
    assert_eq!(compatibility(&bench), Ok((0xfee0_1000, 0x41)));
}

#[test]
fn compatibility_format_faults_0x25_in_extended_mode() {
    let bench = bench();
    set_mode(&bench, Some(table(true)), true);
    assert_eq!(
        send(&bench, DEVICE, 0xfee0_1000, 0x41),
        Err((0x25, 0, true))
    );
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0x41), DELIVERED);
}

#[test]
fn reserved_request_field_faults_0x20() {
    let bench = bench();
    let reserved = Err((0x20, 0, true));
    assert_eq!(send(&bench, DEVICE, 1 << 32 | ADDRESS, 0), reserved);
    assert_eq!(send(&bench, DEVICE, 0xfed0_0070, 0), reserved);
    assert_eq!(
        send(&bench, DEVICE, ADDRESS | 8, 0x1_0000),
        reserved,
        "SHV = 1"
    );
    assert_eq!(
        send(&bench, DEVICE, ADDRESS, 0xffff_ffff),
        DELIVERED,
        "SHV = 0"
    );
    assert_eq!(send(&bench, DEVICE, ADDRESS | 3, 0), DELIVERED, "bits 1:0");
}

#[test]
fn subhandle_is_added_when_valid() {
    let bench = bench();
    let handle_1 = 0xfee0_0030;
    assert_eq!(send(&bench, DEVICE, handle_1 | 8, 2), DELIVERED);
    assert_eq!(send(&bench, DEVICE, handle_1, 2), Err((0x22, 1, true)));
}

#[test]
fn index_beyond_the_table_faults_0x21() {
    let bench = bench();
    // Handle 255 and 256 of 256 entries.
    assert_eq!(send(&bench, DEVICE, 0xfee0_1ff0, 0), Err((0x22, 255, true)));
    assert_eq!(send(&bench, DEVICE, 0xfee0_2010, 0), Err((0x21, 256, true)));
    assert_eq!(
        send(&bench, DEVICE, 0xfee0_0014, 0),
        Err((0x21, 0x8000, true)),
        "address bit 2 is handle bit 15"
    );
}

/// 0xffff + 1 is no index 0.
#[test]
fn index_sum_that_needs_17_bits_faults_0x21() {
    let bench = bench();
    let whole = InterruptTable {
        entries: 65536,
        ..table(true)
    };
    set_mode(&bench, Some(whole), false);
    let handle_ffff = 0xfeef_fffc;
    assert_eq!(
        send(&bench, DEVICE, handle_ffff, 0),
        Err((0x22, 0xffff, true))
    );
    assert_eq!(
        send(&bench, DEVICE, handle_ffff, 1),
        Err((0x21, 0xffff, true))
    );
}

#[test]
fn entry_beyond_the_host_address_width_faults_0x21() {
    let bench = bench();
    let far = InterruptTable {
        table: GuestAddress(1 << 48),
        ..table(true)
    };
    set_mode(&bench, Some(far), false);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), Err((0x21, 3, true)));
}

/// A table need not be aligned to its size.
#[test]
fn entry_offset_is_added_to_the_table() {
    let bench = bench();
    let odd = InterruptTable {
        table: GuestAddress(0x6_f000),
        entries: 65536,
        extended: true,
    };
    set_mode(&bench, Some(odd), false);
    // Index 0x103: 0x6f000 + 0x1030.
    assert_eq!(send(&bench, DEVICE, 0xfee0_2070, 0), DELIVERED);
}

#[test]
fn entry_not_present_faults_0x22() {
    assert_eq!(through(LOW & !1, HIGH), Err((0x22, 3, true)));
    assert_eq!(through(LOW & !1 | 2, HIGH), Err((0x22, 3, false)), "FPD");
    assert_eq!(
        through(LOW & !1 | 1 << 15, HIGH),
        Err((0x22, 3, true)),
        "hides reserved bits"
    );
}

#[test]
fn entry_unreadable_faults_0x23() {
    for gpa in [ENTRY, ENTRY + 8] {
        let bench = bench();
        bench.memory.fail(gpa);
        assert_eq!(send(&bench, DEVICE, ADDRESS, 0), Err((0x23, 3, true)));
    }
    let bench = bench();
    bench.memory.fail(ENTRY + 16);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), DELIVERED);
}

#[test]
fn entry_reserved_bit_faults_0x24() {
    for bit in (12..15).chain(24..32) {
        assert_eq!(
            through(LOW | 1 << bit, HIGH),
            Err((0x24, 3, true)),
            "bit {bit}"
        );
    }
    for bit in 84..128 {
        let high = HIGH | 1 << (bit - 64);
        assert_eq!(through(LOW, high), Err((0x24, 3, true)), "bit {bit}");
    }
    assert_eq!(through(LOW | 1 << 12 | 2, HIGH), Err((0x24, 3, false)));
    assert_eq!(through(LOW | 0xf00 | 2, HIGH), DELIVERED, "11:8 available");
}

#[test]
fn posted_entry_without_the_capability_faults_0x24() {
    assert_eq!(through(LOW | 1 << 15, HIGH), Err((0x24, 3, true)));
}

/// Without extended mode the destination stands in bits 47:40.
#[test]
fn destination_bits_beyond_8_fault_0x24_without_extended_mode() {
    let bench = bench();
    set_mode(&bench, Some(table(false)), false);
    bench.memory.set(ENTRY, 0x0000_2a00_0031_0001);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), Ok((0xfee2_a000, 0x4031)));
    for bit in (32..40).chain(48..64) {
        set_mode(&bench, Some(table(false)), false);
        bench.memory.set(ENTRY, 1 << bit | 0x0000_2a00_0031_0001);
        assert_eq!(
            send(&bench, DEVICE, ADDRESS, 0),
            Err((0x24, 3, true)),
            "bit {bit}"
        );
    }
}

#[test]
fn destination_has_32_bits_in_extended_mode() {
    assert_eq!(
        through(0x1234_567f_0031_0001, HIGH),
        Ok((0x1234_5600_fee7_f000, 0x4031))
    );
}

#[test]
fn entry_fields_reach_the_message() {
    // DM, RH, TM set, delivery mode 101, vector 0xef.
    assert_eq!(
        through(0x0000_0001_00ef_00bd, HIGH),
        Ok((0xfee0_100c, 0xc5ef))
    );
}

#[test]
fn foreign_source_faults_0x26() {
    let bench = bench();
    assert_eq!(send(&bench, OTHER, ADDRESS, 0), Err((0x26, 3, true)));
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), DELIVERED);
    assert_eq!(
        send(&bench, OTHER, ADDRESS, 0),
        Err((0x26, 3, true)),
        "cached"
    );
    bench.memory.set(ENTRY, LOW | 2);
    bench
        .translator
        .invalidate(&[Invalidation::InterruptGlobal]);
    assert_eq!(send(&bench, OTHER, ADDRESS, 0), Err((0x26, 3, false)));
}

/// SID 00:01.0; each qualifier ignores one function bit more.
#[test]
fn source_qualifier_ignores_function_bits() {
    let allowed = |sq: u64| -> Vec<u16> {
        let bench = bench();
        bench.memory.set(ENTRY + 8, 0x4_0008 | sq << 16);
        (0..0x20)
            .filter(|id| send(&bench, SourceId(*id), ADDRESS, 0).is_ok())
            .collect()
    };
    assert_eq!(allowed(0b00), [0x08]);
    assert_eq!(allowed(0b01), [0x08, 0x0c]);
    assert_eq!(allowed(0b10), [0x08, 0x0a, 0x0c, 0x0e]);
    assert_eq!(allowed(0b11), (0x08..0x10).collect::<Vec<_>>());
}

/// SID 15:8 is the first bus, 7:0 the last.
#[test]
fn bus_range_is_checked() {
    let bench = bench();
    bench.memory.set(ENTRY + 8, 0x8_1214);
    let by_bus = |bus| send(&bench, SourceId::new(bus, 0xf8), ADDRESS, 0);
    for bus in [0x12, 0x13, 0x14] {
        assert_eq!(by_bus(bus), DELIVERED);
    }
    for bus in [0x11, 0x15] {
        assert_eq!(by_bus(bus), Err((0x26, 3, true)));
    }
}

#[test]
fn unvalidated_entry_passes_every_source() {
    let bench = bench();
    bench.memory.set(ENTRY + 8, 0x0);
    assert_eq!(send(&bench, SourceId(0xffff), ADDRESS, 0), DELIVERED);
}

#[test]
fn reserved_validation_type_faults_0x26() {
    assert_eq!(through(LOW, 0xc_0008), Err((0x26, 3, true)));
}

/// The table may be written after it was set, and entries are read one at a time.
#[test]
fn entry_is_read_alone_and_kept() {
    let bench = bench();
    let first = bench.reads_of(|bench| assert_eq!(send(bench, DEVICE, ADDRESS, 0), DELIVERED));
    assert_eq!(first, 3, "low, high, low again");
    let again = bench.reads_of(|bench| assert_eq!(send(bench, DEVICE, ADDRESS, 0), DELIVERED));
    assert_eq!(again, 0);
}

#[test]
fn faulty_entries_are_not_kept() {
    let bench = bench();
    bench.memory.set(ENTRY, 0);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), Err((0x22, 3, true)));
    bench.memory.set(ENTRY, LOW);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), DELIVERED);
}

/// Which of entries 0 to 15 are still cached after `invalidation`.
fn kept_after(invalidation: Invalidation) -> Vec<u16> {
    let bench = bench();
    for index in 0..16 {
        bench.memory.set(0x7_0000 + index * 16, LOW);
        bench.memory.set(0x7_0008 + index * 16, HIGH);
    }
    let message = |index: u64| 0xfee0_0010 | index << 5;
    let sent = |index| send(&bench, DEVICE, message(index), 0);
    for index in 0..16 {
        assert_eq!(sent(index), DELIVERED);
    }
    bench.translator.invalidate(&[invalidation]);
    (0..16)
        .filter(|index| bench.reads_of(|_| assert_eq!(sent(u64::from(*index)), DELIVERED)) == 0)
        .collect()
}

#[test]
fn index_invalidation_drops_its_block_only() {
    let one = kept_after(Invalidation::InterruptIndex { first: 5, count: 1 });
    assert_eq!(one, (0..16).filter(|i| *i != 5).collect::<Vec<_>>());
    let four = kept_after(Invalidation::InterruptIndex { first: 8, count: 4 });
    assert_eq!(
        four,
        (0..16).filter(|i| !(8..12).contains(i)).collect::<Vec<_>>()
    );
    let high = kept_after(Invalidation::InterruptIndex {
        first: 0x8000,
        count: 0x8000,
    });
    assert_eq!(high.len(), 16);
}

#[test]
fn global_interrupt_invalidation_drops_all() {
    assert!(kept_after(Invalidation::InterruptGlobal).is_empty());
    let all = Invalidation::InterruptIndex {
        first: 0,
        count: 0x1_0000,
    };
    assert!(kept_after(all).is_empty());
}

#[test]
fn dma_invalidations_keep_interrupt_entries() {
    assert_eq!(kept_after(Invalidation::IotlbGlobal).len(), 16);
    assert_eq!(kept_after(Invalidation::ContextGlobal).len(), 16);
}

#[test]
fn new_interrupt_mode_drops_every_entry() {
    let bench = bench();
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), DELIVERED);
    set_mode(&bench, Some(table(true)), false);
    bench.memory.set(ENTRY, 0);
    assert_eq!(send(&bench, DEVICE, ADDRESS, 0), Err((0x22, 3, true)));
}
