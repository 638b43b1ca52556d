// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The long versions of scenarios (`make soak`), and the seeds of those that do something at random.
//!
//! `LAB_SOAK=1` makes such a scenario do ten times as much, in ten times the time. `LAB_SEED=N` has it take a
//! seed that it printed once again: each processor does the same, though not at the same time as the others.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many times as much.
const FACTOR: u32 = 10;

/// Whether the long versions are wanted.
fn is_wanted() -> bool {
    env::var_os("LAB_SOAK").is_some_and(|value| value == "1")
}

/// So many of something, or of the long version.
pub fn times(number: u64) -> u64 {
    if is_wanted() {
        number * u64::from(FACTOR)
    } else {
        number
    }
}

/// A time limit, or that of the long version.
pub fn limit(limit: Duration) -> Duration {
    if is_wanted() { limit * FACTOR } else { limit }
}

/// The seed that was given, or any.
pub fn seed() -> u64 {
    let given = env::var("LAB_SEED").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()))
    })
}
