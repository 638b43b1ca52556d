// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each fault reason of DMA requests, beside a neighbour that does not raise it.

use super::*;
use crate::ids::Pasid;
use crate::request::AddressType;

/// The code of a read of IOVA 0x1000 after `edits`, and whether it is recorded; panics when it is allowed.
fn fault_after(edits: &[(u64, u64)]) -> (u8, bool) {
    outcome_after(edits).unwrap_err()
}

fn outcome_after(edits: &[(u64, u64)]) -> Result<u64, (u8, bool)> {
    let bench = Bench::standard();
    for (gpa, word) in edits {
        bench.memory.set(*gpa, *word);
    }
    bench.read(0x1000)
}

fn outcome_without(gpa: u64) -> Result<u64, (u8, bool)> {
    let bench = Bench::standard();
    bench.memory.fail(gpa);
    bench.read(0x1000)
}

#[test]
fn standard_tables_translate() {
    assert_eq!(outcome_after(&[]), Ok(0x9000));
}

#[test]
fn root_not_present_faults_0x01() {
    assert_eq!(fault_after(&[(0x1000, 0x2000)]), (0x1, true));
    assert_eq!(outcome_after(&[(0x1010, 0x2000)]), Ok(0x9000));
}

#[test]
fn root_not_present_hides_reserved_bits() {
    assert_eq!(fault_after(&[(0x1000, 0xffe)]), (0x1, true));
}

#[test]
fn root_unreadable_faults_0x08() {
    assert_eq!(outcome_without(0x1000), Err((0x8, true)));
    assert_eq!(outcome_without(0x1008), Err((0x8, true)));
    assert_eq!(outcome_without(0x1010), Ok(0x9000));
}

#[test]
fn root_reserved_bit_faults_0x0a() {
    assert_eq!(fault_after(&[(0x1000, 0x2003)]), (0xa, true));
    assert_eq!(fault_after(&[(0x1000, 0x2801)]), (0xa, true));
    assert_eq!(fault_after(&[(0x1000, 1 << 48 | 0x2001)]), (0xa, true));
    assert_eq!(fault_after(&[(0x1008, 1)]), (0xa, true));
    assert_eq!(fault_after(&[(0x1008, 1 << 63)]), (0xa, true));
}

/// With 48-bit host addresses bit 47 is still an address bit; nothing is there, so the context is not present.
#[test]
fn root_address_below_the_host_width_is_no_reserved_bit() {
    let bench = Bench::standard();
    bench.memory.set(0x1000, 1 << 45 | 0x2001);
    assert_eq!(bench.read(0x1000), Err((0x2, true)));
}

#[test]
fn context_not_present_faults_0x02() {
    assert_eq!(fault_after(&[(0x2080, 0x3000)]), (0x2, true));
    assert_eq!(outcome_after(&[(0x2090, 0x3000)]), Ok(0x9000));
}

#[test]
fn context_unreadable_faults_0x09() {
    assert_eq!(outcome_without(0x2080), Err((0x9, true)));
    assert_eq!(outcome_without(0x2088), Err((0x9, true)));
    assert_eq!(outcome_without(0x2090), Ok(0x9000));
}

#[test]
fn context_reserved_bit_faults_0x0b() {
    for bit in 4..12 {
        assert_eq!(fault_after(&[(0x2080, 1 << bit | 0x3001)]), (0xb, true));
    }
    assert_eq!(fault_after(&[(0x2080, 1 << 48 | 0x3001)]), (0xb, true));
    assert_eq!(fault_after(&[(0x2088, 0x0582)]), (0xb, true));
    assert_eq!(fault_after(&[(0x2088, 1 << 24 | 0x0502)]), (0xb, true));
    assert_eq!(fault_after(&[(0x2088, 1 << 63 | 0x0502)]), (0xb, true));
}

#[test]
fn context_ignored_bits_do_not_fault() {
    assert_eq!(outcome_after(&[(0x2088, 0x057a)]), Ok(0x9000));
}

/// ND = 0 leaves 4 bits of domain id.
#[test]
fn context_domain_beyond_nd_faults_0x0b() {
    let base = legacy();
    let few = Capabilities::new(base.cap().with_nd(0), base.ecap(), 48).unwrap();
    let bench = Bench::with(few);
    assert_eq!(bench.read(0x1000), Ok(0x9000));
    bench.memory.set(0x2108, 0x1001);
    assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Err((0xb, true)));
}

#[test]
fn context_reserved_type_faults_0x03() {
    assert_eq!(fault_after(&[(0x2080, 0x300d)]), (0x3, true));
}

/// TT = 01 needs device-TLB support, which the standard unit lacks.
#[test]
fn context_unsupported_type_faults_0x03() {
    assert_eq!(fault_after(&[(0x2080, 0x3005)]), (0x3, true));
}

#[test]
fn context_pass_through_without_pt_faults_0x03() {
    let base = legacy();
    let without = Capabilities::new(base.cap(), base.ecap().with_pt(false), 48).unwrap();
    let bench = Bench::with(without);
    bench.memory.set(0x2080, 0x3009);
    assert_eq!(bench.read(0x1000), Err((0x3, true)));
    assert_eq!(outcome_after(&[(0x2080, 0x3009)]), Ok(0x1000));
}

#[test]
fn context_unsupported_width_faults_0x03() {
    for aw in [0, 3, 4, 5, 6, 7] {
        assert_eq!(fault_after(&[(0x2088, 0x0500 | aw)]), (0x3, true), "{aw}");
    }
}

#[test]
fn context_width_beyond_sagaw_faults_0x03() {
    let base = legacy();
    let narrow = base.cap().with_sagaw(0x2).with_mgaw(38);
    let bench = Bench::with(Capabilities::new(narrow, base.ecap(), 48).unwrap());
    assert_eq!(bench.read(0x1000), Err((0x3, true)));
    assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Ok(0x1_9000));
}

#[test]
fn top_table_unreadable_faults_0x03() {
    assert_eq!(outcome_without(0x3000), Err((0x3, true)));
    assert_eq!(outcome_without(0x3008), Ok(0x9000));
}

#[test]
fn lower_table_unreadable_faults_0x07() {
    for gpa in [0x4000, 0x5000, 0x6008] {
        assert_eq!(outcome_without(gpa), Err((0x7, true)), "{gpa:#x}");
    }
    assert_eq!(outcome_without(0x6000), Ok(0x9000));
}

#[test]
fn address_beyond_the_table_width_faults_0x04() {
    let bench = Bench::standard();
    assert_eq!(
        bench.dma(OTHER, 1 << 39, Access::Read),
        Err((0x4, true)),
        "3 levels resolve 39 bits"
    );
    assert_eq!(
        bench.dma(OTHER, (1 << 39) - 1, Access::Read),
        Err((0x6, true))
    );
    assert_eq!(bench.read(1 << 48), Err((0x4, true)));
    assert_eq!(bench.read((1 << 48) - 1), Err((0x6, true)));
}

#[test]
fn address_beyond_mgaw_faults_0x04() {
    let options = LegacyOptions {
        address_width: crate::capabilities::AddressWidth::Bits39,
        ..LegacyOptions::default()
    };
    let bench = Bench::with(Capabilities::legacy(&options).unwrap());
    assert_eq!(bench.read(1 << 39), Err((0x4, true)));
    assert_eq!(bench.read((1 << 39) - 1), Err((0x6, true)));
}

#[test]
fn pass_through_with_a_smaller_width_faults_0x04() {
    let pass = (0x2080, 0x9);
    assert_eq!(fault_after(&[pass, (0x2088, 0x0501)]), (0x4, true));
    assert_eq!(outcome_after(&[pass, (0x2088, 0x0502)]), Ok(0x1000));
}

#[test]
fn pass_through_beyond_its_width_faults_0x04() {
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0x9);
    assert_eq!(bench.read(1 << 48), Err((0x4, true)));
    assert_eq!(bench.read((1 << 48) - 1), Ok((1 << 48) - 1));
}

#[test]
fn write_without_the_right_faults_0x05() {
    let bench = Bench::standard();
    assert_eq!(bench.dma(DEVICE, 0x2000, Access::Write), Err((0x5, true)));
    assert_eq!(bench.dma(DEVICE, 0x2000, Access::Atomic), Err((0x5, true)));
    assert_eq!(bench.dma(DEVICE, 0x3000, Access::Write), Ok(0xb000));
    assert_eq!(bench.dma(DEVICE, 0x1000, Access::Atomic), Ok(0x9000));
}

#[test]
fn read_without_the_right_faults_0x06() {
    let bench = Bench::standard();
    assert_eq!(bench.read(0x3000), Err((0x6, true)));
    assert_eq!(bench.dma(DEVICE, 0x3000, Access::Atomic), Err((0x6, true)));
    assert_eq!(bench.read(0x2000), Ok(0xa000));
}

#[test]
fn entry_not_present_faults_by_access() {
    let bench = Bench::standard();
    assert_eq!(bench.read(0x4000), Err((0x6, true)));
    assert_eq!(bench.dma(DEVICE, 0x4000, Access::Write), Err((0x5, true)));
    assert_eq!(bench.dma(DEVICE, 0x4000, Access::Atomic), Err((0x5, true)));
}

#[test]
fn output_in_the_interrupt_range_faults_0x0e() {
    assert_eq!(fault_after(&[(0x6008, 0xfee0_0003)]), (0xe, true));
    assert_eq!(fault_after(&[(0x6008, 0xfeef_f003)]), (0xe, true));
    assert_eq!(outcome_after(&[(0x6008, 0xfedf_f003)]), Ok(0xfedf_f000));
    assert_eq!(outcome_after(&[(0x6008, 0xfef0_0003)]), Ok(0xfef0_0000));
}

#[test]
fn large_page_over_the_interrupt_range_faults_0x0e() {
    let bench = Bench::standard();
    bench.memory.set(0x5008, 0xfee0_0083);
    assert_eq!(bench.read(0x20_0000), Err((0xe, true)));
    bench.memory.set(0x5008, 0xfec0_0083);
    assert_eq!(bench.read(0x20_0000), Ok(0xfec0_0000));
    bench.memory.set(0x4008, 0xc000_0083);
    assert_eq!(bench.read(0x4000_0000), Err((0xe, true)));
}

#[test]
fn rights_come_before_the_output_address() {
    assert_eq!(fault_after(&[(0x6008, 0xfee0_0002)]), (0x6, true));
}

#[test]
fn translated_and_translation_requests_fault_0x0d() {
    let bench = Bench::standard();
    for address_type in [AddressType::TranslationRequest, AddressType::Translated] {
        let request = Request {
            address_type,
            ..Request::untranslated(DEVICE, Iova(0x1000), Access::Read)
        };
        assert_eq!(bench.request(&request), Err((0xd, true)));
    }
    bench.memory.set(0x20c0, 0x9);
    let request = Request {
        address_type: AddressType::Translated,
        ..Request::untranslated(SIBLING, Iova(0x1000), Access::Read)
    };
    assert_eq!(
        bench.request(&request),
        Err((0xd, true)),
        "pass-through too"
    );
}

#[test]
fn reserved_or_unsupported_table_mode_faults_0x30() {
    for mode in [TableMode::Reserved, TableMode::Scalable, TableMode::Abort] {
        let bench = Bench::standard();
        bench.translator.set_translation(Some(RootPointer {
            table: GuestAddress(0x1000),
            mode,
        }));
        assert_eq!(bench.read(0x1000), Err((0x30, true)), "{mode:?}");
    }
}

#[test]
fn request_with_pasid_in_legacy_mode_faults_0x31() {
    let bench = Bench::standard();
    let request = Request {
        pasid: Pasid::new(0),
        ..Request::untranslated(DEVICE, Iova(0x1000), Access::Read)
    };
    assert_eq!(bench.request(&request), Err((0x31, true)));
}

#[test]
fn dma_to_the_interrupt_range_faults_0x29_while_remapping() {
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0x9);
    let aborted = Err((0x29, false));
    assert_eq!(bench.read(0xfee0_0000), aborted, "no remapping: no record");
    bench.translator.set_interrupts(InterruptMode {
        table: Some(InterruptTable {
            table: GuestAddress(0x7000),
            entries: 256,
            extended: true,
        }),
        compatibility_allowed: false,
    });
    assert_eq!(bench.read(0xfee0_0000), Err((0x29, true)));
    assert_eq!(bench.read(0xfeef_ffff), Err((0x29, true)));
    assert_eq!(bench.read(0xfedf_ffff), Ok(0xfedf_ffff));
    assert_eq!(bench.read(0xfef0_0000), Ok(0xfef0_0000));
    bench.translator.set_translation(None);
    assert_eq!(bench.read(0xfee0_0000), Err((0x29, true)));
}

/// FPD = 1 keeps every fault from the context entry on out of the record.
#[test]
fn faults_of_an_entry_with_fpd_are_not_recorded() {
    let fpd = |low: u64| (0x2080, low | 2);
    assert_eq!(fault_after(&[fpd(0x3000)]), (0x2, false));
    assert_eq!(fault_after(&[fpd(0x3011)]), (0xb, false));
    assert_eq!(fault_after(&[fpd(0x300d)]), (0x3, false));
    assert_eq!(
        fault_after(&[fpd(0x3001), (0x6008, 1 << 62 | 3)]),
        (0xc, false)
    );
    assert_eq!(fault_after(&[fpd(0x3001), (0x6008, 0)]), (0x6, false));
    assert_eq!(
        fault_after(&[fpd(0x3001), (0x6008, 0xfee0_0003)]),
        (0xe, false)
    );
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0x3003);
    assert_eq!(bench.read(0x1000), Ok(0x9000));
    assert_eq!(bench.read(1 << 48), Err((0x4, false)), "from the cache too");
}

#[test]
fn faults_before_the_context_ignore_fpd() {
    assert_eq!(fault_after(&[(0x1000, 0x2002)]), (0x1, true));
}
