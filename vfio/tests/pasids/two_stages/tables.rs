// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Second-stage tables of four levels in raw words: eight pages each, in one table of the lowest level.

use crate::guest::{Guest, RAM};

pub const PAGE: u64 = 0x1000;

/// The first of the pages. Its indices differ at every level.
const START: u64 = 0x80_c070_5000;

/// Top tables, and the tables below them.
const ROOTS: u64 = 0x3a_0000;
const BELOW: u64 = 0x3b_0000;

/// Descriptors of the IOTLB: global, of a domain, and of one page of a domain.
pub const IOTLB_GLOBAL: (u64, u64) = (0x12, 0);

pub const fn iotlb_domain(domain: u64) -> (u64, u64) {
    (0x22 | domain << 16, 0)
}

pub const fn iotlb_page(domain: u64, page: u64) -> (u64, u64) {
    (0x32 | domain << 16, START + page * PAGE)
}

/// The top table of the tables called `number`.
pub const fn root(number: u64) -> u64 {
    ROOTS + number * PAGE
}

/// The table at `level`, from 3 down to 1.
const fn table(number: u64, level: u64) -> u64 {
    BELOW + number * 0x4000 + level * PAGE
}

const fn index(level: u64) -> u64 {
    START >> (12 + 9 * (level - 1)) & 511
}

/// Points a page at this address, for writing or not, or takes it away.
pub fn map(guest: &Guest, number: u64, page: u64, to: Option<(u64, bool)>) {
    let mut above = root(number);
    for level in (1..=3).rev() {
        let below = table(number, level);
        guest.set(above + index(level + 1) * 8, below | 3);
        above = below;
    }
    let entry = to.map_or(0, |(gpa, write)| gpa | if write { 3 } else { 1 });
    guest.set(above + (index(1) + page) * 8, entry);
}

/// What the pages reach, word by word: with `beneath` only those that may be written.
pub fn naive(guest: &Guest, number: u64, beneath: bool) -> Vec<(u64, u64, bool)> {
    let mut above = root(number);
    for level in (1..=3).rev() {
        let entry = guest.word(above + index(level + 1) * 8);
        if entry & 3 != 3 {
            return Vec::new();
        }
        above = entry & !0xfff;
    }
    let page = |page: u64| {
        let entry = guest.word(above + (index(1) + page) * 8);
        let (gpa, write) = (entry & !0xfff, entry & 2 != 0);
        let there = entry & 1 != 0 && gpa < RAM && (write || !beneath);
        there.then_some((START + page * PAGE, gpa, write))
    };
    (0..8).filter_map(page).collect()
}
