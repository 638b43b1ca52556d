// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accessed and dirty bits of both stages: setting those of the first is a write to memory that the second one shows.

use super::{BIAS, GPA, Nested, READ_ONLY_BIAS};
use crate::check::Checks;
use crate::checks::scalable::bench::{IOVA, VIA, page_with};
use crate::dmatest::Operation;
use crate::mem::{read64, write64};
use crate::vtd::paging::*;
use crate::vtd::scalable::{Entry, SSADE};

pub fn run(nested: &mut Nested, checks: Checks) {
    let page = page_with(0x1111);
    let outer = nested.first.map(IOVA, GPA, USER_PAGE);
    let inner = nested.second.map(GPA, page, RW);
    nested.bind(0);
    nested.bench.store(VIA, IOVA, 1);
    checks.equal(
        "the first stage's leaf has A and D",
        ACCESSED | DIRTY,
        read64(outer) & (ACCESSED | DIRTY),
    );
    checks.equal(
        "the second stage's has not, without SSADE",
        page | RW,
        read64(inner),
    );

    // Tables that the second stage shows read-only can't get A and D.
    let clean = read64(outer) & !(ACCESSED | DIRTY);
    write64(outer, clean);
    let pointer = nested.first.top + READ_ONLY_BIAS;
    let Entry([low, middle, high]) = nested.entry();
    let read_only = Entry([low, middle, high & 0xFFF | pointer]);
    nested.bench.bind(read_only);
    let top = nested.first.entry(IOVA, nested.first.levels);
    write64(top, read64(top) & !ACCESSED);
    nested.bench.forget();
    nested.bench.blocks_read(
        checks,
        "A to be set in a read-only top table: 0x77",
        VIA,
        IOVA,
        0x77,
    );
    write64(top, read64(top) | ACCESSED);
    nested.bench.forget();
    nested.bench.allows(
        checks,
        "A set already in a read-only top table",
        VIA,
        Operation::Load,
        IOVA,
    );
    if !nested.bench.unit.has_second_stage_dirty() {
        checks.skip("dirty bits of the second stage", "not offered");
        nested.bind(0);
        return;
    }
    second_stage_bits(nested, outer, inner, checks);
}

fn second_stage_bits(nested: &mut Nested, outer: u64, inner: u64, checks: Checks) {
    const BITS: u64 = SECOND_ACCESSED | SECOND_DIRTY;
    let clean = |at: u64, bits: u64| write64(at, read64(at) & !bits);
    clean(outer, DIRTY);
    nested.bind(SSADE);
    nested.bench.load(VIA, IOVA);
    checks.equal(
        "SSADE: a read sets A, not D, of the data's leaf",
        SECOND_ACCESSED,
        read64(inner) & BITS,
    );
    let holder = nested.second.entry(outer + BIAS, 2);
    clean(holder, BITS);
    clean(outer, ACCESSED | DIRTY);
    nested.bench.forget();
    nested.bench.load(VIA, IOVA);
    checks.equal(
        "SSADE: A set in the first stage is a write to its table",
        BITS,
        read64(holder) & BITS,
    );
    nested.bench.store(VIA, IOVA, 2);
    checks.equal(
        "SSADE: a write sets D of the data's leaf",
        BITS,
        read64(inner) & BITS,
    );
    nested.bind(0);
}
