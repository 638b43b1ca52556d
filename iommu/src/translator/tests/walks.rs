// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Levels, page sizes, reserved bits and rights of second-stage walks, and requests that pass unchanged.

use super::*;
use crate::request::Perms;

fn answer(bench: &Bench, source: SourceId, iova: u64) -> Translation {
    bench
        .translator
        .translate(&Request::untranslated(source, Iova(iova), Access::Read))
        .unwrap()
}

#[test]
fn walk_of_four_levels_reads_each_entry_once() {
    let bench = Bench::standard();
    let reads = bench.reads_of(|bench| {
        let found = answer(bench, DEVICE, 0x1234);
        assert_eq!((found.gpa.0, found.len), (0x9234, 0x1000 - 0x234));
        assert_eq!(found.perms, Perms::READ_WRITE);
    });
    assert_eq!(
        reads,
        3 + 3 + 4,
        "root and context (low, high, low again), four levels"
    );
}

#[test]
fn walk_of_three_levels_reads_three_entries() {
    let bench = Bench::standard();
    let reads = bench.reads_of(|bench| {
        assert_eq!(answer(bench, OTHER, 0x1fff).gpa.0, 0x1_9fff);
    });
    assert_eq!(reads, 3 + 3 + 3);
}

#[test]
fn walk_uses_every_index() {
    let bench = Bench::standard();
    bench.memory.set(0x3ff8, 0x2_0003);
    bench.memory.set(0x2_0000 + 0x123 * 8, 0x2_1003);
    bench.memory.set(0x2_1000 + 0x0ab * 8, 0x2_2003);
    bench.memory.set(0x2_2000 + 0x1cd * 8, 0x7_7003);
    let iova = 0x1ff << 39 | 0x123 << 30 | 0x0ab << 21 | 0x1cd << 12 | 0x45;
    assert_eq!(answer(&bench, DEVICE, iova).gpa.0, 0x7_7045);
}

#[test]
fn large_pages_answer_up_to_their_end() {
    let bench = Bench::standard();
    let two_mib = answer(&bench, DEVICE, 0x20_1234);
    assert_eq!(
        (two_mib.gpa.0, two_mib.len),
        (0x4000_1234, 0x20_0000 - 0x1234)
    );
    let one_gib = answer(&bench, DEVICE, 0x4dea_dbee);
    assert_eq!(
        (one_gib.gpa.0, one_gib.len),
        (0x8dea_dbee, 0x4000_0000 - 0xdea_dbee)
    );
}

/// SSLPS: a size that is not offered makes the page size bit a reserved one.
#[test]
fn large_page_that_is_not_offered_faults_0x0c() {
    let base = legacy();
    for (sslps, two_mib, one_gib) in [
        (0, Err((0xc, true)), Err((0xc, true))),
        (1, Ok(0x4000_0000), Err((0xc, true))),
        (2, Err((0xc, true)), Ok(0x8000_0000)),
    ] {
        let bench =
            Bench::with(Capabilities::new(base.cap().with_sslps(sslps), base.ecap(), 48).unwrap());
        assert_eq!(bench.read(0x20_0000), two_mib, "{sslps}");
        assert_eq!(bench.read(0x4000_0000), one_gib, "{sslps}");
    }
}

#[test]
fn page_size_bit_at_level_four_faults_0x0c() {
    let bench = Bench::standard();
    bench.memory.set(0x3000, 0x83);
    assert_eq!(bench.read(0x1000), Err((0xc, true)));
}

#[test]
fn page_size_bit_at_level_one_is_ignored() {
    let bench = Bench::standard();
    bench.memory.set(0x6008, 0x9083);
    assert_eq!(bench.read(0x1000), Ok(0x9000));
}

/// Bits that are reserved in every present entry, at every level, with 48-bit host addresses.
#[test]
fn reserved_bit_at_any_level_faults_0x0c() {
    let entries = [
        (0x3000, 0x4003),
        (0x4000, 0x5003),
        (0x5000, 0x6003),
        (0x6008, 0x9003),
    ];
    for (gpa, entry) in entries {
        for bit in [48, 49, 50, 51, 62] {
            let bench = Bench::standard();
            bench.memory.set(gpa, entry | 1 << bit);
            assert_eq!(bench.read(0x1000), Err((0xc, true)), "{gpa:#x} bit {bit}");
        }
        let bench = Bench::standard();
        bench.memory.set(gpa, entry & !3 | 1 << 62);
        assert_eq!(
            bench.read(0x1000),
            Err((0x6, true)),
            "not present comes first"
        );
    }
}

#[test]
fn ignored_bits_at_any_level_do_not_fault() {
    let ignored = 1 << 63 | 0x3ff << 52 | 1 << 10 | 1 << 9 | 1 << 8 | 0xf << 3 | 1 << 2;
    let bench = Bench::standard();
    for gpa in [0x3000, 0x4000, 0x5000, 0x6008] {
        bench.memory.set(gpa, bench.memory.word(gpa) | ignored);
    }
    assert_eq!(bench.read(0x1000), Ok(0x9000));
}

#[test]
fn snoop_bit_needs_a_leaf_and_snoop_control() {
    let bench = Bench::standard();
    bench.memory.set(0x6008, 0x9803);
    assert_eq!(bench.read(0x1000), Ok(0x9000));
    let bench = Bench::standard();
    bench.memory.set(0x5000, 0x6803);
    assert_eq!(
        bench.read(0x1000),
        Err((0xc, true)),
        "reserved above leaves"
    );
    let base = legacy();
    let without = Capabilities::new(base.cap(), base.ecap().with_sc(false), 48).unwrap();
    let bench = Bench::with(without);
    bench.memory.set(0x6008, 0x9803);
    assert_eq!(bench.read(0x1000), Err((0xc, true)));
}

#[test]
fn misaligned_large_page_faults_0x0c() {
    for bit in 12..21 {
        let bench = Bench::standard();
        bench.memory.set(0x5008, 0x4000_0083 | 1 << bit);
        assert_eq!(bench.read(0x20_0000), Err((0xc, true)), "2 MiB, bit {bit}");
    }
    for bit in 12..30 {
        let bench = Bench::standard();
        bench.memory.set(0x4008, 0x8000_0083 | 1 << bit);
        assert_eq!(
            bench.read(0x4000_0000),
            Err((0xc, true)),
            "1 GiB, bit {bit}"
        );
    }
    let bench = Bench::standard();
    bench.memory.set(0x5008, 0x4020_0083);
    assert_eq!(bench.read(0x20_0000), Ok(0x4020_0000));
}

#[test]
fn rights_of_all_levels_stack() {
    for gpa in [0x3000, 0x4000, 0x5000] {
        let bench = Bench::standard();
        bench.memory.set(gpa, bench.memory.word(gpa) & !2);
        assert_eq!(bench.read(0x1000), Ok(0x9000), "{gpa:#x}");
        assert_eq!(bench.dma(DEVICE, 0x1000, Access::Write), Err((0x5, true)));
        let bench = Bench::standard();
        bench.memory.set(gpa, bench.memory.word(gpa) & !1);
        assert_eq!(bench.read(0x1000), Err((0x6, true)), "{gpa:#x}");
        assert_eq!(bench.dma(DEVICE, 0x1000, Access::Write), Ok(0x9000));
    }
}

/// Reserved bits are judged while walking, rights at the end.
#[test]
fn reserved_bit_below_a_missing_right_faults_0x0c() {
    let bench = Bench::standard();
    bench.memory.set(0x3000, 0x4001);
    bench.memory.set(0x6008, 1 << 62 | 0x9003);
    assert_eq!(bench.dma(DEVICE, 0x1000, Access::Write), Err((0xc, true)));
}

#[test]
fn translation_off_passes_everything() {
    let bench = Bench::standard();
    bench.translator.set_translation(None);
    assert_eq!(bench.read(0xdead_beef), Ok(0xdead_beef));
    assert_eq!(bench.read(0xfee0_0000), Ok(0xfee0_0000));
    let last = answer(&bench, DEVICE, u64::MAX);
    assert_eq!((last.gpa.0, last.len), (u64::MAX, 1));
    let all = answer(&bench, DEVICE, 0xfef0_0000);
    assert_eq!(all.len, u64::MAX - 0xfef0_0000 + 1);
}

#[test]
fn passing_answer_stops_at_the_interrupt_range() {
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0x9);
    assert_eq!(answer(&bench, DEVICE, 0xfed0_0000).len, 0x10_0000);
    assert_eq!(
        answer(&bench, DEVICE, 0xfef0_0000).len,
        (1 << 48) - 0xfef0_0000
    );
}

#[test]
fn pass_through_ignores_the_table_pointer() {
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0xffff_ffff_ffff_f009);
    assert_eq!(bench.read(0x1000), Ok(0x1000));
}
