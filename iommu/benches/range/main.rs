// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What it costs to walk everything that tables map, and how many tables that reads.
//!
//! The cost is that of a dense table of 4 KiB pages, against a sum of volatile 8-byte loads over the bytes of the same
//! tables, nothing else between them. Pages that follow each other become one run. Scattered ones become a run each, which is
//! the most that a table can ask for and is told without a goal.

use benchmark::measure::ratio;
use benchmark::row::{Goal, Row};
use iommu::address::IovaRange;
use iommu::capabilities::{AddressWidth, Capabilities, LegacyOptions, ScalableOptions};
use iommu::memory::Ram;
use iommu::translate::rights::Rules;
use iommu::walk::first_stage::FirstStage;
use iommu::walk::range::{RangeWalk, Run, WalkBudget, WalkCounts};
use iommu::walk::second_stage::SecondStage;
use std::hint::black_box;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory};

/// The tables, one after the other, the top one first.
const TABLES: u64 = 0x10_0000;
/// Lowest tables of the dense range: 32 MiB.
const LEAF_TABLES: u64 = 16;
const TABLE_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug)]
enum Stage {
    First,
    Second,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::First => "first stage",
            Self::Second => "second stage",
        }
    }

    const fn entry_bits(self) -> u64 {
        match self {
            Self::First => 0x67,
            Self::Second => 0x3,
        }
    }

    /// A walk of everything below the top table.
    fn walk(self, capabilities: &Capabilities, levels: u32) -> RangeWalk {
        let table = GuestAddress(TABLES);
        match self {
            Self::First => {
                let stage = FirstStage {
                    table,
                    levels,
                    no_execute: false,
                    extended_accessed: false,
                };
                RangeWalk::first_stage(stage, Rules::default(), false, &IovaRange::ALL)
            }
            Self::Second => {
                let stage = SecondStage::plain(table, levels);
                RangeWalk::second_stage(stage, capabilities, &IovaRange::ALL)
            }
        }
    }
}

fn main() {
    let capabilities = Capabilities::scalable(&ScalableOptions {
        base: LegacyOptions {
            address_width: AddressWidth::Bits57,
            ..LegacyOptions::default()
        },
        ..ScalableOptions::default()
    })
    .expect("the widest unit");
    for stage in [Stage::First, Stage::Second] {
        let goals = [Goal::AtMost(4.0), Goal::None];
        for ((pages, stride), goal) in [("in a row", 1), ("scattered", 3)].into_iter().zip(goals) {
            let what = format!(
                "walk of dense 4 KiB pages {pages} ({}) / sum of their entries",
                stage.name()
            );
            Row::print(&what, goal, dense(&capabilities, stage, stride));
        }
    }
    for stage in [Stage::First, Stage::Second] {
        for pages in [0, 1, 64] {
            let (ram, populated) = sparse(stage, pages);
            let (_, counts) = finish(&ram, &capabilities, stage.walk(&capabilities, 5));
            assert_eq!(counts.leaves, pages, "every page is found");
            let what = format!(
                "tables read of 57 bits with {pages} pages far apart ({})",
                stage.name()
            );
            let (goal, figure) = (exact(populated), exact(counts.tables));
            Row::print(&what, Goal::Exactly(goal), figure);
        }
    }
}

fn exact(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

fn set(ram: &Ram, gpa: u64, word: u64) {
    ram.write_obj(word, GuestAddress(gpa))
        .expect("tables lie in RAM");
}

fn ram(bytes: usize) -> Ram {
    Ram::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory for a guest")
}

fn finish(ram: &Ram, capabilities: &Capabilities, mut walk: RangeWalk) -> (Vec<Run>, WalkCounts) {
    let mut runs = Vec::new();
    walk.advance(ram, capabilities, WalkBudget::UNLIMITED, &mut runs);
    (runs, walk.counts())
}

/// Tables of four levels whose pages lie `stride` pages apart.
fn dense(capabilities: &Capabilities, stage: Stage, stride: u64) -> f64 {
    let ram = ram(4 << 20);
    let bits = stage.entry_bits();
    for above in 0..2 {
        let table = TABLES + above * TABLE_BYTES;
        set(&ram, table, (table + TABLE_BYTES) | bits);
    }
    let leaves = TABLES + 3 * TABLE_BYTES;
    for table in 0..LEAF_TABLES {
        let entry = TABLES + 2 * TABLE_BYTES + 8 * table;
        set(&ram, entry, (leaves + table * TABLE_BYTES) | bits);
    }
    for page in 0..LEAF_TABLES * 512 {
        set(
            &ram,
            leaves + 8 * page,
            (0x1_0000_0000 + stride * page * 4096) | bits,
        );
    }
    let (runs, counts) = finish(&ram, capabilities, stage.walk(capabilities, 4));
    assert_eq!(counts.leaves, LEAF_TABLES * 512);
    assert_eq!(runs.len() == 1, stride == 1);
    let tables = ram
        .get_slice(GuestAddress(TABLES), (3 + 16) * 4096)
        .expect("the tables are RAM");
    let entries = tables
        .get_array_ref::<u64>(0, tables.len() / 8)
        .expect("tables of words");
    let mut runs = Vec::new();
    ratio(
        || {
            runs.clear();
            let mut walk = stage.walk(capabilities, 4);
            walk.advance(&ram, capabilities, WalkBudget::UNLIMITED, &mut runs);
            black_box(&runs);
        },
        || {
            let sum = (0..entries.len()).fold(0, |sum: u64, n| sum.wrapping_add(entries.load(n)));
            black_box(sum);
        },
    )
}

/// Tables of five levels with `pages` pages, each in tables of its own below the top, and the number of tables.
fn sparse(stage: Stage, pages: u64) -> (Ram, u64) {
    let ram = ram(4 << 20);
    let bits = stage.entry_bits();
    let mut next = TABLES + TABLE_BYTES;
    for page in 0..pages {
        let mut entry = TABLES + 8 * (page * 512 / pages.max(1));
        for level in (1..5).rev() {
            set(&ram, entry, next | bits);
            entry = next + 8 * (page * 7 + level) % TABLE_BYTES;
            next += TABLE_BYTES;
        }
        set(&ram, entry, (0x1_0000_0000 + page * 4096) | bits);
    }
    (ram, (next - TABLES) / TABLE_BYTES)
}
