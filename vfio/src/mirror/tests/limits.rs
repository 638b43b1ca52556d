// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host can have: widths, reserved ranges, page sizes, numbers of mappings.

use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{CallKind, FakeOptions, Injection};
use crate::mirror::{Budget, Options};
use iommu::address::Iova;
use iommu::follow::Unmet;

/// Guests that map page by page, each page a batch: what compaction is for.
fn map_in_batches(rig: &mut Rig, root: u64, pages: u64) -> usize {
    let mut refusals = 0;
    for n in 0..pages {
        rig.map(root, n * PAGE, 0x100_0000 + n * PAGE, RW);
        let answer = rig.unit.apply(&[pages_invalidated(1, n * PAGE, PAGE)]);
        refusals += usize::from(answer.results[0].is_err());
    }
    refusals
}

#[test]
fn mappings_that_run_out_are_compacted_before_the_host_refuses() {
    let mut rig = Rig::type1_limited(8);
    let root = rig.table();
    rig.attached(root);
    assert_eq!(map_in_batches(&mut rig, root, 100), 0);
    assert_eq!(rig.pages(A), rig.expected(root, 0..512));
    let stats = rig.mirror.stats();
    assert_eq!(stats.refusals.total(), 0);
    assert!(stats.compactions > 0 && stats.gaps > 0);
    rig.assert_ledger_is_true();
}

#[test]
fn mappings_that_run_out_without_compaction_are_refused_without_a_gap() {
    let host = FakeOptions {
        entry_limit: Some(8),
        ..FakeOptions::type1()
    };
    let budget = Budget::for_ram(GIB);
    let mut rig = Rig::build(
        host,
        Options {
            budget,
            compaction: false,
        },
    );
    let root = rig.table();
    rig.attached(root);
    assert_eq!(map_in_batches(&mut rig, root, 10), 2);
    assert_eq!(rig.pages(A).len(), 8);
    assert_eq!(rig.mirror.stats().gaps, 0);
}

#[test]
fn mappings_that_ran_out_name_the_first_page_and_come_when_others_go() {
    let mut rig = Rig::type1_limited(4);
    let root = rig.table();
    for n in 0..6 {
        rig.map(root, 2 * n * PAGE, 0x100_0000, RW);
    }
    let event = attachment(A, rig.domain(1, root));
    let answer = rig.unit.apply(&[event]);
    let unmet = Unmet::Unsynced {
        device: A,
        pasid: None,
        first: Iova(8 * PAGE),
    };
    assert_eq!(refused(&answer), [unmet]);
    assert_eq!(rig.reached(A).len(), 4);
    for n in 0..2 {
        rig.clear(root, 2 * n * PAGE, 1);
    }
    let answer = rig.unit.apply(&[pages_invalidated(1, 0, 4 * PAGE)]);
    assert_eq!(answer.results, [Ok(())]);
    assert_eq!(answer.resynced, [A]);
    assert_eq!(rig.pages(A), rig.expected(root, 0..512));
}

#[test]
fn exhausted_host_is_asked_once_for_each_batch() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    for n in 0..100 {
        rig.map(root, 2 * n * PAGE, 0x100_0000, RW);
    }
    rig.attached(root);
    for n in 0..100 {
        rig.map(root, LARGE + 2 * n * PAGE, 0x100_0000, RW);
    }
    rig.host
        .inject(Injection::always(CallKind::Map, HostError::LockedMemory));
    let answer = rig.unit.apply(&[domain_invalidated(1)]);
    assert!(answer.results[0].is_err());
    assert_eq!(rig.mapping_calls().len(), 1);
}

#[test]
fn addresses_beyond_the_hosts_width_are_refused_until_they_are_unmapped() {
    for mut rig in Rig::both() {
        let root = rig.table();
        let beyond = 1 << 47;
        rig.map(root, 0x5000, 0x5000, RW);
        rig.attached(root);
        rig.map(root, beyond, 0x6000, RW);
        let answer = rig.unit.apply(&[pages_invalidated(1, beyond, PAGE)]);
        let unmet = Unmet::Unsynced {
            device: A,
            pasid: None,
            first: Iova(beyond),
        };
        assert_eq!(refused(&answer), [unmet]);
        assert_eq!(rig.reached(A), [rw(0x5000, PAGE, 0x5000)]);
        let calls = rig.mapping_calls().len();
        // Not tried again, but told again.
        assert!(
            rig.unit
                .apply(&[pages_invalidated(1, 0x5000, PAGE)])
                .results[0]
                .is_err()
        );
        assert_eq!((calls, rig.mapping_calls().len()), (0, 0));
        rig.clear(root, beyond, 1);
        let answer = rig.unit.apply(&[pages_invalidated(1, beyond, PAGE)]);
        assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
    }
}

fn coarse_host() -> Rig {
    let mut host = FakeOptions::iommufd();
    host.limits.page_sizes = 0x4000;
    Rig::new(host)
}

#[test]
fn page_finer_than_the_hosts_is_refused() {
    let mut rig = coarse_host();
    let root = rig.table();
    rig.map_pages(root, 0x8000, 0x10_0000, 4 * PAGE);
    rig.attached(root);
    assert_eq!(rig.reached(A), [rw(0x8000, 4 * PAGE, 0x10_0000)]);
    rig.map(root, 0x1_0000, 0x20_0000, RW);
    let answer = rig.unit.apply(&[pages_invalidated(1, 0x1_0000, PAGE)]);
    assert_eq!(refused(&answer).len(), 1);
    assert_eq!(rig.mirror.stats().dropped.granularity, 1);
    rig.map_pages(root, 0x1_0000, 0x20_0000, 4 * PAGE);
    rig.tell(pages_invalidated(1, 0x1_0000, 4 * PAGE));
    assert_eq!(rig.reached(A).len(), 2);
}

#[test]
fn block_of_the_host_that_loses_a_page_goes_whole() {
    let mut rig = coarse_host();
    let root = rig.table();
    rig.map_pages(root, 0x8000, 0x10_0000, 8 * PAGE);
    rig.attached(root);
    rig.clear(root, 0x9000, 1);
    let answer = rig.unit.apply(&[pages_invalidated(1, 0x9000, PAGE)]);
    assert_eq!(refused(&answer).len(), 1);
    assert_eq!(rig.reached(A), [rw(0xc000, 4 * PAGE, 0x10_4000)]);
}

#[test]
fn page_larger_than_the_hosts_is_mapped() {
    for mut rig in Rig::both() {
        let root = rig.table();
        let place = rig.entry(root, 0, 3);
        rig.memory.set(place, RW | PS);
        rig.attached(root);
        assert_eq!(rig.reached(A), [rw(0, GIB, 0)]);
    }
}

#[test]
fn addresses_that_another_device_reserves_are_refused_from_then_on() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.attached(root);
    rig.host.reserve(B, range(0x10_0000, 0x1_0000));
    rig.attach(B, rig.domain(1, root));
    rig.map_pages(root, 0xf_f000, 0x20_0000, 2 * PAGE);
    let answer = rig.unit.apply(&[pages_invalidated(1, 0xf_f000, 2 * PAGE)]);
    assert_eq!(refused(&answer).len(), 2);
    assert_eq!(rig.reached(A), [rw(0xf_f000, PAGE, 0x20_0000)]);
    assert_eq!(rig.mirror.stats().dropped.aperture, 1);
}

#[test]
fn addresses_beyond_a_units_width_do_not_keep_its_device_from_the_others() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    let beyond = 1 << 38;
    rig.map(root, 0x5000, 0x5000, RW);
    rig.map(root, beyond, 0x6000, RW);
    rig.host.narrow(A, range(beyond, 1 << 38));
    let event = attachment(A, rig.domain(1, root));
    let unmet = Unmet::Unsynced {
        device: A,
        pasid: None,
        first: Iova(beyond),
    };
    assert_eq!(refused(&rig.unit.apply(&[event])), [unmet]);
    assert_eq!(rig.reached(A), [rw(0x5000, PAGE, 0x5000)]);
}

#[test]
fn device_that_reserves_what_is_mapped_is_refused_and_the_others_live_on() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0x10_0000, 0x5000, RW);
    rig.attached(root);
    rig.host.reserve(B, range(0x10_0000, 0x1_0000));
    let event = attachment(B, rig.domain(1, root));
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [Unmet::Attachment(B)]);
    assert_eq!(rig.pages(A), rig.expected(root, 0..512));
}
