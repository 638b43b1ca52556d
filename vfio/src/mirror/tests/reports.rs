// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is counted, for whom, and how it is told.

use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{CallKind, Injection};
use crate::mirror::{Clock, DomainReport, Report};
use iommu::follow::Attachment;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that goes on by a microsecond each time that it is looked at.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn domain(report: &Report, root: u64) -> &DomainReport {
    let named = |domain: &&DomainReport| json!(domain.holds)["root"] == format!("{root:#x}");
    report.domains.iter().find(named).unwrap()
}

#[test]
fn counters_of_a_domain_are_of_what_was_done_for_it() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map_pages(one, 0, 0x100_0000, 8 * PAGE);
    rig.map(two, 0, 0x5000, RW);
    rig.map(two, 0x8000, 3 * GIB, RW);
    rig.attach(A, rig.domain(1, one));
    rig.attach(B, rig.domain(2, two));
    rig.clear(one, 3 * PAGE, 1);
    rig.tell(pages_invalidated(1, 3 * PAGE, PAGE));
    let report = rig.mirror.report();
    let (first, second) = (domain(&report, one), domain(&report, two));
    assert_eq!((first.leaves, first.runs, first.bytes), (7, 2, 7 * PAGE));
    assert_eq!((second.leaves, second.runs, second.bytes), (2, 1, PAGE));
    let calls = |domain: &DomainReport| {
        let calls = &domain.counters.calls;
        (calls.map, calls.unmap, calls.cut, calls.attach)
    };
    assert_eq!(calls(first), (1, 0, 1, 1));
    assert_eq!(calls(second), (1, 0, 0, 1));
    assert_eq!(first.counters.batches, 2);
    assert_eq!((first.counters.events, second.counters.events), (1, 0));
    assert_eq!((first.counters.walks, second.counters.walks), (2, 1));
    assert_eq!(second.counters.dropped.nothing_there, 1);
    assert_eq!(first.counters.dropped.nothing_there, 0);
    assert_eq!(
        report.totals.tables,
        first.counters.tables + second.counters.tables
    );
    assert_eq!(report.totals.calls.map, 2);
}

#[test]
fn counters_of_a_domain_go_with_it_but_not_the_totals() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    let totals = rig.mirror.report().totals;
    rig.attach(A, Attachment::Blocked);
    let report = rig.mirror.report();
    assert_eq!(report.domains, []);
    assert_eq!(report.totals.walks, totals.walks);
    assert_eq!(report.totals.calls.destroy, 1);
    rig.attached(root);
    let report = rig.mirror.report();
    assert_eq!(domain(&report, root).counters.walks, 1);
    assert_eq!(report.totals.walks, totals.walks + 1);
}

#[test]
fn domain_on_two_containers_counts_its_walk_for_each_and_once_in_all() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    let to = rig.domain(1, root);
    let _ = rig.unit.apply(&[attachment(A, to), attachment(B, to)]);
    let report = rig.mirror.report();
    assert_eq!(report.totals.walks, 1);
    let walks: Vec<u64> = report.domains.iter().map(|d| d.counters.walks).collect();
    assert_eq!(walks, [1, 1]);
    assert_eq!(report.totals.calls.map, 2);
}

#[test]
fn every_host_call_is_timed_by_the_clock_from_outside() {
    let mut rig = Rig::iommufd();
    rig.mirror = rig.mirror.clone().with_clock(Arc::new(Ticking::default()));
    let root = rig.table();
    for n in 0..10 {
        rig.map(root, 2 * n * PAGE, 0x5000, RW);
    }
    rig.attached(root);
    let totals = rig.mirror.report().totals;
    assert_eq!(totals.times.calls(), totals.calls.total());
    assert_eq!(
        u128::from(totals.calls.total()),
        totals.times.total().as_micros()
    );
    let filled: Vec<_> = totals
        .times
        .buckets()
        .filter(|(_, calls)| *calls != 0)
        .collect();
    assert_eq!(
        filled,
        [(Some(Duration::from_micros(1)), totals.calls.total())]
    );
}

#[test]
fn device_counts_its_own_attachments_refusals_and_faults() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.attach(B, Attachment::Identity);
    rig.host
        .inject(Injection::once(CallKind::Attach, HostError::Io));
    let event = attachment(A, rig.domain(1, root));
    assert!(rig.unit.apply(&[event]).results[0].is_err());
    rig.tell(event);
    let report = rig.mirror.report();
    let counters = |device: u32| {
        let mut devices = report.devices.iter();
        let found = devices.find(|endpoint| endpoint.name.device == device);
        found.unwrap().counters
    };
    assert_eq!(
        (counters(1).attach, counters(1).refusals, counters(1).faults),
        (2, 1, 1)
    );
    assert_eq!(
        (counters(2).attach, counters(2).refusals, counters(2).faults),
        (1, 0, 0)
    );
    assert_eq!(report.devices[0].wants, "domain 1");
    assert_eq!(report.devices[0].place, Some(report.domains[0].table));
}

#[test]
fn report_names_what_is_unsynced_since_when_and_why() {
    let mut rig = Rig::iommufd();
    rig.mirror = rig.mirror.clone().with_clock(Arc::new(Ticking::default()));
    let root = rig.table();
    rig.attached(root);
    rig.map(root, 0x5000, 0x5000, RW);
    rig.host
        .inject(Injection::always(CallKind::Map, HostError::LockedMemory));
    let _ = rig.unit.apply(&[domain_invalidated(1)]);
    let report = serde_json::to_value(rig.mirror.report()).unwrap();
    let domain = &report["domains"][0];
    assert_eq!(domain["unsynced"], 1);
    assert_eq!(domain["first_unsynced"], "0x5000");
    assert_eq!(domain["last_refusal"]["errno"], 12);
    assert_eq!(domain["blocked"], Value::Null);
    assert_eq!(domain["tags"], json!([{"unit": 0, "domain": 1}]));
    assert_eq!(domain["members"], json!([{"device": 1, "pasid": null}]));
    assert_eq!(report["totals"]["refusals"][0]["errno"], 12);
    assert_eq!(report["totals"]["skips"]["reserved"], 0);
    assert!(report["totals"]["times"]["buckets"][0]["calls"].as_u64() > Some(0));
    rig.host.heal();
    let _ = rig.unit.apply(&[domain_invalidated(1)]);
    assert_eq!(rig.mirror.report().domains[0].last_refusal, None);
}
