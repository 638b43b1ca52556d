// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What translation requests and translated requests come to.

use super::*;
use crate::request::AddressType;
use crate::translate::ats::AtsAnswer;

/// The completion's bits, or what is returned instead: the code of the fault if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Bits(u64),
    Unsupported(Option<u8>),
    Aborted(u8),
}

fn ask(bench: &Bench, request: Request) -> Told {
    let check = |fault: Fault| {
        let FaultSubject::Dma(subject) = fault.subject else {
            panic!("{fault:?}");
        };
        assert_eq!(subject.address_type, AddressType::TranslationRequest);
        assert!(fault.record);
        fault.reason.code()
    };
    match bench.translator.translate_request(&request) {
        AtsAnswer::Translation(completion) => Told::Bits(completion.into_bits()),
        AtsAnswer::Unsupported(fault) => Told::Unsupported(fault.map(check)),
        AtsAnswer::Aborted(fault) => Told::Aborted(check(fault)),
    }
}

/// What a request that wants to write is told after `edits`.
fn told(edits: &[(u64, u64)], pasid: u32, iova: u64) -> Told {
    let bench = Bench::scalable();
    for (gpa, word) in edits {
        bench.memory.set(*gpa, *word);
    }
    ask(&bench, with_pasid(pasid, iova, Access::Write))
}

#[test]
fn completion_holds_page_size_and_rights() {
    assert_eq!(told(&[], SECOND, 0x1abc), Told::Bits(0x9003));
    assert_eq!(told(&[], SECOND, 0x2000), Told::Bits(0xa001));
    assert_eq!(told(&[], SECOND, 0x3000), Told::Bits(0xb002));
    assert_eq!(told(&[], SECOND, 0x20_1000), Told::Bits(0x400f_f803));
    assert_eq!(told(&[], SECOND, 0x4000_0000), Told::Bits(0x9fff_f803));
    assert_eq!(told(&[], FIRST, 0x2000), Told::Bits(0xa001));
    assert_eq!(told(&[], NESTED, 0x2000), Told::Bits(0xa001));
    assert_eq!(told(&[], PASS, 0x1234_5678), Told::Bits(0x1234_5003));
}

#[test]
fn completion_tells_execution_privilege_and_global() {
    let bench = Bench::scalable();
    let request = |iova| Request {
        execute: true,
        privileged: true,
        ..with_pasid(OPEN, iova, Access::Write)
    };
    assert_eq!(ask(&bench, request(0x1000)), Told::Bits(0x901b));
    assert_eq!(ask(&bench, request(0x4000)), Told::Bits(0xc013), "XD");
    bench.memory.set(0x2_3028, 0xd167);
    let user = with_pasid(OPEN, 0x5000, Access::Write);
    assert_eq!(
        ask(&bench, user),
        Told::Bits(0xd023),
        "global, not asked for Exe"
    );
    let not_enabled = Request {
        execute: true,
        ..with_pasid(FIRST, 0x1000, Access::Write)
    };
    assert_eq!(ask(&bench, not_enabled), Told::Bits(0x9003), "ERE is 0");
    let not_privileged = Request {
        privileged: true,
        ..with_pasid(FIRST, 0x1000, Access::Write)
    };
    assert_eq!(ask(&bench, not_privileged), Told::Bits(0), "SRE is 0");
}

/// A page that is not there or may not be used: success without any right, and no record.
#[test]
fn missing_page_is_success_without_rights() {
    for (edits, pasid, iova) in [
        (&[(0x2_3008, 0)][..], FIRST, 0x1000),
        (&[(0x1_3008, 0)], SECOND, 0x1000),
        (&[], FIRST, 0x3000),
        (&[], FIRST, 1 << 47),
        (&[], SECOND, 1 << 48),
        (&[(0x1_2000, 0x1_3001)], SECOND, 0x3000),
        (&[(0x1_3008, 0)], NESTED, 0x1000),
    ] {
        assert_eq!(told(edits, pasid, iova), Told::Bits(0), "{pasid} {iova:#x}");
    }
}

#[test]
fn broken_tables_abort() {
    assert_eq!(
        told(&[(0x2_3008, 1 << 48 | 0x9067)], FIRST, 0x1000),
        Told::Aborted(0x72)
    );
    assert_eq!(
        told(&[(0x2100, 0x403d)], FIRST, 0x1000),
        Told::Aborted(0x42)
    );
    assert_eq!(told(&[(0x5040, 0x9)], FIRST, 0x1000), Told::Aborted(0x5b));
    assert_eq!(told(&[(0x5078, 1)], FIRST, 0x1000), Told::Aborted(0x5a));
    let bench = Bench::scalable();
    bench.memory.fail(0x1_1000);
    let request = Request::untranslated(DEVICE, Iova(0x1000), Access::Read);
    assert_eq!(ask(&bench, request), Told::Aborted(0x78));
}

#[test]
fn device_that_is_not_set_up_is_not_supported() {
    let unsupported = |code| Told::Unsupported(Some(code));
    assert_eq!(told(&[(0x1000, 0)], FIRST, 0x1000), unsupported(0x39));
    assert_eq!(told(&[(0x2100, 0)], FIRST, 0x1000), unsupported(0x41));
    assert_eq!(told(&[(0x2100, 0x4009)], FIRST, 0x1000), unsupported(0x44));
    assert_eq!(told(&[(0x2100, 0x4005)], FIRST, 0x1000), unsupported(0x45));
    assert_eq!(told(&[], 0x2000, 0x1000), unsupported(0x46));
    assert_eq!(told(&[(0x4000, 0)], FIRST, 0x1000), unsupported(0x51));
    assert_eq!(told(&[(0x5040, 0)], FIRST, 0x1000), unsupported(0x59));
}

#[test]
fn device_tlb_that_was_disabled_is_refused_from_the_cache_too() {
    let bench = Bench::scalable();
    bench.memory.set(0x2100, 0x4009);
    bench.with_pasid(FIRST, 0x1000, Access::Read).unwrap();
    let request = with_pasid(FIRST, 0x1000, Access::Read);
    assert_eq!(ask(&bench, request), Told::Unsupported(Some(0x44)));
}

#[test]
fn translation_request_while_translation_is_off_or_aborted_is_not_supported() {
    let bench = Bench::scalable();
    let request = Request::untranslated(DEVICE, Iova(0x1000), Access::Read);
    bench.translator.set_translation(None);
    assert_eq!(ask(&bench, request), Told::Unsupported(None));
    bench.set_mode(TableMode::Abort);
    let AtsAnswer::Unsupported(Some(fault)) = bench.translator.translate_request(&request) else {
        panic!("answered while aborting");
    };
    assert_eq!((fault.reason.code(), fault.record), (0x33, false));
}

/// The device sends its interrupts untranslated.
#[test]
fn interrupt_range_is_for_untranslated_requests() {
    let bench = Bench::scalable();
    let request = Request::untranslated(DEVICE, Iova(0xfee0_1000), Access::Write);
    assert_eq!(ask(&bench, request), Told::Bits(0xfee0_1006));
}

/// The device does not come back before it writes, so D is set with the right to write; without a wish to write neither is.
#[test]
fn right_to_write_comes_with_the_dirty_bit() {
    let bench = Bench::scalable();
    let ask_for = |access| ask(&bench, with_pasid(TRACKED, 0x1000, access));
    assert_eq!(ask_for(Access::Read), Told::Bits(0x9001));
    assert_eq!(bench.memory.word(0x7_3008), 0x9103);
    assert_eq!(ask_for(Access::Write), Told::Bits(0x9003));
    assert_eq!(bench.memory.word(0x7_3008), 0x9303);
    assert_eq!(ask_for(Access::Read), Told::Bits(0x9003), "dirty already");
}

/// Without the no-write flag a device always wants to write.
#[test]
fn no_write_flag_that_is_not_offered_is_not_heard() {
    let ecap = full().ecap().with_nwfs(false);
    let few = Capabilities::new(full().cap(), ecap, 48).unwrap();
    let bench = Bench::scalable_with(few, WITHOUT_TABLES);
    let request = with_pasid(TRACKED, 0x1000, Access::Read);
    assert_eq!(ask(&bench, request), Told::Bits(0x9003));
    assert_eq!(bench.memory.word(0x7_3008), 0x9303);
}

#[test]
fn legacy_context_that_allows_it_answers() {
    let bench = Bench::with(full());
    let request = Request::untranslated(DEVICE, Iova(0x1000), Access::Write);
    assert_eq!(ask(&bench, request), Told::Unsupported(Some(0xd)));
    let bench = Bench::with(full());
    bench.memory.set(0x2080, 0x3005);
    assert_eq!(ask(&bench, request), Told::Bits(0x9003));
    let missing = Request::untranslated(DEVICE, Iova(0x4000), Access::Write);
    assert_eq!(ask(&bench, missing), Told::Bits(0));
    bench.memory.fail(0x4000);
    bench.translator.set_translation(Some(RootPointer {
        table: GuestAddress(0x1000),
        mode: TableMode::Legacy,
    }));
    assert_eq!(ask(&bench, request), Told::Aborted(0x7));
}

/// The gate only: no PASID entry, no walk, no bits.
#[test]
fn translated_request_passes_where_the_context_lets_it() {
    let bench = Bench::scalable();
    let translated = |iova| Request {
        address_type: AddressType::Translated,
        ..with_pasid(TRACKED, iova, Access::Write)
    };
    assert_eq!(bench.request(&translated(0x1234)), Ok(0x1234));
    assert_eq!(bench.memory.word(0x7_3008), 0x9003);
    assert_eq!(bench.request(&translated((1 << 48) - 1)), Ok((1 << 48) - 1));
    assert_eq!(bench.request(&translated(1 << 48)), Err((0x83, true)));
    assert_eq!(bench.request(&translated(0xfee0_0000)), Err((0x87, true)));
    let bench = Bench::with(full());
    bench.memory.set(0x2080, 0x3005);
    let legacy = |iova| Request {
        address_type: AddressType::Translated,
        ..Request::untranslated(DEVICE, Iova(iova), Access::Write)
    };
    assert_eq!(bench.request(&legacy(0x1234)), Ok(0x1234), "not walked");
    assert_eq!(bench.request(&legacy(1 << 48)), Err((0x4, true)));
}
