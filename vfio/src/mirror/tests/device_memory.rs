// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Leaves that lead into a BAR of a passed-through device.

use super::rig::*;
use crate::backend::Backend;
use crate::backend::fake::Call;
use crate::dump::explain::Verdict;
use crate::mirror::{Subject, Why};
use crate::ram::{HostVa, RamRegion};
use iommu::address::Iova;
use vm_memory::GuestAddress;

const BAR: u64 = 0xc000_0000;

fn bar(gpa: u64, host: u64) -> RamRegion {
    RamRegion {
        gpa: GuestAddress(gpa),
        len: 4 * PAGE,
        host: HostVa(host),
    }
}

#[test]
fn leaf_into_a_bar_is_mapped_where_the_host_can_and_counted_where_it_cannot() {
    for mut rig in Rig::both() {
        let can = !rig.host.features().can_move;
        let bars = vec![bar(BAR, 0x7fff_0000_0000)];
        rig.mirror.set_device_memory(bars).unwrap();
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.map(root, 0x2000, BAR + PAGE, RW);
        rig.map(root, 0x4000, BAR + 4 * PAGE, RW);
        rig.attached(root);
        let pages: Vec<u64> = rig.pages(A).keys().copied().collect();
        assert_eq!(pages, if can { vec![0, 2] } else { vec![0] });
        let dropped = rig.mirror.stats().dropped;
        assert_eq!(dropped.device_memory, u64::from(!can));
        assert_eq!(dropped.nothing_there, 1);
        let answer = &rig.mirror.explain(Subject::Device(A, None), Iova(0x2000))[0];
        let left = Verdict::LeftOut(Why::DeviceMemory);
        assert_eq!(answer.verdict, if can { Verdict::Mapped } else { left });
    }
}

/// Where runs were mapped, and from where in the process.
fn mapped(rig: &Rig) -> Vec<(u64, HostVa)> {
    let calls = rig.mapping_calls().into_iter();
    calls
        .filter_map(|logged| match logged.call {
            Call::Map(_, run, host) => Some((run.iova.start().0, host)),
            _ => None,
        })
        .collect()
}

#[test]
fn bar_that_comes_moves_and_goes_takes_its_mappings_along_and_no_other() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.map(root, 0x2000, BAR, RW);
    rig.attached(root);
    let (near, far) = (HostVa(0x7fff_0000_0000), HostVa(0x7ffe_0000_0000));
    let set = |rig: &Rig, bars| rig.mirror.set_device_memory(bars);
    set(&rig, vec![bar(BAR, near.0)]).unwrap();
    assert_eq!(mapped(&rig), [(0x2000, near)]);
    // Where the guest sees it as before, but elsewhere in the process.
    set(&rig, vec![bar(BAR, far.0)]).unwrap();
    assert_eq!(mapped(&rig), [(0x2000, far)]);
    set(&rig, vec![bar(BAR, far.0)]).unwrap();
    assert_eq!(rig.mapping_calls(), []);
    set(&rig, vec![bar(BAR + 64 * LARGE, far.0)]).unwrap();
    assert_eq!(rig.pages(A).len(), 1);
    set(&rig, Vec::new()).unwrap();
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    assert!(set(&rig, vec![bar(0, near.0)]).is_err(), "that is RAM");
    rig.assert_ledger_is_true();
}

#[test]
fn bar_that_comes_is_looked_for_only_where_something_led_nowhere() {
    let mut rig = Rig::type1();
    let (root, other) = (rig.table(), rig.table());
    rig.map(root, 0, 0x5000, RW);
    rig.map(other, 0x2000, BAR, RW);
    rig.attach(A, rig.domain(1, root));
    rig.attach(B, rig.domain(2, other));
    let walks = |rig: &Rig| rig.mirror.stats().walks;
    let set = |rig: &Rig, bars| rig.mirror.set_device_memory(bars).unwrap();
    let before = walks(&rig);
    set(&rig, vec![bar(BAR, 0x7fff_0000_0000)]);
    assert_eq!((walks(&rig) - before, rig.pages(B).len()), (1, 1));
    // Nothing leads nowhere any more, and nothing leads to what comes and goes.
    set(
        &rig,
        vec![
            bar(BAR, 0x7fff_0000_0000),
            bar(2 * BAR / 3, 0x7ffe_0000_0000),
        ],
    );
    set(&rig, vec![bar(BAR, 0x7fff_0000_0000)]);
    assert_eq!(walks(&rig) - before, 1);
    set(&rig, Vec::new());
    assert_eq!((walks(&rig) - before, rig.pages(B).len()), (2, 0));
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    rig.assert_ledger_is_true();
}

#[test]
fn bar_that_comes_and_goes_costs_nothing_where_the_host_cannot_map_it() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0x2000, BAR, RW);
    rig.attached(root);
    let before = rig.mirror.stats().walks;
    let bars = vec![bar(BAR, 0x7fff_0000_0000)];
    rig.mirror.set_device_memory(bars).unwrap();
    rig.mirror.set_device_memory(Vec::new()).unwrap();
    assert_eq!(rig.mirror.stats().walks, before);
    assert_eq!(rig.mapping_calls(), []);
}
