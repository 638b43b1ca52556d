// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random tables against the walk of one address after the other.

use super::*;
use crate::fault::FaultReason;
use crate::translate::paging::{Paging, Stages};
use crate::walk::Tables;
use proptest::prelude::*;

/// Entries of tables at 0x1000 to 0x6000 are at these indices only, so that random ranges meet them.
const INDICES: [u64; 6] = [0, 1, 2, 255, 256, 511];

/// Tables: where an entry stands and what it says. Second-stage entries have their rights in bits 1:0, first-stage ones P,
/// R/W and U/S in bits 2:0, so that the same words serve for both.
fn words() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let place = (1u64..=6, prop::sample::select(INDICES.to_vec()))
        .prop_map(|(table, index)| table * 0x1000 + index * 8);
    let rights = prop::sample::select(vec![7u64, 7, 7, 3, 1, 2, 5, 0]);
    let target = prop_oneof![
        6 => (1u64..=6).prop_map(|table| table * 0x1000),
        4 => (0u64..4).prop_map(|page| 0x20_0000 + page * 0x1000),
        2 => (0u64..4).prop_map(|page| 0x4000_0000 * page),
        1 => prop::sample::select(vec![0xfee0_0000u64, 0xfedf_f000, 0xfef0_0000, 1 << 30, 1 << 48]),
    ];
    let rest = prop::sample::select(vec![0u64, 0, 0, 0, 0, 0x80, 0x80, 0x800, 0x60, 1 << 62]);
    let entry = (target, rights, rest).prop_map(|(target, rights, rest)| target | rights | rest);
    prop::collection::vec((place, entry), 1..40)
}

/// An address made of the indices above, repeated up to bit 63 or not.
fn address() -> impl Strategy<Value = u64> {
    let index = prop::sample::select(INDICES.to_vec());
    let parts = (prop::collection::vec(index, 5), 0u64..0x1000, any::<bool>());
    parts.prop_map(|(indices, offset, high)| {
        let low = indices.iter().fold(0, |sum, index| sum << 9 | index) << 12 | offset;
        if high {
            low | 0xfe00_0000_0000_0000
        } else {
            low
        }
    })
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Second(u32),
    First(u32, Rules, bool),
}

fn kind() -> impl Strategy<Value = Kind> {
    let rules = (any::<bool>(), any::<bool>()).prop_map(|(write_protect, execute)| {
        Rules::new()
            .with_write_protect(write_protect)
            .with_execute(execute)
    });
    prop_oneof![
        (3u32..=5).prop_map(Kind::Second),
        (4u32..=5, rules, any::<bool>())
            .prop_map(|(levels, rules, privileged)| Kind::First(levels, rules, privileged)),
    ]
}

impl Kind {
    fn walk(self, range: &IovaRange) -> RangeWalk {
        match self {
            Self::Second(levels) => RangeWalk::second_stage(second(levels), &capabilities(), range),
            Self::First(levels, rules, privileged) => {
                RangeWalk::first_stage(first(levels), rules, privileged, range)
            }
        }
    }

    /// What one address comes to.
    fn naive(self, memory: &FakeMem, address: u64) -> Option<(u64, Perms)> {
        let (stages, rules, privileged) = match self {
            Self::Second(levels) => (Stages::Second(second(levels)), Rules::default(), false),
            Self::First(levels, rules, privileged) => {
                (Stages::First(first(levels)), rules, privileged)
            }
        };
        let claim = Claim {
            access: Access::Read,
            execute: false,
            privileged,
            rules,
            codes: Codes::Scalable,
        };
        let paging = Paging {
            stages: &stages,
            snooped: true,
            codes: Codes::Scalable,
        };
        let capabilities = capabilities();
        paging.check_input(&capabilities, Iova(address)).ok()?;
        let rights = |page: crate::walk::Page| {
            claim
                .rights(page.rights())
                .filter(|perms| perms.read || perms.write)
                .ok_or(FaultReason::ScalableNoRead)
        };
        let found = paging
            .walk(
                &Tables::new(memory, &capabilities),
                Iova(address),
                None,
                |page| rights(page).map(|_| false),
            )
            .ok()?;
        let gpa = found.page.translate(address);
        Some((gpa.0, rights(found.page).unwrap()))
    }

    /// The runs of `range`, page after page.
    fn naive_runs(self, memory: &FakeMem, range: &IovaRange) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut at = range.start().0;
        loop {
            let last = (at | 0xfff).min(range.last().0);
            if let Some((gpa, perms)) = self.naive(memory, at) {
                let page = run(at, gpa, last - at + 1, perms);
                match runs.last_mut() {
                    Some(run) if run.precedes(at, gpa, perms) => run.len += page.len,
                    _ => runs.push(page),
                }
            }
            if last == range.last().0 {
                return runs;
            }
            at = last + 1;
        }
    }
}

fn load(words: &[(u64, u64)]) -> FakeMem {
    let memory = FakeMem::new(1 << 20);
    for (at, entry) in words {
        memory.set(*at, *entry);
    }
    memory
}

proptest! {
    /// Every page of a small range, which may begin and end anywhere, is in the run that it belongs to.
    #[test]
    fn runs_of_a_small_range_are_those_of_a_naive_walk(
        words in words(),
        kind in kind(),
        start in address(),
        len in prop_oneof![1u64..0x4000, 0x1f_0000u64..0x40_0000],
    ) {
        let memory = load(&words);
        let range = range(start, start.saturating_add(len));
        let expected = kind.naive_runs(&memory, &range);
        let (runs, counts) = finish(&memory, kind.walk(&range));
        prop_assert_eq!(runs, expected);
        let leaves = counts.smallest_leaf.is_some();
        prop_assert_eq!(leaves, counts.leaves != 0);
    }

    /// Over a large range: what is in a run is so, what is in none is not, and slices make no difference.
    #[test]
    fn runs_of_a_large_range_hold_at_every_address(
        words in words(),
        kind in kind(),
        ends in (address(), address()),
        probes in prop::collection::vec(address(), 32),
        tables in 0u64..20,
        most in 1u64..20,
    ) {
        let memory = load(&words);
        let range = range(ends.0.min(ends.1), ends.0.max(ends.1));
        let mut walk = kind.walk(&range);
        let (mut runs, mut progress) = (Vec::new(), Progress::More(range.start()));
        for _ in 0..200 {
            let budget = WalkBudget { tables, runs: most };
            progress = walk.advance(&memory, &capabilities(), budget, &mut runs);
            if progress == Progress::Done {
                break;
            }
        }
        for pair in runs.windows(2) {
            prop_assert!(pair[0].last() < pair[1].iova);
            prop_assert!(!pair[0].precedes(pair[1].iova.0, pair[1].gpa.0, pair[1].perms));
        }
        let told = |at: u64| range.contains(Iova(at)) && match progress {
            Progress::Done => true,
            Progress::More(next) => at < next.0,
        };
        let ends = runs.iter().take(50).flat_map(|run| [run.iova.0, run.last().0]);
        for at in probes.into_iter().chain(ends).filter(|at| told(*at)) {
            let found = runs
                .iter()
                .find(|run| run.iova.0 <= at && at <= run.last().0)
                .map(|run| (run.gpa.0 + (at - run.iova.0), run.perms));
            prop_assert_eq!(found, kind.naive(&memory, at), "at {:#x}", at);
        }
        if progress == Progress::Done {
            let (whole, _) = finish(&memory, kind.walk(&range));
            prop_assert_eq!(runs, whole);
        }
    }
    /// The way of an address leads where a request would be led.
    #[test]
    fn trace_of_an_address_ends_where_a_request_does(
        words in words(),
        kind in kind(),
        at in address(),
    ) {
        let memory = load(&words);
        let trace = kind.walk(&range(at, at)).trace(&memory, &capabilities(), Iova(at));
        let found = trace.run(Iova(at)).map(|run| (run.gpa.0, run.perms));
        prop_assert_eq!(found, kind.naive(&memory, at));
    }
}
