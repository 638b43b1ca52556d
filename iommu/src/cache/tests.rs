// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bounded tables under concurrent readers, writers and drops, explored schedule by schedule.

use super::lines::Lines;
use crate::sync::explore;
use std::sync::Arc;

fn filled(lines: usize, tags: u64) -> Lines<1, 1> {
    let table = Lines::new(lines);
    for tag in 1..=tags {
        table.insert(table.stamp(), &[tag], [tag * 10]);
    }
    table
}

fn held(table: &Lines<1, 1>, tags: u64) -> Vec<u64> {
    (1..=tags)
        .filter(|tag| table.get(&[*tag]).is_some())
        .collect()
}

#[test]
fn line_is_found_by_its_tag_only() {
    let table = filled(64, 3);
    assert_eq!(table.get(&[2]), Some([20]));
    assert_eq!(table.get(&[4]), None);
}

#[test]
fn line_inserted_again_is_replaced() {
    let table = filled(64, 3);
    table.insert(table.stamp(), &[2], [99]);
    assert_eq!(table.get(&[2]), Some([99]));
    assert_eq!(table.start_drop().all(), 3);
}

#[test]
fn table_of_no_lines_never_hits() {
    let table = filled(0, 3);
    assert!(held(&table, 3).is_empty());
    assert_eq!(table.start_drop().tag(&[1]), 0);
    assert_eq!(table.start_drop().all(), 0);
}

/// However many lines come, no more are kept than there is room for, and the newest is always kept.
#[test]
fn full_table_keeps_its_size_and_the_newest_line() {
    let table = filled(16, 1000);
    assert_eq!(table.get(&[1000]), Some([10000]));
    assert!(held(&table, 1000).len() <= 16);
    assert_eq!(table.start_drop().all(), 16);
}

#[test]
fn drop_of_a_tag_leaves_the_others() {
    let table = filled(64, 5);
    let dropper = table.start_drop();
    assert_eq!(dropper.tag(&[3]), 1);
    assert_eq!(dropper.tag(&[3]), 0);
    assert_eq!(held(&table, 5), [1, 2, 4, 5]);
}

#[test]
fn drop_by_value_leaves_the_others() {
    let table = filled(64, 6);
    let dropped = table.start_drop().matching(|_, value| value[0] > 30);
    assert_eq!(dropped, 3);
    assert_eq!(held(&table, 6), [1, 2, 3]);
}

#[test]
fn result_stamped_before_a_drop_is_refused() {
    let table = filled(64, 1);
    let stamp = table.stamp();
    table.insert(stamp, &[2], [20]);
    table.start_drop();
    table.insert(stamp, &[3], [30]);
    assert_eq!(held(&table, 3), [1, 2]);
    table.insert(table.stamp(), &[3], [30]);
    assert_eq!(held(&table, 3), [1, 2, 3]);
}

/// A reader sees a line as one writer left it, or no line at all.
#[test]
fn line_is_never_a_mixture_of_two() {
    explore(
        || {
            let table: Arc<Lines<1, 2>> = Arc::new(Lines::new(4));
            let writer = {
                let table = Arc::clone(&table);
                shuttle::thread::spawn(move || {
                    for tag in (1..=5).cycle().take(15) {
                        table.insert(table.stamp(), &[tag], [tag; 2]);
                    }
                })
            };
            for _ in 0..10 {
                if let Some(value) = table.get(&[1]) {
                    assert_eq!(value, [1, 1]);
                }
            }
            writer.join().unwrap();
        },
        2000,
    );
}
