// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A ledger is small, whatever order runs come and go in.

mod counting;

use counting::{bytes_a_run, page};

const MOST_BYTES: usize = 64;

/// One test, because tests of one process run beside each other.
#[test]
fn run_costs_at_most_64_bytes_in_any_order() {
    const RUNS: u64 = 100_000;
    let ascending = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number)).unwrap();
        }
    });
    let descending = bytes_a_run(|ledger| {
        for number in (0..RUNS).rev() {
            ledger.insert(&page(number)).unwrap();
        }
    });
    let scattered = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number * 7919 % 100_003)).unwrap();
        }
    });
    let thinned = bytes_a_run(|ledger| {
        for number in 0..RUNS {
            ledger.insert(&page(number)).unwrap();
        }
        for number in (0..RUNS).filter(|number| number % 5 != 0) {
            ledger.remove(page(number).iova);
        }
    });
    for (order, bytes) in [
        ("ascending", ascending),
        ("descending", descending),
        ("scattered", scattered),
        ("thinned", thinned),
    ] {
        assert!(bytes <= MOST_BYTES, "{order}: {bytes} bytes a run");
        assert!(bytes >= 24, "{order}: {bytes} bytes a run cannot be");
    }
}
