// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every answer to why an address is not mapped.

use super::rig::*;
use crate::backend::fake::{CallKind, FakeOptions, Injection};
use crate::backend::{HostError, Limits};
use crate::dump::explain::{Answer, Verdict};
use crate::dump::html::render;
use crate::dump::{Differs, Nothing, Options};
use crate::mirror::{BlockedBy, Budget, Subject, UnitId, Why};
use iommu::address::Iova;
use iommu::follow::{Attachment, DeviceHandle};
use iommu::ids::DomainId;

pub fn ask(rig: &Rig, iova: u64) -> Answer {
    let answers = rig.mirror.explain(Subject::Device(A, None), Iova(iova));
    let [answer] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(
        answer.words.starts_with(&format!("{iova:#x} is ")),
        "{}",
        answer.words
    );
    answer.clone()
}

fn says(rig: &Rig, iova: u64, verdict: &Verdict, words: &str) {
    let answer = ask(rig, iova);
    assert_eq!(answer.verdict, *verdict, "{iova:#x}");
    assert!(answer.words.contains(words), "{}", answer.words);
}

#[test]
fn answer_names_the_level_and_the_entry_where_the_guests_tables_end() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.map(root, 0x1000, 0x6000, RW | RESERVED);
        rig.map(root, 0x3000, 0x6000, RW);
        let middle = rig.entry(root, 0x4000_0000, 2);
        rig.memory.set(middle, (6 * GIB) | RW);
        // Of a read-only table a write-only page.
        let narrow = rig.entry(root, 0x4020_0000, 1);
        rig.memory.set(narrow, 0x5000 | W);
        let table = rig.entry(root, 0x4020_0000, 2);
        rig.memory.set(table, rig.memory.word(table) & !W);
        rig.attached(root);
        let none = &Verdict::Nothing(Nothing::NotPresent);
        let entry = rig.entry(root, 0x2000, 1);
        says(
            &rig,
            0x2000,
            none,
            &format!("entry at level 1 ({entry:#x} holds 0x0) is not present"),
        );
        says(&rig, 0x20_0000, none, "level 2");
        says(&rig, 0x8000_0000, none, "level 3");
        says(&rig, 1 << 40, none, "level 4");
        assert_eq!(ask(&rig, 0x2000).entries.len(), 4);
        let reserved = Verdict::Nothing(Nothing::Reserved {
            bits: crate::mirror::Address(RESERVED),
        });
        says(&rig, 0x1000, &reserved, "level 1");
        says(
            &rig,
            0x4020_0000,
            &Verdict::Nothing(Nothing::NoPermission),
            "neither the right",
        );
        let at = crate::mirror::Address(6 * GIB);
        says(
            &rig,
            0x4000_0000,
            &Verdict::Nothing(Nothing::Unreadable { at }),
            "no memory",
        );
        let beyond = Verdict::Nothing(Nothing::BeyondWidth { width: 48 });
        says(&rig, 1 << 48, &beyond, "beyond the 48 bits");
        says(
            &rig,
            0x3000,
            &Verdict::Mapped,
            "is mapped for device 1: it reaches 0x6000 (read and write)",
        );
    }
}

#[test]
fn answer_names_what_the_host_is_not_to_have() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_large(root, 0xfee0_0000, 0x100_0000, RW);
    rig.map(root, 0x5000, 3 * GIB, RW);
    rig.map(root, 0x7000, 0xfee0_0000, RW);
    rig.map(root, 1 << 47, 0x5000, RW);
    rig.attach_refused(root);
    says(
        &rig,
        0xfee0_1000,
        &Verdict::LeftOut(Why::InterruptWindow),
        "interrupt window",
    );
    says(
        &rig,
        0xfeef_f000,
        &Verdict::LeftOut(Why::InterruptWindow),
        "0xfeefffff",
    );
    says(&rig, 0x5000, &Verdict::LeftOut(Why::NothingThere), "no RAM");
    says(
        &rig,
        1 << 47,
        &Verdict::LeftOut(Why::Aperture),
        "beyond the host's width",
    );
    let gpa = crate::mirror::Address(0xfee0_0000);
    says(
        &rig,
        0x7000,
        &Verdict::Nothing(Nothing::InterruptRange { gpa }),
        "interrupt range",
    );
}

#[test]
fn answer_judges_pages_by_the_hosts_page_size() {
    let fine = FakeOptions::iommufd();
    let mut rig = Rig::new(FakeOptions {
        limits: Limits {
            page_sizes: 0x1_0000,
            ..fine.limits
        },
        ..fine
    });
    let root = rig.table();
    rig.map_pages(root, 0x1_0000, 0x2_0000, 0x1_0000);
    rig.map(root, 0x3_0000, 0x3_0000, RW);
    rig.attach_refused(root);
    says(&rig, 0x1_5000, &Verdict::Mapped, "0x25000");
    says(&rig, 0x3_0000, &Verdict::LeftOut(Why::Granularity), "finer");
}

#[test]
fn answer_names_the_refusal_and_when_it_was() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.attached(root);
    for (page, error) in [(0x5000, HostError::Io), (0x9000, HostError::LockedMemory)] {
        rig.map(root, page, 0x5000, RW);
        rig.host
            .inject(Injection::once(CallKind::Map, error).within(range(page, PAGE)));
    }
    let _ = rig.unit.apply(&[domain_invalidated(1)]);
    for (page, number, words) in [(0x5000, 5, "(EIO)"), (0x9000, 12, "(ENOMEM)")] {
        let answer = ask(&rig, page);
        let Verdict::Refused(refusal) = &answer.verdict else {
            panic!("{answer:?}");
        };
        assert_eq!(refusal.errno, number);
        assert!(
            answer.words.contains(words) && answer.words.contains(" s ago"),
            "{}",
            answer.words
        );
    }
}

#[test]
fn answer_tells_changes_that_were_not_invalidated() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    for page in [0, 0x2000] {
        rig.map(root, page, 0x5000, RW);
    }
    rig.attached(root);
    rig.clear(root, 0, 1);
    rig.map(root, 0x2000, 0x5000, R);
    rig.map(root, 0x4000, 0x5000, RW);
    says(&rig, 0, &Verdict::Stale, "no longer say so");
    says(&rig, 0x2000, &Verdict::Different, "0x5000 (read) by now");
    says(&rig, 0x4000, &Verdict::NotTold, "has not invalidated");
    let dump = rig.mirror.dump(&Options::default());
    let found: Vec<_> = dump.domains[0]
        .differences
        .lines
        .iter()
        .map(|difference| (difference.first.0, difference.what))
        .collect();
    assert_eq!(
        found,
        [
            (0, Differs::Extra),
            (0x2000, Differs::Different),
            (0x4000, Differs::Missing)
        ]
    );
    assert_eq!(render(&dump).matches("<rect class=\"differs\"").count(), 3);
}

#[test]
fn answer_names_what_blocks_the_domain_or_the_device() {
    let budget = Budget {
        tables: 64,
        runs: 16,
        all_runs: 64,
    };
    let mut rig = Rig::with(FakeOptions::iommufd(), budget);
    let root = rig.table();
    for n in 0..32 {
        rig.map(root, 2 * n * PAGE, 0x5000, RW);
    }
    rig.attach_refused(root);
    says(
        &rig,
        0,
        &Verdict::Blocked(BlockedBy::OverBudget),
        "cost more",
    );
    rig.attach(A, Attachment::Blocked);
    says(&rig, 0, &Verdict::DeviceBlocked, "blocks it");
    rig.host
        .inject(Injection::always(CallKind::Create, HostError::LockedMemory));
    rig.attach_refused(root);
    let answer = ask(&rig, 0);
    assert!(
        matches!(answer.verdict, Verdict::NotAttached(_)),
        "{answer:?}"
    );
}

#[test]
fn answer_for_a_table_that_could_not_be_cleaned_says_so() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    let _ = rig.unit.apply(&[domain_invalidated(1)]);
    says(
        &rig,
        0,
        &Verdict::Blocked(BlockedBy::Unclean),
        "did not remove",
    );
}

#[test]
fn answer_for_a_device_that_is_not_translated_is_about_ram() {
    for rig in Rig::both() {
        rig.attach(A, Attachment::Identity);
        says(&rig, 0x5000, &Verdict::Mapped, "0x5000");
        says(
            &rig,
            2 * GIB,
            &Verdict::LeftOut(Why::NothingThere),
            "no RAM",
        );
        rig.attach(A, Attachment::Blocked);
        says(&rig, 0x5000, &Verdict::DeviceBlocked, "not mapped");
    }
}

#[test]
fn question_may_name_a_domain_or_a_table_and_nobody() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        let to = rig.domain(7, root);
        let _ = rig.unit.apply(&[attachment(A, to), attachment(B, to)]);
        let tables = rig.mirror.tables();
        let ask = |subject| rig.mirror.explain(subject, Iova(0));
        let answers = ask(Subject::Domain(UnitId(0), DomainId(7)));
        assert_eq!(answers.len(), tables.len());
        for answer in answers {
            assert_eq!(answer.verdict, Verdict::Mapped);
            assert_eq!(answer.about, "domain 7");
        }
        assert_eq!(ask(Subject::Table(tables[0].table)).len(), 1);
        assert_eq!(ask(Subject::Domain(UnitId(0), DomainId(8))), []);
        assert_eq!(ask(Subject::Device(DeviceHandle(99), None)), []);
    }
}
