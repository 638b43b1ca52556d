// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a source id and a PASID to its entry: each reason for which a request stops on the way.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables, missing, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::Via;
use crate::mem::{self, read64, write64};
use crate::vtd::paging::Paging;
use crate::vtd::scalable::{Entry, FPD, PASIDE};
use crate::vtd::unit::{SCALABLE, TE};

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_pasids() || machine.dmatest().pasid_bits() == 0 {
        checks.skip("requests with PASID", "not offered");
        return;
    }
    changes(machine, COMMON, checks);
    if unit.has_first_stage() {
        changes(machine, FIRST_STAGE, checks);
    }
    if unit.has_second_stage() {
        changes(machine, SECOND_STAGE, checks);
    }
    not_offered(machine, checks);
    unreadable_root(machine, checks);
    quiet(machine, checks);
}

/// Which table's entry to change.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Context,
    Directory,
    Pasid,
}

/// Name, reason, whose word, which word, and what to make of it.
type Change = (&'static str, u8, Place, u64, fn(u64) -> u64);

const COMMON: &[Change] = &[
    (
        "root entry half not present: 0x39",
        0x39,
        Place::Root,
        0,
        |_| 0,
    ),
    ("root entry bit 1: 0x3A", 0x3A, Place::Root, 0, |word| {
        word | 1 << 1
    }),
    ("root entry bit 11: 0x3A", 0x3A, Place::Root, 0, |word| {
        word | 1 << 11
    }),
    (
        "root entry address bit 51: 0x3A",
        0x3A,
        Place::Root,
        0,
        |word| word | 1 << 51,
    ),
    (
        "context table unreadable: 0x40",
        0x40,
        Place::Root,
        0,
        |_| mem::HOLE | 1,
    ),
    (
        "context entry not present: 0x41",
        0x41,
        Place::Context,
        0,
        |_| 0,
    ),
    (
        "context entry bit 6: 0x42",
        0x42,
        Place::Context,
        0,
        |word| word | 1 << 6,
    ),
    (
        "context entry bit 8: 0x42",
        0x42,
        Place::Context,
        0,
        |word| word | 1 << 8,
    ),
    (
        "context entry address bit 51: 0x42",
        0x42,
        Place::Context,
        0,
        |word| word | 1 << 51,
    ),
    (
        "context entry bit 85: 0x42",
        0x42,
        Place::Context,
        1,
        |word| word | 1 << 21,
    ),
    (
        "context entry bit 128: 0x42",
        0x42,
        Place::Context,
        2,
        |_| 1,
    ),
    (
        "context entry bit 255: 0x42",
        0x42,
        Place::Context,
        3,
        |_| 1 << 63,
    ),
    (
        "PASIDs not enabled: 0x45",
        0x45,
        Place::Context,
        0,
        |word| word & !PASIDE,
    ),
    (
        "PASID directory unreadable: 0x50",
        0x50,
        Place::Context,
        0,
        |word| word & 0xFFF | mem::HOLE,
    ),
    (
        "directory entry not present: 0x51",
        0x51,
        Place::Directory,
        0,
        |_| 0,
    ),
    (
        "directory entry bit 2: 0x52",
        0x52,
        Place::Directory,
        0,
        |word| word | 1 << 2,
    ),
    (
        "directory entry bit 11: 0x52",
        0x52,
        Place::Directory,
        0,
        |word| word | 1 << 11,
    ),
    (
        "directory entry address bit 51: 0x52",
        0x52,
        Place::Directory,
        0,
        |word| word | 1 << 51,
    ),
    (
        "PASID table unreadable: 0x58",
        0x58,
        Place::Directory,
        0,
        |_| mem::HOLE | 1,
    ),
    (
        "PASID entry not present: 0x59",
        0x59,
        Place::Pasid,
        0,
        |word| word & !1,
    ),
    ("PASID entry bit 10: 0x5A", 0x5A, Place::Pasid, 0, |word| {
        word | 1 << 10
    }),
    ("PASID entry bit 11: 0x5A", 0x5A, Place::Pasid, 0, |word| {
        word | 1 << 11
    }),
    ("PASID entry bit 80: 0x5A", 0x5A, Place::Pasid, 1, |word| {
        word | 1 << 16
    }),
    ("PASID entry bit 86: 0x5A", 0x5A, Place::Pasid, 1, |word| {
        word | 1 << 22
    }),
    ("PASID entry bit 136: 0x5A", 0x5A, Place::Pasid, 2, |word| {
        word | 1 << 8
    }),
    ("PASID entry bit 139: 0x5A", 0x5A, Place::Pasid, 2, |word| {
        word | 1 << 11
    }),
    ("PASID entry bit 192: 0x5A", 0x5A, Place::Pasid, 3, |_| 1),
    ("PASID entry bit 511: 0x5A", 0x5A, Place::Pasid, 7, |_| {
        1 << 63
    }),
    ("translation type 0: 0x5B", 0x5B, Place::Pasid, 0, |word| {
        word & !(7 << 6)
    }),
    ("translation type 5: 0x5B", 0x5B, Place::Pasid, 0, |word| {
        word & !(7 << 6) | 5 << 6
    }),
    ("translation type 7: 0x5B", 0x5B, Place::Pasid, 0, |word| {
        word | 7 << 6
    }),
];

const FIRST_STAGE: &[Change] = &[
    (
        "first stage: paging mode 2: 0x5B",
        0x5B,
        Place::Pasid,
        2,
        |word| word | 2 << 2,
    ),
    (
        "first stage: paging mode 3: 0x5B",
        0x5B,
        Place::Pasid,
        2,
        |word| word | 3 << 2,
    ),
    (
        "first stage: pointer bit 51: 0x5A",
        0x5A,
        Place::Pasid,
        2,
        |word| word | 1 << 51,
    ),
];

const SECOND_STAGE: &[Change] = &[
    (
        "second stage: width 0: 0x5B",
        0x5B,
        Place::Pasid,
        0,
        |word| word & !(7 << 2),
    ),
    (
        "second stage: width 4: 0x5B",
        0x5B,
        Place::Pasid,
        0,
        |word| word & !(7 << 2) | 4 << 2,
    ),
    (
        "second stage: width 7: 0x5B",
        0x5B,
        Place::Pasid,
        0,
        |word| word | 7 << 2,
    ),
    (
        "second stage: pointer bit 51: 0x5A",
        0x5A,
        Place::Pasid,
        0,
        |word| word | 1 << 51,
    ),
];

fn address(bench: &Bench, place: Place) -> u64 {
    match place {
        Place::Root => bench.tables.root_word(bench.source()),
        Place::Context => bench.tables.context(bench.source()),
        Place::Directory => bench.pasids.directory_entry(PASID),
        Place::Pasid => bench.pasids.entry(PASID),
    }
}

fn changes(machine: &Machine, changes: &[Change], checks: Checks) {
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let paging = match changes.first() {
        Some(change) if change.0.starts_with("second") => {
            bench.bind_second(if unit.has_levels(3) { 3 } else { 4 })
        }
        _ => {
            let paging = any_tables(unit);
            bench.bind(any_entry(unit, &paging, DOMAIN));
            paging
        }
    };
    paging.map(IOVA, page_with(0x1111), paging.open());
    for &(name, reason, place, word, change) in changes {
        let at = address(&bench, place) + word * 8;
        let before = read64(at);
        write64(at, change(before));
        bench.forget();
        bench.blocks_read(checks, name, VIA, IOVA, reason);
        write64(at, before);
        bench.forget();
    }
    checks.equal(
        "all put back: translated",
        0x1111_u64,
        bench.load(VIA, IOVA),
    );
}

/// Translation types and fields of what the unit does not offer.
fn not_offered(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let (first, second) = (Paging::first(4), Paging::second(4));
    for (name, offered, entry, reason) in [
        (
            "first stage that is not offered: 0x5B",
            unit.has_first_stage(),
            Entry::first(&first, DOMAIN),
            0x5B,
        ),
        (
            "second stage that is not offered: 0x5B",
            unit.has_second_stage(),
            Entry::second(&second, DOMAIN),
            0x5B,
        ),
        (
            "nesting that is not offered: 0x5B",
            unit.has_nesting(),
            Entry::nested(&first, &second, DOMAIN),
            0x5B,
        ),
        (
            "five first-stage levels that are not offered: 0x5B",
            unit.has_five_level_first_stage(),
            Entry::first(&Paging::first(5), DOMAIN),
            0x5B,
        ),
        (
            "five second-stage levels that are not offered: 0x5B",
            unit.has_levels(5),
            Entry::second(&Paging::second(5), DOMAIN),
            0x5B,
        ),
        (
            "dirty bits that are not offered: 0x5A",
            unit.has_second_stage_dirty(),
            any_entry(unit, &any_tables(unit), DOMAIN).with(1 << 9, 0, 0),
            0x5A,
        ),
        (
            "execution that is not offered: 0x5A",
            unit.has_execute(),
            any_entry(unit, &any_tables(unit), DOMAIN).with(0, 0, 1 << 1),
            0x5A,
        ),
        (
            "supervisors that are not offered: 0x5A",
            unit.has_supervisor(),
            any_entry(unit, &any_tables(unit), DOMAIN).with(0, 0, 1 << 0),
            0x5A,
        ),
    ] {
        if !offered {
            bench.bind(entry);
            bench.blocks_read(checks, name, VIA, IOVA, reason);
        }
    }
}

fn unreadable_root(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    bench.unit.clear(TE);
    bench.unit.set_root(mem::HOLE | SCALABLE);
    bench.forget();
    bench.unit.set(TE);
    bench.blocks_read(checks, "root table unreadable: 0x38", VIA, IOVA, 0x38);
    bench.blocks_read(
        checks,
        "root table unreadable, without PASID: 0x38",
        Via::PLAIN,
        IOVA,
        0x38,
    );
}

/// FPD at each of the three places.
fn quiet(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let unit = bench.unit;
    let paging = any_tables(unit);
    bench.bind(any_entry(unit, &paging, DOMAIN));
    bench.blocks_read(checks, "no FPD: recorded", VIA, IOVA, missing(unit));
    for (name, place) in [
        ("FPD in the context entry: no record", Place::Context),
        ("FPD in the directory entry: no record", Place::Directory),
        ("FPD in the PASID entry: no record", Place::Pasid),
    ] {
        let at = address(&bench, place);
        let before = read64(at);
        write64(at, before | FPD);
        bench.forget();
        bench.blocks_silently(checks, name, VIA, IOVA);
        write64(at, before);
        bench.forget();
    }
    for (name, place) in [
        (
            "FPD in a context entry that is not present: no record",
            Place::Context,
        ),
        (
            "FPD in a directory entry that is not present: no record",
            Place::Directory,
        ),
        (
            "FPD in a PASID entry that is not present: no record",
            Place::Pasid,
        ),
    ] {
        let at = address(&bench, place);
        let before = read64(at);
        write64(at, FPD);
        bench.forget();
        bench.blocks_silently(checks, name, VIA, IOVA);
        write64(at, before);
        bench.forget();
    }
    let at = address(&bench, Place::Context);
    write64(at, read64(at) | FPD);
    let root = address(&bench, Place::Root);
    let before = read64(root);
    write64(root, 0);
    bench.forget();
    bench.blocks_read(checks, "a missing root entry knows no FPD", VIA, IOVA, 0x39);
    write64(root, before);
}
