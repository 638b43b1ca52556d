// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A bounded set-associative table of tagged words: the body of every cache.
//!
//! A hit takes no lock and writes nothing. Each set carries a sequence number that is odd while the set changes; a reader
//! that saw it odd or changed reports a miss, which is always right. Writers of a set hold the lock that it shares with
//! others; who finds it held does not insert, for nothing has to be remembered.
//!
//! Stale results: whoever is going to read tables takes a [`Stamp`] before the first read, and hands it in with the
//! result. [`Lines::start_drop`] outdates all stamps before it drops anything, and both the comparison of the stamp and
//! the dropping of a line happen under the set's lock. So a result read before an invalidation is either in the table when
//! the drop reaches its set, and is dropped, or comes later and is refused.

use crate::sync::{AtomicU64, Ordering, fence, yield_now};

/// Lines of a set.
const WAYS: usize = 4;
/// Locks that the sets share.
const WRITERS: usize = 16;

/// A point in time before which everything in the tables was still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

/// The table: lines of `TAG` words, by which they are found, and `VALUE` words. No tag in use has a first word of 0.
#[derive(Debug)]
pub(crate) struct Lines<const TAG: usize, const VALUE: usize> {
    generation: AtomicU64,
    sets: Box<[Set<TAG, VALUE>]>,
    writers: Box<[Writer]>,
}

/// The lock of a group of sets, and what it protects beside them.
///
/// It is held for some dozens of instructions and waited for only by drops, so that waiting is trying again. Giving it back
/// is a plain store, which a lock that others sleep on cannot have.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Writer {
    /// 1 while a thread holds the lock.
    held: AtomicU64,
    /// The way that is replaced next when a set is full, to be taken modulo the ways.
    victim: AtomicU64,
    /// Lines in use.
    used: AtomicU64,
}

/// The lock, held.
struct Writing<'a>(&'a Writer);

impl Writer {
    fn try_lock(&self) -> Option<Writing<'_>> {
        self.held
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Writing(self))
    }

    fn lock(&self) -> Writing<'_> {
        loop {
            if let Some(writing) = self.try_lock() {
                return writing;
            }
            yield_now();
        }
    }
}

impl Writing<'_> {
    fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    fn set_used(&self, used: u64) {
        self.0.used.store(used, Ordering::Relaxed);
    }

    fn next_victim(&self) -> usize {
        let victim = self.0.victim.load(Ordering::Relaxed).wrapping_add(1);
        self.0.victim.store(victim, Ordering::Relaxed);
        usize::try_from(victim).unwrap_or(0) % WAYS
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.held.store(0, Ordering::Release);
    }
}

/// Aligned so that a lookup touches as few cache lines as can be.
#[derive(Debug)]
#[repr(align(128))]
struct Set<const TAG: usize, const VALUE: usize> {
    sequence: AtomicU64,
    ways: [Way<TAG, VALUE>; WAYS],
}

#[derive(Debug)]
struct Way<const TAG: usize, const VALUE: usize> {
    tag: [AtomicU64; TAG],
    value: [AtomicU64; VALUE],
}

impl<const TAG: usize, const VALUE: usize> Lines<TAG, VALUE> {
    /// A table of at least `lines` lines; of none it never hits.
    pub(crate) fn new(lines: usize) -> Self {
        let sets = match lines {
            0 => 0,
            _ => lines.div_ceil(WAYS).next_power_of_two(),
        };
        Self {
            generation: AtomicU64::new(0),
            sets: (0..sets).map(|_| Set::new()).collect(),
            writers: (0..WRITERS).map(|_| Writer::default()).collect(),
        }
    }

    /// Number of sets: dropping more tags than that one by one costs more than looking at every line.
    pub(crate) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// A stamp for results that are read from now on.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.generation.load(Ordering::SeqCst))
    }

    /// The value kept for `tag`.
    #[inline]
    pub(crate) fn get(&self, tag: &[u64; TAG]) -> Option<[u64; VALUE]> {
        self.sets.get(self.index(tag))?.get(tag)
    }

    /// Keeps `value` for `tag`, unless something was dropped since `stamp` or another thread writes right now.
    #[inline]
    pub(crate) fn insert(&self, stamp: Stamp, tag: &[u64; TAG], value: [u64; VALUE]) {
        let index = self.index(tag);
        let Some(set) = self.sets.get(index) else {
            return;
        };
        let Some(writing) = self.writer(index).try_lock() else {
            return;
        };
        if self.stamp() != stamp {
            return;
        }
        let way = if let Some(way) = set.position(|way| way.is(tag)) {
            way
        } else if let Some(way) = set.position(Way::is_free) {
            writing.set_used(writing.used() + 1);
            way
        } else {
            writing.next_victim()
        };
        set.write(way, tag, &value);
    }

    /// Refuses every result stamped before this call, and lets lines be dropped. In the one order of all threads: whoever
    /// marked something before keeping a line that was not refused has marked it before this call returns.
    pub(crate) fn start_drop(&self) -> Dropper<'_, TAG, VALUE> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        Dropper(self)
    }

    fn writer(&self, index: usize) -> &Writer {
        &self.writers[index % WRITERS]
    }

    fn index(&self, tag: &[u64; TAG]) -> usize {
        let folded = tag
            .iter()
            .fold(0u64, |hash, word| hash.rotate_left(5) ^ word);
        // The high bits of the product depend on every bit of the tag.
        let hash = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(hash).unwrap_or(0) & self.sets.len().wrapping_sub(1)
    }
}

/// The right to drop lines: stamps taken before it was made are outdated.
#[derive(Debug)]
pub(crate) struct Dropper<'a, const TAG: usize, const VALUE: usize>(&'a Lines<TAG, VALUE>);

impl<const TAG: usize, const VALUE: usize> Dropper<'_, TAG, VALUE> {
    /// Drops the line of `tag`; returns how many that were.
    pub(crate) fn tag(&self, tag: &[u64; TAG]) -> u64 {
        let index = self.0.index(tag);
        let Some(set) = self.0.sets.get(index) else {
            return 0;
        };
        let writing = self.0.writer(index).lock();
        let Some(way) = set.position(|way| way.is(tag)) else {
            return 0;
        };
        set.write(way, &[0; TAG], &[0; VALUE]);
        writing.set_used(writing.used() - 1);
        1
    }

    /// Drops every line whose tag and value `named` accepts; returns how many that were.
    pub(crate) fn matching(&self, named: impl Fn(&[u64; TAG], &[u64; VALUE]) -> bool) -> u64 {
        let mut dropped = 0;
        for first in 0..WRITERS.min(self.0.sets.len()) {
            let writing = self.0.writer(first).lock();
            let sets = self.0.sets.iter().skip(first).step_by(WRITERS);
            for (set, way) in sets.flat_map(|set| (0..WAYS).map(move |way| (set, way))) {
                if writing.used() == 0 {
                    break;
                }
                let tag = set.ways[way].tag();
                if tag[0] != 0 && named(&tag, &set.ways[way].value()) {
                    set.write(way, &[0; TAG], &[0; VALUE]);
                    writing.set_used(writing.used() - 1);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    /// Drops every line; returns how many that were.
    pub(crate) fn all(&self) -> u64 {
        self.matching(|_, _| true)
    }
}

impl<const TAG: usize, const VALUE: usize> Set<TAG, VALUE> {
    fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            ways: std::array::from_fn(|_| Way {
                tag: std::array::from_fn(|_| AtomicU64::new(0)),
                value: std::array::from_fn(|_| AtomicU64::new(0)),
            }),
        }
    }

    #[inline]
    fn get(&self, tag: &[u64; TAG]) -> Option<[u64; VALUE]> {
        let before = self.sequence.load(Ordering::Acquire);
        if before & 1 != 0 {
            return None;
        }
        let value = self.ways.iter().find(|way| way.is(tag))?.value();
        fence(Ordering::Acquire);
        (self.sequence.load(Ordering::Relaxed) == before).then_some(value)
    }

    /// The first way that `wanted` accepts. For holders of the set's lock.
    fn position(&self, wanted: impl Fn(&Way<TAG, VALUE>) -> bool) -> Option<usize> {
        self.ways.iter().position(wanted)
    }

    /// Changes a way. For holders of the set's lock.
    fn write(&self, way: usize, tag: &[u64; TAG], value: &[u64; VALUE]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let way = &self.ways[way];
        for (slot, word) in way.tag.iter().zip(tag) {
            slot.store(*word, Ordering::Relaxed);
        }
        for (slot, word) in way.value.iter().zip(value) {
            slot.store(*word, Ordering::Relaxed);
        }
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }
}

impl<const TAG: usize, const VALUE: usize> Way<TAG, VALUE> {
    fn is(&self, tag: &[u64; TAG]) -> bool {
        // The last word first: the first ones are shared by many lines.
        (self.tag.iter().zip(tag).rev()).all(|(held, word)| held.load(Ordering::Relaxed) == *word)
    }

    fn is_free(&self) -> bool {
        self.tag[0].load(Ordering::Relaxed) == 0
    }

    fn tag(&self) -> [u64; TAG] {
        std::array::from_fn(|word| self.tag[word].load(Ordering::Relaxed))
    }

    fn value(&self) -> [u64; VALUE] {
        std::array::from_fn(|word| self.value[word].load(Ordering::Relaxed))
    }
}
