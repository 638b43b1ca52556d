// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest's invalidations of PASID entries cost, counted: from the descriptor to the calls of a fake host.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

#[path = "../tests/pasids/guest.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod guest;

use benchmark::measure::ratio;
use benchmark::row::{Goal, Row};
use guest::{A, CONTEXTS, DIRECTORY, Guest, PASID_CACHE_GLOBAL, SOURCES, first, pasid_cache_one};
use vfio::backend::fake::FakeOptions;

const TABLE: u64 = 0x30_0000;
/// Guests' first-stage tables, four of them.
const ROOTS: u64 = 0x38_0000;
const BOUND: u64 = 1000;
/// All that there are but for RID_PASID: a million.
const MOST: u64 = (1 << 20) - 1;
/// Bindings that are looked up again and again, evenly spread: so few that processors' caches keep them, however many there are.
const LOOKED_UP: u64 = 128;

fn main() {
    one_of_a_thousand();
    sparse();
    lookups();
}

fn one_of_a_thousand() {
    let mut guest = bound(BOUND);
    let all = "1,000 PASIDs of which 1 changed";
    for (what, descriptor, tables, pages) in [
        ("global invalidation", PASID_CACHE_GLOBAL, 16, 1),
        ("invalidation of the one", pasid_cache_one(1, 500), 0, 0),
    ] {
        let cost = change_one(&mut guest, descriptor);
        for (counted, goal, count) in [
            ("host calls", 1, cost.calls),
            ("PASID tables walked", tables, cost.tables),
            ("directory pages read", pages, cost.pages),
        ] {
            let what = format!("{counted}, {what}, {all}");
            Row::print(&what, Goal::Exactly(exact(goal)), exact(count));
        }
    }
}

fn sparse() {
    let guest = Guest::boot(FakeOptions::nesting());
    for (table, pasid) in [(0, 5), (1, 0x8_0000), (2, 0xf_ffff)] {
        guest.directory(pasid, TABLE + table * 0x1000);
        guest.entry(TABLE + table * 0x1000, pasid, first(ROOTS, 1));
    }
    guest.plug(A);
    let read = guest.unit.counters().follow.pasid_walks.tables;
    let what = "PASID tables read of a space of 2^20 with 3 PASIDs";
    Row::print(what, Goal::AtMost(3.0), exact(read));
}

/// Invalidations of single PASIDs, none of which changed: each is one look-up, and its entry is read.
fn lookups() {
    let (mut few, mut many) = (bound(BOUND), bound(MOST));
    let named = |bound: u64| -> Vec<(u64, u64)> {
        let pasids = (0..LOOKED_UP).map(|number| 1 + number * (bound / LOOKED_UP));
        pasids.map(|pasid| (pasid_cache_one(1, pasid), 0)).collect()
    };
    let (of_few, of_many) = (named(BOUND), named(MOST));
    let figure = ratio(|| many.submit(&of_many), || few.submit(&of_few));
    assert!(many.host.take_log().is_empty(), "nothing changed");
    let what = "look-up of a binding among 1,000,000 / among 1,000";
    Row::print(what, Goal::AtMost(1.5), figure);
}

/// A device with PASIDs 1 to `count` in a directory that is no larger than it has to be. Beyond the first 16 tables, all entries of it
/// name the last of them.
fn bound(count: u64) -> Guest {
    let guest = Guest::boot(FakeOptions::nesting());
    let tables = count / 64 + 1;
    for table in 0..tables {
        guest.directory(table * 64, TABLE + table.min(15) * 0x1000);
    }
    for pasid in 1..count.min(16 * 64 - 1) + 1 {
        let table = TABLE + pasid / 64 * 0x1000;
        guest.entry(table, pasid, first(ROOTS + pasid % 4 * 0x1000, 1));
    }
    // 2^(7 + n) entries.
    let size = tables.next_power_of_two().trailing_zeros().max(7) - 7;
    let context = DIRECTORY | u64::from(size) << 9 | 9;
    guest.set(CONTEXTS[0] + 32 * SOURCES[0].1, context);
    guest.plug_within(A, u32::MAX, u32::MAX);
    let _ = guest.host.take_log();
    guest
}

/// What an invalidation costs.
struct Cost {
    /// Calls of the host.
    calls: u64,
    /// PASID tables that were read.
    tables: u64,
    /// Pages of the directory that were read.
    pages: u64,
}

/// Moves PASID 500 to another table.
fn change_one(guest: &mut Guest, descriptor: u64) -> Cost {
    let at = TABLE + 500 / 64 * 0x1000;
    let now = guest.word(at + 500 % 64 * 64 + 16);
    guest.entry(at, 500, first(now ^ 0x1000, 1));
    let _ = guest.host.take_log();
    let before = guest.unit.counters().follow.pasid_walks;
    guest.submit(&[(descriptor, 0)]);
    let after = guest.unit.counters().follow.pasid_walks;
    Cost {
        calls: guest.host.take_log().len() as u64,
        tables: after.tables - before.tables,
        pages: after.directory_pages - before.directory_pages,
    }
}

fn exact(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}
