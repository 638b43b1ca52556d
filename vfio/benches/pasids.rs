// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest's invalidations of PASID entries cost, counted: from the descriptor to the calls of a fake host.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

#[path = "../tests/pasids/guest.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod guest;

use benchmark::row::{Goal, Row};
use guest::{A, Guest, PASID_CACHE_GLOBAL, first, pasid_cache_one};
use vfio::backend::fake::FakeOptions;

const TABLE: u64 = 0x30_0000;
/// Guests' first-stage tables, four of them.
const ROOTS: u64 = 0x38_0000;
const BOUND: u64 = 1000;

fn main() {
    let mut guest = thousand();
    let tables = 16.0;
    for (what, descriptor) in [
        ("global invalidation", PASID_CACHE_GLOBAL),
        ("invalidation of the one", pasid_cache_one(1, 500)),
    ] {
        let (calls, read) = change_one(&mut guest, descriptor);
        let all = "1,000 PASIDs of which 1 changed";
        Row::print(
            &format!("host calls, {what}, {all}"),
            Goal::Exactly(1.0),
            calls,
        );
        let populated = if descriptor == PASID_CACHE_GLOBAL {
            tables
        } else {
            0.0
        };
        let what = format!("PASID tables walked, {what}, {all}");
        Row::print(&what, Goal::Exactly(populated), read);
    }
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

/// A device with 1,000 PASIDs in 16 tables.
fn thousand() -> Guest {
    let guest = Guest::boot(FakeOptions::nesting());
    for table in 0..16 {
        guest.directory(table * 64, TABLE + table * 0x1000);
    }
    for pasid in 1..=BOUND {
        let table = TABLE + pasid / 64 * 0x1000;
        guest.entry(table, pasid, first(ROOTS + pasid % 4 * 0x1000, 1));
    }
    guest.plug(A);
    guest
}

/// Moves PASID 500 to another table; how many calls of the host that takes, and how many PASID tables are read.
fn change_one(guest: &mut Guest, descriptor: u64) -> (f64, f64) {
    let tables = |guest: &Guest| guest.unit.counters().follow.pasid_walks.tables;
    let at = TABLE + 500 / 64 * 0x1000;
    let now = guest.word(at + 500 % 64 * 64 + 16);
    guest.entry(at, 500, first(now ^ 0x1000, 1));
    let _ = guest.host.take_log();
    let before = tables(guest);
    guest.submit(&[(descriptor, 0)]);
    let calls = guest.host.take_log().len() as u64;
    (exact(calls), exact(tables(guest) - before))
}

fn exact(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}
