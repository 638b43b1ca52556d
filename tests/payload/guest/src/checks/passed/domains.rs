// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Domain-selective invalidations of PASID entries: entries of other domains stay as they were last seen, whatever they say now.

use core::array;

use super::spaces::{Leads, Space, entry, lead};
use crate::check::{self, Checks};
use crate::checks::Machine;
use crate::checks::scalable::bench::Bench;
use crate::vtd::queue::{IOTLB_DOMAIN, iotlb};
use crate::vtd::wide_queue::of_domain;

const DOMAINS: [u16; 3] = [0x400, 0x401, 0x402];
/// One that no entry says.
const NOBODYS: u16 = 0x4FF;
/// PASIDs of a domain. Of each, the first stays, the second moves, the third goes, the last comes.
const EACH: usize = 4;
const COUNT: usize = DOMAINS.len() * EACH;

/// Where all of them lead.
type All = [Leads; COUNT];

pub fn run(machine: &Machine, checks: Checks) {
    let mut bench = Bench::start(machine);
    let mut leads = bind(&mut bench, checks);
    change(&mut bench, checks, &mut leads);
    another_domain(&mut bench, checks, &mut leads);
    check::hold("another");
}

/// Everything is written before the first domain is named.
fn bind(bench: &mut Bench, checks: Checks) -> All {
    let unit = bench.unit;
    let leads: All = array::from_fn(|number| {
        let space = || Space::first(unit, domain(number));
        (pasid(number), (number % EACH != 3).then(space))
    });
    write(bench, &leads);
    check::hold("empty");
    let names = ["bound-1", "bound-2", "bound-3"];
    for (domain, name) in DOMAINS.into_iter().zip(names) {
        checks.holds("bound, domain by domain: done", invalidate(bench, domain));
        check::hold(name);
    }
    lead(bench, checks, "bound: each to its own table", &leads);
    leads
}

/// Entries of all domains change, then one domain after the other is named.
fn change(bench: &mut Bench, checks: Checks, leads: &mut All) {
    let unit = bench.unit;
    let wanted: All = array::from_fn(|number| {
        let (pasid, before) = leads[number];
        let space = match number % EACH {
            1 | 3 => Some(Space::first(unit, domain(number))),
            2 => None,
            _ => before,
        };
        (pasid, space)
    });
    write(bench, &wanted);
    let name = "all domains changed: nothing before one is named";
    lead(bench, checks, name, leads);
    let name = "a domain that no entry says: each as before";
    checks.holds(name, invalidate(bench, NOBODYS));
    lead(bench, checks, name, leads);
    check::hold("nobodys");
    let names = ["changed-1", "changed-2", "changed-3"];
    for (index, name) in names.into_iter().enumerate() {
        let done = invalidate(bench, DOMAINS[index]);
        checks.holds("one domain named: done", done);
        let ours = index * EACH..(index + 1) * EACH;
        leads[ours.clone()].copy_from_slice(&wanted[ours]);
        let others = "one domain named: its entries and no others";
        lead(bench, checks, others, leads);
        check::hold(name);
    }
}

/// An entry that goes from one domain to another is named by the old one.
fn another_domain(bench: &mut Bench, checks: Checks, leads: &mut All) {
    let [first, .., last] = DOMAINS;
    let before = *leads;
    leads[0].1 = Some(Space::first(bench.unit, last));
    write(bench, &leads[..1]);
    checks.holds("into another domain: done", invalidate(bench, DOMAINS[1]));
    lead(
        bench,
        checks,
        "into another domain: a third is not meant",
        &before,
    );
    checks.holds("into another domain: done", invalidate(bench, first));
    lead(
        bench,
        checks,
        "into another domain: named by the one it was in",
        leads,
    );
}

fn pasid(number: usize) -> u32 {
    // Domains are mixed within tables.
    0x30 + u32::try_from((number % EACH) * 67 + number / EACH).unwrap_or(0)
}

fn domain(number: usize) -> u16 {
    DOMAINS[number / EACH]
}

fn write(bench: &Bench, leads: &[Leads]) {
    for &(pasid, space) in leads {
        bench.pasids.set(pasid, entry(space));
    }
}

/// The entries of a domain, and what was cached through them.
fn invalidate(bench: &mut Bench, domain: u16) -> bool {
    bench.queue.push(of_domain(domain), 0);
    bench.queue.push(iotlb(IOTLB_DOMAIN, domain), 0);
    bench.queue.flush_to_host()
}
