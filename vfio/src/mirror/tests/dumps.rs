// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a dump shows.

use super::answers::ask;
use super::guest::{Guest, step};
use super::rig::*;
use crate::backend::TableId;
use crate::backend::fake::FakeOptions;
use crate::dump::explain::Verdict;
use crate::dump::html::render;
use crate::dump::{Difference, Differs, Dump, Nothing, Options};
use crate::mirror::{Budget, Subject, Why};
use crate::run::{Rights, Run};
use iommu::address::Iova;
use proptest::prelude::*;

/// The lists of a dump, by hand.
#[test]
fn dump_lists_what_guest_and_host_have() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_pages(root, 0x10_0000, 0x100_0000, 4 * PAGE);
        rig.map(root, 0x20_0000, 0x5000, R);
        rig.map(root, 0x30_0000, 3 * GIB, RW);
        rig.attached(root);
        let dump = rig.mirror.dump(&Options::default());
        let domain = &dump.domains[0];
        assert_eq!((domain.guest.total, domain.guest.bytes), (3, 6 * PAGE));
        let host: Vec<_> = domain
            .host
            .lines
            .iter()
            .map(|line| (line.first.0, line.last.0, line.gpa.0, line.rights))
            .collect();
        assert_eq!(
            host,
            [
                (0x10_0000, 0x10_3fff, 0x100_0000, Rights::ReadWrite),
                (0x20_0000, 0x20_0fff, 0x5000, Rights::Read)
            ]
        );
        let left = Differs::LeftOut(Why::NothingThere);
        assert_eq!(domain.differences.lines[0].what, left);
        assert_eq!(domain.differences.total, 1);
        assert_eq!(domain.blocks.len(), 3);
        let first = &domain.holes.lines[0];
        assert_eq!(
            (first.first.0, first.last.0, first.why),
            (0, 0xf_ffff, Nothing::NotPresent)
        );
        let last = domain.holes.lines.last().unwrap();
        assert_eq!((last.first.0, last.last.0), (1 << 48, u64::MAX));
        assert_eq!(last.why, Nothing::BeyondWidth { width: 48 });
        let page = render(&dump);
        assert!(
            page.contains("IOVA 0x100000 to 0x103fff, 16 KiB; the first reaches GPA 0x1000000")
        );
    }
}

#[test]
fn dump_of_many_runs_is_bounded_but_counts_all() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    for n in 0..20_000 {
        rig.map(root, 2 * n * PAGE, 0x100_0000 + (n % 512) * PAGE, RW);
    }
    rig.attached(root);
    let options = Options {
        lines: 10,
        blocks: 16,
        holes: 8,
    };
    let dump = rig.mirror.dump(&options);
    let domain = &dump.domains[0];
    assert_eq!((domain.guest.total, domain.guest.lines.len()), (20_000, 10));
    assert_eq!(
        (domain.host.total, domain.host.bytes),
        (20_000, 20_000 * PAGE)
    );
    assert_eq!(domain.blocks.len(), 16);
    let drawn: u64 = domain.blocks.iter().map(|block| block.read_write).sum();
    assert_eq!(drawn, 20_000 * PAGE);
    assert!(domain.holes.lines.len() <= 8);
    assert_eq!(domain.stopped, None);
    assert_eq!(domain.differences.total, 0);
}

#[test]
fn dump_of_tables_that_cost_too_much_ends() {
    let budget = Budget {
        tables: 512,
        runs: 4096,
        all_runs: 4096,
    };
    let mut rig = Rig::with(FakeOptions::iommufd(), budget);
    let root = rig.table();
    for n in 0..512 {
        rig.memory.set(root + 8 * n, root | RW);
    }
    rig.attach_refused(root);
    let before = rig.memory.reads();
    let dump = rig.mirror.dump(&Options::default());
    assert!(dump.domains[0].stopped.is_some());
    assert!(rig.memory.reads() - before < 200_000);
    assert!(render(&dump).contains("cost too much"));
}

#[test]
fn dump_without_domains_is_a_page_too() {
    let rig = Rig::iommufd();
    assert_eq!(rig.mirror.dump(&Options::default()), Dump::default());
    assert!(render(&Dump::default()).contains("No host table"));
}

#[test]
fn dump_serialises_with_its_fields_by_name() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0x5000, 3 * GIB, RW);
    rig.attached(root);
    let dump = serde_json::to_value(rig.mirror.dump(&Options::default())).unwrap();
    let domain = &dump["domains"][0];
    assert_eq!(domain["domain"]["holds"]["kind"], "second_stage");
    assert_eq!(domain["differences"]["lines"][0]["kind"], "left_out");
    assert_eq!(domain["differences"]["lines"][0]["why"], "nothing_there");
    assert_eq!(domain["holes"]["lines"][0]["entry"]["level"], 1);
    let answer = serde_json::to_value(ask(&rig, 0x5000)).unwrap();
    assert_eq!(answer["verdict"], "left_out");
    assert_eq!(answer["guest"]["gpa"], format!("{:#x}", 3 * GIB));
}

proptest! {
    /// After every batch a dump shows no difference but what the host is not to have, and each address is answered for as it
    /// is.
    #[test]
    fn dump_and_answers_agree_with_what_devices_reach(
        steps in prop::collection::vec(step(), 1..8),
        moves in any::<bool>(),
    ) {
        let mut guest = Guest::new(if moves { FakeOptions::iommufd() } else { FakeOptions::type1() });
        for step in steps {
            let _ = guest.step(&step);
            let dump = guest.rig.mirror.dump(&Options { lines: usize::MAX, ..Options::default() });
            for domain in &dump.domains {
                let left = |difference: &Difference| matches!(difference.what, Differs::LeftOut(_));
                prop_assert!(domain.differences.lines.iter().all(left), "{:?}", domain.differences);
                let held = guest.rig.host.mappings(TableId(domain.domain.table)).unwrap();
                prop_assert_eq!(domain.host.bytes, held.iter().map(Run::len).sum::<u64>());
                let drawn = domain.blocks.iter().map(|block| block.read + block.write + block.read_write);
                prop_assert_eq!(drawn.sum::<u64>(), domain.host.bytes);
                prop_assert!(domain.stopped.is_none());
            }
            for device in [A, B] {
                let reached = guest.rig.pages(device);
                for page in Guest::pages() {
                    let subject = Subject::Device(device, None);
                    let answers = guest.rig.mirror.explain(subject, Iova(page * PAGE));
                    let host = answers[0].host.map(|host| (host.gpa.0 / PAGE, host.rights));
                    prop_assert_eq!(host, reached.get(&page).copied(), "{:?}", answers);
                    let mapped = answers[0].verdict == Verdict::Mapped;
                    prop_assert_eq!(mapped, host.is_some(), "{:?}", answers);
                }
            }
        }
    }
}
