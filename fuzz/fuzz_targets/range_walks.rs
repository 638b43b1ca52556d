// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walks over ranges of arbitrary tables, which may refer to themselves: no panic, slices that keep to their budget and get
//! on, and runs that ascend within the range and cannot be joined.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::{Entry, Machine, PAGES, capabilities};
use iommu::address::{Iova, IovaRange};
use iommu::translate::rights::Rules;
use iommu::walk::first_stage::FirstStage;
use iommu::walk::range::{Progress, RangeWalk, Run, WalkBudget};
use iommu::walk::second_stage::SecondStage;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;

/// Slices of a walk: its tables may map as much as there is, in more pages than can be looked at.
const SLICES: usize = 32;

#[derive(Arbitrary, Debug)]
struct Input {
    capabilities: u16,
    first_stage: bool,
    levels: u8,
    flags: u8,
    root: u8,
    start: u64,
    len: u64,
    tables: u8,
    runs: u8,
    /// What every page holds, so that the first entries lead somewhere.
    fill: [u64; 4],
    entries: Vec<Entry>,
}

impl Input {
    fn flag(&self, bit: u8) -> bool {
        self.flags >> bit & 1 != 0
    }

    fn range(&self) -> Option<IovaRange> {
        IovaRange::new(Iova(self.start), Iova(self.start.saturating_add(self.len)))
    }

    fn walk(&self, machine: &Machine, range: &IovaRange) -> (RangeWalk, u64) {
        let table = GuestAddress(u64::from(self.root) % PAGES << 12);
        if self.first_stage {
            let levels = 4 + u32::from(self.levels & 1);
            let stage = FirstStage {
                table,
                levels,
                no_execute: self.flag(0),
                extended_accessed: self.flag(1),
            };
            let rules = Rules::from_bits(self.flags >> 2 & 0xf);
            let walk = RangeWalk::first_stage(stage, rules, self.flag(6), range);
            return (walk, levels.into());
        }
        let levels = 3 + u32::from(self.levels % 3);
        let stage = SecondStage {
            table,
            levels,
            execute_rights: self.flag(0),
            accessed_dirty: self.flag(1),
        };
        let walk = RangeWalk::second_stage(stage, machine.unit.capabilities(), range);
        (walk, levels.into())
    }
}

fuzz_target!(|input: Input| {
    let machine = Machine::new(capabilities(input.capabilities));
    for (word, value) in (0..PAGES * 512).zip(input.fill.iter().cycle()) {
        machine.memory.set(word, value & 0xf_ffff);
    }
    for entry in &input.entries {
        entry.store(&machine);
    }
    let Some(range) = input.range() else { return };
    let (mut walk, levels) = input.walk(&machine, &range);
    let budget = WalkBudget {
        tables: u64::from(input.tables),
        runs: u64::from(input.runs),
    };
    let (mut runs, mut below) = (Vec::new(), range.start());
    for _ in 0..SLICES {
        let (reported, read) = (runs.len(), walk.counts().tables);
        let capabilities = machine.unit.capabilities();
        let progress = walk.advance(&*machine.memory, capabilities, budget, &mut runs);
        assert!(walk.counts().tables - read <= budget.tables.max(levels));
        assert!((runs.len() - reported) as u64 <= budget.runs.max(1));
        let Progress::More(next) = progress else {
            break;
        };
        assert!(next >= below, "a slice went back");
        assert!(runs.iter().all(|run| run.last() < next));
        below = next;
    }
    check(&runs, &range);
});

fn check(runs: &[Run], range: &IovaRange) {
    for run in runs {
        assert!(run.len > 0 && run.iova >= range.start() && run.last() <= range.last());
        assert!(run.perms.read || run.perms.write);
    }
    for pair in runs.windows(2) {
        let [before, after] = pair else { continue };
        assert!(before.last() < after.iova, "runs that do not ascend");
        let joined = before.last().0 + 1 == after.iova.0
            && before.gpa.0 + before.len == after.gpa.0
            && before.perms == after.perms;
        assert!(!joined, "one run told as two");
    }
}
