// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What Linux never does with PASIDs of a device that is passed through twice, done by the bare-metal payload in L3: what L2's
//! kernel is asked to do about it is counted.

mod arrival;
mod domains;
mod global;
mod rebind;
mod replay;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::scenario::Scenario;
use crate::three_levels::payload::{Hold, Outcome, PayloadInside};

pub const REBIND: Scenario = rebind::SCENARIO;
pub const GLOBAL: Scenario = global::SCENARIO;
pub const DOMAINS: Scenario = domains::SCENARIO;
pub const ARRIVAL: Scenario = arrival::SCENARIO;
pub const REPLAY: Scenario = replay::SCENARIO;

const LIMIT: Duration = Duration::from_secs(300);

fn inside(words: &'static str) -> PayloadInside<'static> {
    PayloadInside {
        iommu: "mode=scalable",
        arrives: false,
        words,
    }
}

/// Host calls from one hold to another, by what they are: all but the invalidations of nested tables.
#[derive(Debug, PartialEq, Eq)]
struct Calls {
    attach: u64,
    detach: u64,
    create: u64,
    destroy: u64,
    map: u64,
    unmap: u64,
    /// How many of the attachments took the place of another one.
    replaced: u64,
}

const NONE: Calls = Calls {
    attach: 0,
    detach: 0,
    create: 0,
    destroy: 0,
    map: 0,
    unmap: 0,
    replaced: 0,
};

impl Calls {
    fn since_start(hold: &Hold) -> Result<Self> {
        Self::counted(|name| hold.count(name))
    }

    fn between(before: &Hold, after: &Hold) -> Result<Self> {
        Self::counted(|name| Ok(after.count(name)? - before.count(name)?))
    }

    fn counted(count: impl Fn(&str) -> Result<u64>) -> Result<Self> {
        Ok(Self {
            attach: count("/calls/attach")?,
            detach: count("/calls/detach")?,
            create: count("/calls/create")?,
            destroy: count("/calls/destroy")?,
            map: count("/calls/map")?,
            unmap: count("/calls/unmap")? + count("/calls/cut")? + count("/calls/unmap_all")?,
            replaced: count("/replaced")?,
        })
    }
}

/// Fails unless the host was asked to do exactly this from hold to hold.
fn expect(outcome: &Outcome, [before, after]: [&str; 2], expected: &Calls) -> Result<()> {
    let calls = Calls::between(outcome.at(before)?, outcome.at(after)?)?;
    println!("{before} to {after}: {calls:?}");
    if calls != *expected {
        bail!("from {before} to {after} the host was asked for {calls:?}, not for {expected:?}");
    }
    Ok(())
}

/// Fails unless L2's kernel had exactly these PASIDs bound.
fn expect_bound(outcome: &Outcome, hold: &str, expected: &[u32]) -> Result<()> {
    let bound = &outcome.at(hold)?.bound;
    if bound != expected {
        bail!("at {hold} L2's kernel had not {expected:?} bound, but {bound:?}");
    }
    Ok(())
}
