// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Levels, page sizes and rights of first-stage, second-stage and nested walks.

use super::*;
use crate::request::Perms;

fn answer(bench: &Bench, pasid: u32, iova: u64) -> Translation {
    let request = with_pasid(pasid, iova, Access::Read);
    bench.translator.translate(&request).unwrap()
}

#[test]
fn first_stage_of_five_levels_uses_every_index() {
    let bench = Bench::scalable();
    bench.memory.set(0x6_0000 + 0x0fe * 8, 0x10_0027);
    bench.memory.set(0x10_0000 + 0x1ff * 8, 0x10_1027);
    bench.memory.set(0x10_1000 + 0x123 * 8, 0x10_2027);
    bench.memory.set(0x10_2000 + 0x0ab * 8, 0x10_3027);
    bench.memory.set(0x10_3000 + 0x1cd * 8, 0x7_7067);
    let iova = 0x0fe << 48 | 0x1ff << 39 | 0x123 << 30 | 0x0ab << 21 | 0x1cd << 12 | 0x45;
    assert_eq!(answer(&bench, FIVE, iova).gpa.0, 0x7_7045);
}

#[test]
fn first_stage_large_pages_answer_up_to_their_end() {
    let bench = Bench::scalable();
    let two_mib = answer(&bench, FIRST, 0x20_1234);
    assert_eq!(
        (two_mib.gpa.0, two_mib.len),
        (0x4000_1234, 0x20_0000 - 0x1234)
    );
    let one_gib = answer(&bench, FIRST, 0x4dea_dbee);
    assert_eq!(
        (one_gib.gpa.0, one_gib.len),
        (0x8dea_dbee, 0x4000_0000 - 0xdea_dbee)
    );
}

#[test]
fn first_stage_large_page_with_pat_is_aligned() {
    let bench = Bench::scalable();
    bench.memory.set(0x2_2008, 0x4000_10e7);
    assert_eq!(answer(&bench, FIRST, 0x20_0000).gpa.0, 0x4000_0000);
}

#[test]
fn one_gib_page_that_is_not_offered_faults_0x72() {
    let cap = full().cap().with_fs1gp(false);
    let few = Capabilities::new(cap, full().ecap(), 48).unwrap();
    let bench = Bench::scalable_with(few, WITHOUT_TABLES);
    let outcome = bench.with_pasid(FIRST, 0x4000_0000, Access::Read);
    assert_eq!(outcome, Err((0x72, true)));
    assert_eq!(answer(&bench, FIRST, 0x20_0000).gpa.0, 0x4000_0000);
}

/// 57 bits: five levels of the second stage, and the limit that MGAW and the table's width set.
#[test]
fn second_stage_of_five_levels_translates_57_bits() {
    let bench = Bench::scalable();
    bench.memory.set(0x5000, 0x6_0000 | 0x8d);
    bench.memory.set(0x6_0000 + 0x1ff * 8, 0x1_0003);
    let top = 0x1ff << 48;
    assert_eq!(bench.read(top | 0x1abc), Ok(0x9abc));
    assert_eq!(bench.read(1 << 57), Err((0x83, true)));
}

/// In a walk of four levels each level can take rights away.
#[test]
fn first_stage_rights_are_those_of_every_level() {
    for (gpa, word) in [
        (0x2_0000, 0x2_1025),
        (0x2_1000, 0x2_2025),
        (0x2_2000, 0x2_3025),
        (0x2_3008, 0x9065),
    ] {
        let bench = Bench::scalable();
        bench.memory.set(gpa, word);
        assert_eq!(
            bench.with_pasid(FIRST, 0x1000, Access::Write),
            Err((0x85, true))
        );
        assert_eq!(bench.with_pasid(FIRST, 0x1000, Access::Read), Ok(0x9000));
    }
    for (gpa, word) in [
        (0x2_0000, 0x2_1023),
        (0x2_1000, 0x2_2023),
        (0x2_2000, 0x2_3023),
        (0x2_3008, 0x9063),
    ] {
        let bench = Bench::scalable();
        bench.memory.set(gpa, word);
        assert_eq!(
            bench.with_pasid(FIRST, 0x1000, Access::Read),
            Err((0x81, true))
        );
    }
}

/// Tables that processors share carry XD although nobody asked for it.
#[test]
fn execute_disable_counts_only_where_it_is_enabled() {
    let execute = |high: u64| {
        let bench = Bench::scalable();
        bench.memory.set(0x5110, high);
        bench.request(&Request {
            execute: true,
            ..with_pasid(OPEN, 0x4000, Access::Read)
        })
    };
    assert_eq!(execute(0x2_0023), Err((0x82, true)));
    assert_eq!(execute(0x2_0003), Ok(0xc000), "NXE is 0");
}

/// What the answer says depends on the privilege of the request.
#[test]
fn answer_holds_the_rights_of_the_request() {
    let bench = Bench::scalable();
    let perms = |request: Request| bench.translator.translate(&request).unwrap().perms;
    let user = with_pasid(OPEN, 0x2000, Access::Read);
    let supervisor = Request {
        privileged: true,
        ..user
    };
    let all = Perms {
        read: true,
        write: true,
        execute: true,
    };
    let no_write = Perms {
        write: false,
        ..all
    };
    assert_eq!(perms(user), no_write);
    assert_eq!(perms(supervisor), all, "WPE is 0");
    let no_execute = Perms {
        execute: false,
        ..all
    };
    assert_eq!(perms(with_pasid(OPEN, 0x4000, Access::Read)), no_execute);
    assert_eq!(
        perms(with_pasid(FIRST, 0x1000, Access::Read)),
        no_execute,
        "ERE is 0"
    );
}

/// SMEP keeps supervisors from user pages only.
#[test]
fn smep_lets_supervisors_execute_their_own_pages() {
    let bench = Bench::scalable();
    bench.memory.set(0x5110, 0x2_0063);
    let execute = |iova| {
        bench.request(&Request {
            execute: true,
            privileged: true,
            ..with_pasid(OPEN, iova, Access::Read)
        })
    };
    assert_eq!(execute(0x3000), Ok(0xb000));
    assert_eq!(execute(0x1000), Err((0x82, true)));
}

/// SSEE gives the second stage an execute right of its own, which also makes an entry present.
#[test]
fn second_stage_execute_right_counts_where_it_is_enabled() {
    let run = |low: u64, leaf: u64| {
        let bench = Bench::scalable();
        bench.memory.set(0x5000, low);
        bench.memory.set(0x5010, 0x2);
        for gpa in [0x1_0000, 0x1_1000, 0x1_2000] {
            let word = bench.memory.word(gpa);
            bench.memory.set(gpa, word | 4);
        }
        bench.memory.set(0x1_3008, leaf);
        bench.request(&Request {
            execute: true,
            ..with_pasid(SECOND, 0x1000, Access::Read)
        })
    };
    assert_eq!(run(0x1_0089, 0x9003), Ok(0x9000), "SSEE is 0");
    assert_eq!(run(0x1_00a9, 0x9003), Err((0x82, true)));
    assert_eq!(run(0x1_00a9, 0x9007), Ok(0x9000));
    assert_eq!(run(0x1_00a9, 0x9004), Err((0x86, true)), "execute-only");
    assert_eq!(run(0x1_0089, 0x9004), Err((0x79, true)));
}

/// 24 table entries beside the seven of root, context, directory and PASID entry, of which each word of the wide ones is
/// read twice.
#[test]
fn nested_walk_translates_every_first_stage_table() {
    let bench = Bench::scalable();
    let reads = bench.reads_of(|bench| {
        assert_eq!(answer(bench, NESTED, 0x1abc).gpa.0, 0x9abc);
    });
    assert_eq!(reads, 1 + 2 * 4 + 1 + 2 * 8 + 4 * (4 + 1) + 4);
}

/// The first stage's page is 2 MiB, the second stage's 4 KiB: the answer is the piece.
#[test]
fn nested_page_is_the_smaller_of_the_two() {
    let bench = Bench::scalable();
    let piece = answer(&bench, NESTED, 0x20_1abc);
    assert_eq!((piece.gpa.0, piece.len), (0x9abc, 0x1000 - 0xabc));
    // 4 KiB at 0x20_3000 of a second-stage page of 2 MiB.
    bench.memory.set(0x8_3020, 0x20_3067);
    let piece = answer(&bench, NESTED, 0x4abc);
    assert_eq!((piece.gpa.0, piece.len), (0x4000_3abc, 0x1000 - 0xabc));
    // 2 MiB in 1 GiB.
    bench.memory.set(0x8_2010, 0x4020_00e7);
    let large = answer(&bench, NESTED, 0x40_1abc);
    assert_eq!((large.gpa.0, large.len), (0x8020_1abc, 0x20_0000 - 0x1abc));
}

/// Writes need both stages' right.
#[test]
fn nested_rights_are_the_product() {
    let bench = Bench::scalable();
    assert_eq!(
        bench.with_pasid(NESTED, 0x2000, Access::Write),
        Err((0x85, true)),
        "the second stage forbids"
    );
    bench.memory.set(0x8_3010, 0x1065);
    assert_eq!(
        bench.with_pasid(NESTED, 0x2000, Access::Write),
        Err((0x85, true)),
        "the first stage forbids"
    );
    bench.memory.set(0x8_3010, 0x1063);
    assert_eq!(
        bench.with_pasid(NESTED, 0x2000, Access::Read),
        Err((0x81, true))
    );
}

/// The answer stops where what passes unchanged ends.
#[test]
fn pass_through_answers_up_to_the_interrupt_range() {
    let bench = Bench::scalable();
    let low = answer(&bench, PASS, 0xfedf_f000);
    assert_eq!((low.gpa.0, low.len), (0xfedf_f000, 0x1000));
    let high = answer(&bench, PASS, (1 << 57) - 0x10);
    assert_eq!((high.gpa.0, high.len), ((1 << 57) - 0x10, 0x10));
}

/// Tables that refer to themselves end like any other.
#[test]
fn tables_that_refer_to_themselves_end() {
    let bench = Bench::scalable();
    bench.memory.set(0x2_0000, 0x2_0027);
    assert_eq!(answer(&bench, FIRST, 0x10).gpa.0, 0x2_0010);
    bench.memory.set(0x1_0000, 0x1_0003);
    assert_eq!(bench.read(0x10), Ok(0x1_0010));
    bench.memory.set(0x5090, 0x1_0000);
    bench.memory.set(0x1_0000, 0x1_0027);
    let reads = bench.reads_of(|bench| {
        let _end = bench.with_pasid(NESTED, 0, Access::Write);
    });
    assert!(reads < 100, "{reads}");
}
