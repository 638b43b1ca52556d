// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The way of one address, by how it ends.

use super::*;

fn trace(memory: &FakeMem, iova: u64) -> Trace {
    let walk = RangeWalk::second_stage(second(3), &capabilities(), &range(iova, iova));
    walk.trace(memory, &capabilities(), Iova(iova))
}

#[test]
fn trace_of_a_page_tells_every_entry_and_where_it_leads() {
    let memory = memory();
    memory.set(0x3000 + 8 * 5, 0x10_5001);
    let found = trace(&memory, 0x5678);
    let steps: Vec<_> = found
        .steps
        .iter()
        .map(|step| (step.level, step.entry.0, step.value))
        .collect();
    assert_eq!(
        steps,
        [
            (3, 0x1000, 0x2003),
            (2, 0x2000, 0x3003),
            (1, 0x3028, 0x10_5001)
        ]
    );
    let page = End::Page {
        gpa: GuestAddress(0x10_5678),
        size: 0x1000,
        perms: READ,
    };
    assert_eq!(found.end, page);
    assert_eq!(
        found.run(Iova(0x5678)).unwrap().gpa,
        GuestAddress(0x10_5678)
    );
}

#[test]
fn trace_ends_where_the_tables_do() {
    let memory = memory();
    for (index, entry) in [
        (0, 0),
        (1, 0x10_0003 | 1 << 62),
        (2, 0xfee0_1003),
        (3, 0x10_3001),
    ] {
        memory.set(0x3000 + 8 * index, entry);
    }
    // A table that is no memory, and one below which only writes are left of reads.
    memory.set(0x2008, 0x20_0000 | 3);
    memory.set(0x2010, 0x3002);
    let ends = [
        (0, 3, End::NotPresent),
        (0x1000, 3, End::Reserved(1 << 62)),
        (0x2000, 3, End::InterruptRange(GuestAddress(0xfee0_1000))),
        (0x20_0000, 2, End::Unreadable(GuestAddress(0x20_0000))),
        (0x40_3000, 3, End::NoPermission),
        (0x4000_0000, 1, End::NotPresent),
        (1 << 39, 0, End::BeyondWidth),
    ];
    for (iova, steps, end) in ends {
        let found = trace(&memory, iova);
        assert_eq!((found.steps.len(), found.end), (steps, end), "{iova:#x}");
        assert_eq!(found.run(Iova(iova)), None);
    }
}
