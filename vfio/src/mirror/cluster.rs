// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Ranges that are better planned as one: when nothing is mapped between two of them, one call may remove from both; when
//! one mapping reaches from one into the other, it goes or stays whole.

use crate::ledger::Ledger;
use crate::run::Run;
use iommu::address::{Iova, IovaRange};

/// A range and the runs wanted in it, ascending.
pub type Part = (IovaRange, Vec<Run>);

/// Joins those of `parts`, which ascend and do not touch, between which `ledger` has at most one run. What lies between is
/// wanted as it is. `joins` tells whether two runs that continue each other may be one mapping.
pub fn clusters(
    ledger: &Ledger,
    parts: Vec<Part>,
    joins: impl Fn(&Run, &Run) -> bool,
) -> Vec<Part> {
    let mut clusters: Vec<Part> = Vec::with_capacity(parts.len());
    for (range, wanted) in parts {
        if let Some((whole, all)) = clusters.last_mut()
            && let Some(between) = between(whole.last(), range.start())
            && let Some(joined) = IovaRange::new(whole.start(), range.last())
        {
            let mut there = ledger.overlapping(between);
            let one = there.next();
            if there.next().is_none() {
                let kept = one.and_then(|run| run.clip(between));
                for run in kept.into_iter().chain(wanted) {
                    push(all, run, &joins);
                }
                *whole = joined;
                continue;
            }
        }
        clusters.push((range, wanted));
    }
    clusters
}

fn between(last: Iova, start: Iova) -> Option<IovaRange> {
    IovaRange::new(last.checked_add(1)?, Iova(start.0.checked_sub(1)?))
}

fn push(runs: &mut Vec<Run>, run: Run, joins: &impl Fn(&Run, &Run) -> bool) {
    match runs.last_mut() {
        Some(last) if last.continues_in(&run) && joins(last, &run) => *last = last.joined(&run),
        _ => runs.push(run),
    }
}
