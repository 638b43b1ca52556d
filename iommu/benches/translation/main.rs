// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a translation costs, against one volatile read of 8 bytes of guest memory through vm-memory.
//!
//! A hit finds its page among as many as a busy queue uses. A miss finds context and PASID entry in their caches, reads the
//! four levels, and keeps the page in place of another. Both are checked against the translator's counters.

mod tables;

use benchmark::measure::{ratio, scaling};
use benchmark::row::{Goal, Row};
use iommu::memory::Ram;
use iommu::translator::Translator;
use std::hint::black_box;
use std::sync::Arc;
use tables::{Kind, LEAVES, PAGES};
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

/// Translations or reads of one slice.
const BATCH: u64 = 1024;
/// Pages that hits go to: those of a busy queue.
const BUSY: u64 = 256;

fn main() {
    for kind in Kind::ALL {
        let ram = tables::ram();
        let translator = tables::translator(&ram, kind);
        let what = format!("cached translation ({}) / guest-memory read", kind.name());
        Row::print(&what, Goal::AtMost(3.0), hit(&translator, &ram));
    }
    for kind in Kind::ALL {
        let ram = tables::ram();
        let translator = tables::translator(&ram, kind);
        let what = format!("four-level miss ({}) / guest-memory read", kind.name());
        Row::print(&what, Goal::AtMost(12.0), miss(&translator, &ram));
    }
    for kind in Kind::ALL {
        let ram = tables::ram();
        let translator = tables::translator(&ram, kind);
        let what = format!(
            "gain of hits by a 2nd thread ({}) / share-nothing loop's",
            kind.name()
        );
        let own = [0, 1].map(|_| tables::translator(&ram, kind));
        Row::print(&what, Goal::AtLeast(0.9), threads(&translator, &own));
    }
}

/// One request after the other, which differ in the address only.
fn translate(translator: &Translator, pages: impl Iterator<Item = u64>) {
    let mut request = tables::read_of(0);
    for page in pages {
        request.address = tables::address(page);
        let found = translator.translate(black_box(&request));
        assert!(black_box(&found).is_ok(), "the page is mapped");
    }
}

/// Reads the word that a walk for `page` ends at.
fn read(ram: &Ram, page: u64) {
    let gpa = black_box(GuestAddress(LEAVES + 8 * page));
    let slice = ram.get_slice(gpa, 8).expect("the table is RAM");
    let word = slice.get_ref::<u64>(0).expect("a word");
    black_box(word.load());
}

fn hit(translator: &Translator, ram: &Arc<Ram>) -> f64 {
    let pages = || (0..BATCH).map(|n| n % BUSY);
    translate(translator, pages());
    let before = translator.counters();
    let figure = ratio(
        || translate(translator, pages()),
        || pages().for_each(|page| read(ram, page)),
    );
    assert_eq!(translator.counters().page_misses, before.page_misses);
    figure
}

fn miss(translator: &Translator, ram: &Arc<Ram>) -> f64 {
    let batches = || {
        (0..PAGES / BATCH)
            .map(|n| n * BATCH..(n + 1) * BATCH)
            .cycle()
    };
    let (mut translated, mut read_from) = (batches(), batches());
    translate(translator, 0..1);
    let before = translator.counters();
    let figure = ratio(
        || translate(translator, translated.next().into_iter().flatten()),
        || (read_from.next().into_iter().flatten()).for_each(|page| read(ram, page)),
    );
    let after = translator.counters();
    let misses = after.page_misses - before.page_misses;
    assert_eq!(after.table_reads - before.table_reads, 4 * misses);
    assert!(after.page_hits - before.page_hits < misses / 1000);
    figure
}

/// What the second thread gains with one translator for both, against what it gains with one for each.
fn threads(shared: &Translator, own: &[Translator; 2]) -> f64 {
    let pages = |thread: usize| (0..4 * BATCH).map(move |n| n % BUSY + BUSY * thread as u64);
    for thread in [0, 1] {
        translate(shared, pages(thread));
        translate(&own[thread], pages(thread));
    }
    scaling(
        |thread| translate(shared, pages(thread)),
        |thread| translate(&own[thread], pages(thread)),
    )
}
