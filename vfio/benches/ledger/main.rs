// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the mirror remembers of what a host has: bytes of memory for each run, when runs came in an order that fills nodes badly.

#[path = "../../tests/ledger_memory/counting.rs"]
mod counting;

use benchmark::row::{Goal, Row};
use counting::{bytes_a_run, page};

/// A prime, so that its multiples modulo another one come by every number.
const STEP: u64 = 7919;
const RUNS: u64 = 100_003;

fn main() {
    let scattered = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            let run = page(number * STEP % RUNS);
            ledger.insert(&run).expect("each page comes once");
        }
    });
    let descending = bytes_a_run(|ledger| {
        for number in (0..RUNS).rev() {
            ledger.insert(&page(number)).expect("each page comes once");
        }
    });
    for (order, bytes) in [("at random", scattered), ("descending", descending)] {
        let figure = u32::try_from(bytes).map_or(f64::NAN, f64::from);
        let what = format!("bytes of the ledger a run (runs that came {order})");
        Row::print(&what, Goal::AtMost(64.0), figure);
    }
}
