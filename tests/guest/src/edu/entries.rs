// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `edu entries LIMIT`: more mappings than the host can hold.
//!
//! First sixteen times LIMIT pages, each mapped by itself and all adjacent, so that a host that counts mappings can hold them
//! as few. Then twice LIMIT pages none of which has a neighbour: these cannot fit, and some time later they can. Only what is
//! mapped at the host is reached.

use anyhow::{Result, bail};

use super::bench::{BASE, Bench};
use crate::memory::PAGE_BYTES;

/// Runs it.
pub fn run(limit: u64) -> Result<()> {
    let bench = Bench::open(16 * limit)?;
    adjacent(&bench, 16 * limit)?;
    apart(&bench, 2 * limit)
}

fn adjacent(bench: &Bench, pages: u64) -> Result<()> {
    let place = |page: u64| (page, BASE + page * PAGE_BYTES);
    for page in 0..pages {
        bench.map(page, place(page).1)?;
    }
    println!("ENTRIES {pages} adjacent pages are mapped");
    for (from, to) in [(0, pages - 1), (pages / 2, 1), (pages - 2, pages / 3)] {
        if !bench.moves(place(from), place(to))? {
            bail!("the device did not bring page {from} to page {to}");
        }
    }
    bench.unmap(BASE, pages * PAGE_BYTES)?;
    println!("ENTRIES adjacent pages were all reached");
    Ok(())
}

/// Every second page, at every second address.
fn apart(bench: &Bench, pages: u64) -> Result<()> {
    let place = |number: u64| (2 * number, BASE + 2 * number * PAGE_BYTES);
    for number in 0..pages {
        bench.map(place(number).0, place(number).1)?;
    }
    let last = pages - 1;
    let brought = |to: u64| bench.moves(place(0), place(to));
    println!(
        "ENTRIES of {pages} pages apart the second is reached: {}",
        brought(1)?
    );
    println!("ENTRIES the last is reached: {}", brought(last)?);
    // All but the first two and the last.
    for number in 2..last {
        bench.unmap(place(number).1, PAGE_BYTES)?;
    }
    println!(
        "ENTRIES with few left the last is reached: {}",
        brought(last)?
    );
    bench.unmap(BASE, 2 * pages * PAGE_BYTES)
}
