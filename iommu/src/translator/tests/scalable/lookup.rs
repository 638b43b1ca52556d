// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which entries a request goes through, and what this unit reserves because it does not offer it.

use super::*;
use crate::spec::regs::{Cap, Ecap};

fn without(change: impl Fn(Cap, Ecap) -> (Cap, Ecap)) -> Capabilities {
    let (cap, ecap) = change(full().cap(), full().ecap());
    Capabilities::new(cap, ecap, 48).unwrap()
}

/// The outcome of a read of 0x1000 under PASID `pasid`, or without one, after one edit.
fn outcome(
    capabilities: Capabilities,
    edit: (u64, u64),
    pasid: Option<u32>,
) -> Result<u64, (u8, bool)> {
    let bench = Bench::scalable_with(capabilities, WITHOUT_TABLES);
    bench.memory.set(edit.0, edit.1);
    bench.request(&Request {
        pasid: pasid.and_then(Pasid::new),
        ..Request::untranslated(DEVICE, Iova(0x1000), Access::Read)
    })
}

#[test]
fn every_pasid_of_the_standard_tables_translates() {
    let bench = Bench::scalable();
    for pasid in [SECOND, FIRST, NESTED, OPEN, FIVE, TRACKED] {
        assert_eq!(
            bench.with_pasid(pasid, 0x1abc, Access::Atomic),
            Ok(0x9abc),
            "{pasid}"
        );
    }
    assert_eq!(bench.with_pasid(PASS, 0x1abc, Access::Atomic), Ok(0x1abc));
}

#[test]
fn request_without_pasid_goes_through_rid_pasid() {
    let bench = Bench::scalable();
    assert_eq!(bench.read(0x1000), Ok(0x9000));
    assert_eq!(bench.read(0x8000), Err((0x79, true)), "second stage");
    assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Ok(0x9000));
    let missing = bench.dma(OTHER, 0x8000, Access::Read);
    assert_eq!(missing, Err((0x71, true)), "first stage");
}

#[test]
fn rid_pasid_that_is_not_offered_is_ignored() {
    let few = without(|cap, ecap| (cap, ecap.with_rps(false)));
    let bench = Bench::scalable_with(few, WITHOUT_TABLES);
    let missing = bench.dma(OTHER, 0x8000, Access::Read);
    assert_eq!(missing, Err((0x79, true)), "PASID 0, the second stage");
}

/// 00:10.0 is the first of the upper half, 00:0f.7 the last of the lower one.
#[test]
fn upper_half_of_the_bus_has_its_own_context_table() {
    let bench = Bench::scalable();
    assert_eq!(bench.dma(SourceId(0x80), 0x1000, Access::Read), Ok(0x9000));
    assert_eq!(
        bench.dma(SourceId(0x7f), 0x1000, Access::Read),
        Err((0x41, true))
    );
    bench.memory.set(0x3fe0, 0x4001);
    assert_eq!(
        bench.dma(SourceId(0xff), 0x1000, Access::Read),
        Ok(0x9000),
        "entry 127 of 32 bytes"
    );
}

/// A PASID of 20 bits: directory entry 0x3fff, which lies in another page than the first, entry 63 of its table.
#[test]
fn pasid_indexes_directory_and_table() {
    let bench = Bench::scalable();
    bench.memory.set(0x2100, 0x10_0e1d);
    bench.memory.set(0x10_0000 + 0x3fff * 8, 0x5001);
    bench.memory.set(0x5fc0, 0x49);
    bench.memory.set(0x5fc8, 0x80_0006);
    bench.memory.set(0x5fd0, 0x2_0000);
    assert_eq!(bench.with_pasid(0xf_ffff, 0x1000, Access::Read), Ok(0x9000));
    assert_eq!(
        bench.with_pasid(0xf_fffe, 0x1000, Access::Read),
        Err((0x59, true))
    );
    assert_eq!(
        bench.with_pasid(0xf_ff80, 0x1000, Access::Read),
        Err((0x51, true))
    );
}

#[test]
fn fpd_of_directory_and_pasid_entry_keeps_faults_out_of_the_record() {
    let fault = |edits: &[(u64, u64)]| {
        let bench = Bench::scalable();
        for (gpa, word) in edits {
            bench.memory.set(*gpa, *word);
        }
        bench.with_pasid(FIRST, 0x8000, Access::Read)
    };
    assert_eq!(fault(&[]), Err((0x71, true)));
    assert_eq!(fault(&[(0x4000, 0x5003)]), Err((0x71, false)), "directory");
    assert_eq!(fault(&[(0x5040, 0x4b)]), Err((0x71, false)), "PASID entry");
    assert_eq!(fault(&[(0x4000, 0x5002)]), Err((0x51, false)));
    assert_eq!(
        fault(&[(0x5040, 0x2)]),
        Err((0x59, false)),
        "a dead process"
    );
    assert_eq!(
        fault(&[(0x4000, 0x5003), (0x5040, 0)]),
        Err((0x59, false)),
        "the directory's holds below it"
    );
}

#[test]
fn cached_entry_keeps_its_fpd() {
    let bench = Bench::scalable();
    bench.memory.set(0x4000, 0x5003);
    bench.with_pasid(FIRST, 0x1000, Access::Read).unwrap();
    let outcome = bench.with_pasid(FIRST, 0x8000, Access::Read);
    assert_eq!(outcome, Err((0x71, false)));
}

/// Each reserved bit of a context entry, and each that stands for something not offered.
#[test]
fn context_reserved_bits_fault_0x42() {
    let reserved = Err((0x42, true));
    for bit in 5..9 {
        assert_eq!(outcome(full(), (0x2100, 0x401d | 1 << bit), None), reserved);
    }
    assert_eq!(outcome(full(), (0x2100, 0x401d | 1 << 48), None), reserved);
    for bit in 21..64 {
        assert_eq!(outcome(full(), (0x2108, 1 << bit), None), reserved);
    }
    assert_eq!(outcome(full(), (0x2110, 1), None), reserved);
    let no_tlb = without(|cap, ecap| {
        let ecap = ecap.with_dt(false).with_dit(false).with_nwfs(false);
        (cap, ecap.with_prs(false).with_pds(false))
    });
    assert_eq!(outcome(no_tlb, (0x2100, 0x4005), None), reserved, "DTE");
    assert_eq!(outcome(no_tlb, (0x2100, 0x4001), None), Ok(0x9000));
    let no_prs = without(|cap, ecap| (cap, ecap.with_prs(false).with_pds(false)));
    assert_eq!(outcome(no_prs, (0x2100, 0x4015), None), reserved, "PRE");
    assert_eq!(outcome(no_prs, (0x2100, 0x4005), None), Ok(0x9000));
    let no_priv = without(|cap, ecap| (cap, ecap.with_rprivs(false)));
    assert_eq!(outcome(no_priv, (0x2108, 1 << 20), None), reserved);
}

/// Without PASIDs only requests without one can be.
#[test]
fn context_pasid_enable_needs_pasids() {
    let without_pasids = without(|cap, ecap| {
        let ecap = ecap.with_pasid(false).with_pss(0).with_eafs(false);
        let ecap = ecap.with_ers(false).with_srs(false).with_rprivs(false);
        (cap, ecap)
    });
    assert_eq!(
        outcome(without_pasids, (0x2100, 0x4009), None),
        Err((0x42, true))
    );
    assert_eq!(outcome(without_pasids, (0x2100, 0x4001), None), Ok(0x9000));
    assert_eq!(
        outcome(without_pasids, (0x2100, 0x4001), Some(FIRST)),
        Err((0x45, true))
    );
}

#[test]
fn pasid_entry_reserved_bits_fault_0x5a() {
    let reserved = Err((0x5a, true));
    let first = |offset: u64, word: u64| outcome(full(), (0x5040 + offset, word), Some(FIRST));
    for bit in [10, 11] {
        assert_eq!(first(0, 0x49 | 1 << bit), reserved, "{bit}");
    }
    for bit in 16..23 {
        assert_eq!(first(8, 0x80_0006 | 1 << bit), reserved, "{bit}");
    }
    for bit in 8..12 {
        assert_eq!(first(16, 0x2_0000 | 1 << bit), reserved, "{bit}");
    }
    for word in 3..8 {
        assert_eq!(first(word * 8, 1 << 63), reserved, "word {word}");
    }
    assert_eq!(first(16, 1 << 48 | 0x2_0000), reserved, "beyond the host");
    assert_eq!(first(0, 1 << 63 | 0x49), Ok(0x9000), "SSPTPTR is not used");
    assert_eq!(first(8, 0xffff_ffff_ff80_0006), Ok(0x9000), "memory types");
    assert_eq!(
        outcome(full(), (0x5000, 1 << 48 | 0x1_0089), None),
        reserved
    );
    assert_eq!(
        outcome(full(), (0x5010, 1 << 63), None),
        Ok(0x9000),
        "FSPTPTR is not used"
    );
}

/// A capability, and the edit of a PASID's entry that is reserved without it.
#[test]
fn pasid_entry_bits_of_what_is_not_offered_fault_0x5a() {
    let cases: [(Capabilities, u32, (u64, u64)); 8] = [
        (
            without(|cap, ecap| (cap, ecap.with_ers(false))),
            SECOND,
            (0x5000, 0x1_00a9),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_ers(false))),
            FIRST,
            (0x5050, 0x2_0002),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_srs(false).with_rprivs(false))),
            FIRST,
            (0x5050, 0x2_0001),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_eafs(false))),
            FIRST,
            (0x5050, 0x2_0080),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_ssads(false))),
            SECOND,
            (0x5000, 0x1_0289),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_smpwc(false).with_eafs(false))),
            FIRST,
            (0x5048, 0x80_0006),
        ),
        (
            without(|cap, ecap| (cap, ecap.with_sc(false))),
            FIRST,
            (0x5048, 0x100_0006),
        ),
        (
            without(|cap, ecap| (cap.with_nd(0), ecap)),
            FIRST,
            (0x5048, 0x80_0010),
        ),
    ];
    for (number, (few, pasid, edit)) in cases.into_iter().enumerate() {
        let refused = outcome(few, edit, Some(pasid));
        assert_eq!(refused, Err((0x5a, true)), "case {number}");
        let allowed = outcome(full(), edit, Some(pasid));
        assert_ne!(allowed, Err((0x5a, true)), "case {number}");
    }
}

#[test]
fn translation_type_that_is_not_offered_faults_0x5b() {
    let no_nesting = without(|cap, ecap| (cap, ecap.with_nest(false)));
    let standard = (0x7000, 0);
    let invalid = Err((0x5b, true));
    assert_eq!(outcome(no_nesting, standard, Some(NESTED)), invalid);
    let no_second = without(|cap, ecap| {
        let ecap = ecap.with_nest(false).with_ssts(false).with_ssads(false);
        (cap, ecap)
    });
    assert_eq!(outcome(no_second, standard, Some(SECOND)), invalid);
    let no_first = without(|cap, ecap| {
        let cap = cap.with_fs1gp(false).with_fs5lp(false);
        (cap, ecap.with_nest(false).with_fsts(false))
    });
    assert_eq!(outcome(no_first, standard, Some(FIRST)), invalid);
    let no_pass = without(|cap, ecap| (cap, ecap.with_pt(false)));
    assert_eq!(outcome(no_pass, standard, Some(PASS)), invalid);
    let no_five = without(|cap, ecap| (cap.with_fs5lp(false), ecap));
    assert_eq!(outcome(no_five, standard, Some(FIVE)), invalid);
    for pgtt in [0, 5, 6, 7] {
        let entry = (0x5040, 0x9 | pgtt << 6);
        assert_eq!(outcome(full(), entry, Some(FIRST)), invalid, "{pgtt}");
    }
    for aw in [0, 4, 5, 6, 7] {
        let entry = (0x5000, 0x1_0081 | aw << 2);
        assert_eq!(outcome(full(), entry, None), invalid, "{aw}");
    }
}

/// RID_PRIV gives requests without PASID supervisor privilege, which the PASID entry must allow.
#[test]
fn rid_privilege_makes_requests_without_pasid_supervisors() {
    let bench = Bench::scalable();
    let supervisor_page = |bench: &Bench| bench.dma(OTHER, 0x3000, Access::Read);
    assert_eq!(supervisor_page(&bench), Err((0x81, true)));
    let bench = Bench::scalable();
    bench.memory.set(0x2208, 1 << 20 | 4);
    assert_eq!(supervisor_page(&bench), Ok(0xb000));
    let bench = Bench::scalable();
    bench.memory.set(0x2208, 1 << 20 | 1);
    assert_eq!(supervisor_page(&bench), Err((0x5d, true)));
}

/// Privilege and execution are said by the PASID prefix, so without one they mean nothing.
#[test]
fn privilege_and_execution_need_a_pasid() {
    let bench = Bench::scalable();
    let request = Request {
        execute: true,
        privileged: true,
        ..Request::untranslated(OTHER, Iova(0x1000), Access::Read)
    };
    assert_eq!(bench.request(&request), Ok(0x9000));
}

/// With a PASID the interrupt range is memory like any other.
#[test]
fn interrupt_range_with_pasid_is_translated() {
    let bench = Bench::scalable();
    bench.memory.set(0x2_1018, 0x2_2027);
    bench.memory.set(0x2_2fb8, 0x2_3027);
    bench.memory.set(0x2_3000, 0x9067);
    assert_eq!(
        bench.with_pasid(FIRST, 0xfee0_0010, Access::Write),
        Ok(0x9010)
    );
    assert_eq!(bench.read(0xfee0_0010), Err((0x29, false)));
}

/// A directory has room for 2^13 PASIDs at least, of which the unit may support fewer (PSS). RID_PASID is none of a request.
#[test]
fn pasid_beyond_what_the_unit_supports_is_refused() {
    let narrow = || without(|cap, ecap| (cap, ecap.with_pss(1)));
    let untouched = (0x7ff8, 0);
    assert_eq!(outcome(narrow(), untouched, Some(NESTED)), Ok(0x9000));
    assert_eq!(outcome(narrow(), untouched, Some(PASS)), Ok(0x1000));
    let refused = Err((0x46, true));
    assert_eq!(outcome(narrow(), untouched, Some(OPEN)), refused);
    assert_eq!(outcome(narrow(), untouched, Some(0xf_ffff)), refused);
    assert_eq!(outcome(full(), untouched, Some(OPEN)), Ok(0x9000));
    assert_eq!(outcome(narrow(), (0x2108, 0x4), None), Ok(0x9000));
    let bench = Bench::scalable_with(narrow(), WITHOUT_TABLES);
    let asks = |pasid| {
        let request = with_pasid(pasid, 0x1000, Access::Read);
        let outcome = bench.translator.check_page_request(&request);
        outcome.map_err(|fault| fault.reason.code())
    };
    assert_eq!((asks(PASS), asks(OPEN)), (Ok(()), Err(0x46)));
}
