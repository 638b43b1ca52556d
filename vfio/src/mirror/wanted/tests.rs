// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What of guest mappings a host can have, by hand.

use super::*;
use crate::ram::{HostVa, RamRegion};
use iommu::request::Perms;
use vm_memory::GuestAddress;

fn range(start: u64, len: u64) -> IovaRange {
    IovaRange::from_len(Iova(start), len).unwrap()
}

fn limits(page_sizes: u64, ranges: &[IovaRange]) -> Limits {
    Limits {
        page_sizes,
        ranges: ranges.to_vec(),
    }
}

/// 16 MiB of RAM in two regions that are not contiguous in the process.
fn ram() -> RamMap {
    let region = |gpa, host| RamRegion {
        gpa: GuestAddress(gpa),
        len: 0x80_0000,
        host: HostVa(host),
    };
    RamMap::new(vec![
        region(0, 0x7000_0000_0000),
        region(0x80_0000, 0x7100_0000_0000),
    ])
    .unwrap()
}

fn reach(ram: &RamMap) -> Reach<'_> {
    Reach {
        ram,
        devices: false,
    }
}

fn guest(iova: u64, gpa: u64, len: u64) -> GuestRun {
    GuestRun {
        iova: Iova(iova),
        gpa: GuestAddress(gpa),
        len,
        perms: Perms::READ_WRITE,
    }
}

fn rw(iova: u64, len: u64, gpa: u64) -> Run {
    Run {
        iova: range(iova, len),
        gpa: GuestAddress(gpa),
        rights: Rights::ReadWrite,
    }
}

#[test]
fn run_across_two_regions_of_ram_is_two() {
    let all = limits(0x1000, &[IovaRange::ALL]);
    let wanted = Wanted::of(&[guest(0x10_0000, 0x7f_f000, 0x2000)], &all, reach(&ram()));
    assert_eq!(
        wanted.runs,
        [
            rw(0x10_0000, 0x1000, 0x7f_f000),
            rw(0x10_1000, 0x1000, 0x80_0000)
        ]
    );
}

#[test]
fn run_beyond_ram_is_cut_and_counted() {
    let all = limits(0x1000, &[IovaRange::ALL]);
    let wanted = Wanted::of(&[guest(0x10_0000, 0xff_f000, 0x3000)], &all, reach(&ram()));
    assert_eq!(wanted.runs, [rw(0x10_0000, 0x1000, 0xff_f000)]);
    assert_eq!(wanted.dropped().nothing_there, 1);
    assert_eq!(wanted.refused().count(), 0);
}

#[test]
fn run_over_several_usable_ranges_loses_what_lies_between() {
    let usable = [
        range(0x1000, 0x1000),
        range(0x3000, 0x1000),
        range(0x9000, 0x1000),
    ];
    let limits = limits(0x1000, &usable);
    let runs = [guest(0, 0x10_0000, 0x5000), guest(0x9000, 0, 0x2000)];
    let wanted = Wanted::of(&runs, &limits, reach(&ram()));
    assert_eq!(
        wanted.runs,
        [
            rw(0x1000, 0x1000, 0x10_1000),
            rw(0x3000, 0x1000, 0x10_3000),
            rw(0x9000, 0x1000, 0)
        ]
    );
    let refused: Vec<_> = wanted.refused().map(|(range, _)| range.start().0).collect();
    assert_eq!(refused, [0, 0x2000, 0x4000, 0xa000]);
    assert!(
        wanted
            .refused()
            .all(|(_, error)| error == HostError::Aperture)
    );
}

#[test]
fn run_in_the_interrupt_window_is_dropped_and_not_refused() {
    let all = limits(0x1000, &[IovaRange::ALL]);
    let wanted = Wanted::of(&[guest(0xfee0_0000, 0, 0x10_0000)], &all, reach(&ram()));
    assert_eq!((wanted.runs.len(), wanted.refused().count()), (0, 0));
    assert_eq!(wanted.dropped().interrupt_window, 1);
}

#[test]
fn run_is_trimmed_to_the_hosts_pages_and_the_rest_is_refused() {
    let coarse = limits(0x1_0000, &[IovaRange::ALL]);
    let wanted = Wanted::of(
        &[guest(0x1_f000, 0x2_f000, 0x1_3000)],
        &coarse,
        reach(&ram()),
    );
    assert_eq!(wanted.runs, [rw(0x2_0000, 0x1_0000, 0x3_0000)]);
    assert_eq!(
        wanted.refused().collect::<Vec<_>>(),
        [
            (range(0x1_f000, 0x1000), HostError::Granularity),
            (range(0x3_0000, 0x2000), HostError::Granularity)
        ]
    );
    let odd = Wanted::of(
        &[guest(0x2_0000, 0x3_1000, 0x1_0000)],
        &coarse,
        reach(&ram()),
    );
    assert_eq!((odd.runs.len(), odd.refused().count()), (0, 1));
}

#[test]
fn execute_only_is_nothing_to_the_host() {
    let all = limits(0x1000, &[IovaRange::ALL]);
    let perms = Perms {
        execute: true,
        ..Perms::default()
    };
    let run = GuestRun {
        perms,
        ..guest(0, 0, 0x1000)
    };
    assert_eq!(Wanted::of(&[run], &all, reach(&ram())), Wanted::default());
}

#[test]
fn identity_within_a_range_is_clipped_to_it() {
    let usable = limits(0x1000, &[range(0, 0xc0_0000)]);
    let wanted = Wanted::identity(&usable, &ram()).within(range(0x7f_0000, 0x50_0000));
    assert_eq!(
        wanted.runs,
        [
            rw(0x7f_0000, 0x1_0000, 0x7f_0000),
            rw(0x80_0000, 0x40_0000, 0x80_0000)
        ]
    );
    assert_eq!(
        wanted.refused().collect::<Vec<_>>(),
        [(range(0xc0_0000, 0xf_0000), HostError::Aperture)]
    );
}

#[test]
fn table_that_others_stand_on_wants_nothing_for_reading_only() {
    use iommu::follow::GuestTables;
    use iommu::translate::paging::Stages;
    use iommu::walk::second_stage::SecondStage;
    let tables = GuestTables {
        stages: Stages::Second(SecondStage::plain(GuestAddress(0), 4)),
        width: 48,
        rules: iommu::translate::rights::Rules::new(),
        privileged: false,
    };
    let read_only = |run: GuestRun| GuestRun {
        perms: Perms {
            write: false,
            ..Perms::READ_WRITE
        },
        ..run
    };
    let pages = [
        guest(0, 0x1000, 0x1000),
        read_only(guest(0x1000, 0x2000, 0x2000)),
        guest(0x3000, 0x4000, 0x1000),
    ];
    let (all, ram) = (limits(0x1000, &[IovaRange::ALL]), ram());
    let beside = Wanted::of_copy(&Content::Guest(tables), &pages, &all, reach(&ram));
    assert_eq!((beside.runs.len(), beside.left.len()), (3, 0));
    let beneath = Wanted::of_copy(&Content::Parent(tables), &pages, &all, reach(&ram));
    assert_eq!(
        beneath.runs,
        [rw(0, 0x1000, 0x1000), rw(0x3000, 0x1000, 0x4000)]
    );
    let refused: Vec<_> = beneath.refused().collect();
    assert_eq!(refused, [(range(0x1000, 0x2000), HostError::ReadOnly)]);
}
