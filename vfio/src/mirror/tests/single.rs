// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The short way of a batch against the long one, which an event more leads to.

use super::guest::{Guest, step};
use super::properties::injection;
use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{CallKind, FakeOptions, Injection};
use crate::mirror::Budget;
use iommu::follow::{FollowEvent, Invalidated};
use proptest::prelude::*;

proptest! {
    /// Whatever the host refuses meanwhile: the same calls, answers, tables and counters.
    #[test]
    fn short_way_does_what_the_long_way_does(
        steps in prop::collection::vec((step(), prop::option::weighted(0.3, injection())), 1..16),
        moves in any::<bool>(),
    ) {
        let options = || if moves { FakeOptions::iommufd() } else { FakeOptions::type1() };
        let mut short = Guest::new(options());
        let mut long = Guest::new(options());
        long.padded = true;
        for (step, injection) in steps {
            for guest in [&mut short, &mut long] {
                guest.rig.host.heal();
                if let Some(injection) = injection {
                    guest.rig.host.inject(injection);
                }
            }
            let (answer, mut longer) = (short.step(&step), long.step(&step));
            prop_assert_eq!(longer.results.pop(), Some(Ok(())));
            prop_assert_eq!(&answer, &longer);
            prop_assert_eq!(short.rig.host.take_log(), long.rig.host.take_log());
            prop_assert_eq!(short.tables(), long.tables());
            prop_assert_eq!(short.rig.mirror.tables(), long.rig.mirror.tables());
            let counters = |guest: &Guest| {
                let stats = guest.rig.mirror.stats();
                let walked = (stats.walks, stats.tables, stats.leaves, stats.skips, stats.dropped);
                let refused = (stats.retries, stats.gaps, stats.quarantines, stats.over_budget);
                (stats.calls, walked, refused)
            };
            prop_assert_eq!(counters(&short), counters(&long));
        }
    }
}

#[test]
fn pages_beyond_the_budget_block_the_domain_by_the_short_way_too() {
    let budget = Budget {
        runs: 4,
        ..Budget::for_ram(GIB)
    };
    let mut rig = Rig::with(FakeOptions::iommufd(), budget);
    let root = rig.table();
    rig.attached(root);
    for page in 0..5 {
        rig.map(root, page * PAGE, page * LARGE, RW);
        let answer = rig.unit.apply(&[pages_invalidated(1, page * PAGE, PAGE)]);
        assert_eq!(answer.results[0].is_ok(), page < 4);
    }
    assert_eq!(rig.reached(A), []);
    assert_eq!(rig.table_of(A), None);
}

#[test]
fn refusal_of_one_page_is_made_up_for_by_the_invalidation_of_another() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.attached(root);
        rig.map(root, 0x5000, 0x10_0000, RW);
        rig.host
            .inject(Injection::always(CallKind::Map, HostError::LockedMemory));
        let answer = rig.unit.apply(&[pages_invalidated(1, 0x5000, PAGE)]);
        assert_eq!(refused(&answer), [unsynced(0x5000)]);
        rig.host.heal();
        let answer = rig.unit.apply(&[pages_invalidated(1, 0x9000, PAGE)]);
        assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
        assert_eq!(rig.reached(A), [rw(0x5000, PAGE, 0x10_0000)]);
    }
}

#[test]
fn pages_of_every_domain_are_no_single_table() {
    let mut rig = Rig::iommufd();
    let roots = [rig.table(), rig.table()];
    rig.attach(A, rig.domain(1, roots[0]));
    rig.attach(B, rig.domain(2, roots[1]));
    for root in roots {
        rig.map(root, 0x5000, 0x10_0000, RW);
    }
    rig.tell(FollowEvent::Invalidated(Invalidated {
        range: range(0x5000, PAGE),
        ..Invalidated::ALL
    }));
    for device in [A, B] {
        assert_eq!(rig.reached(device), [rw(0x5000, PAGE, 0x10_0000)]);
    }
}
