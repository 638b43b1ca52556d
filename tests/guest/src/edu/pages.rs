// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `edu pages COUNT`: maps one page after the other, and says after each which ones are reached; then takes them away again.
//!
//! Between two pages is one that is never mapped, so each is a mapping of its own at the host. What the guest has taken away
//! must never be reached, whatever happens at the host.

use anyhow::{Result, bail};

use super::bench::{BASE, Bench};
use crate::memory::PAGE_BYTES;

/// Runs it.
pub fn run(count: u64) -> Result<()> {
    let bench = Bench::open(2 * count + 1)?;
    // The first is where the device takes its data from.
    let place = |number: u64| (2 * number, BASE + 2 * number * PAGE_BYTES);
    let reached = |from: u64, to: u64| -> Result<String> {
        let all = (from..=to).map(|number| bench.moves(place(0), place(number)));
        let all: Result<Vec<bool>> = all.collect();
        let signs = all?.into_iter().map(|one| if one { '+' } else { '-' });
        Ok(signs.collect())
    };
    bench.map(place(0).0, place(0).1)?;
    for number in 1..=count {
        bench.map(place(number).0, place(number).1)?;
        println!("PAGES mapped {number}: {}", reached(1, number)?);
    }
    for number in 1..count {
        bench.unmap(place(number).1, PAGE_BYTES)?;
        for gone in 1..=number {
            if bench.moves(place(0), place(gone))? {
                bail!("page {gone} is reached after it was unmapped");
            }
        }
        println!("PAGES unmapped {number}: {}", reached(number + 1, count)?);
    }
    println!("PAGES done");
    Ok(())
}
