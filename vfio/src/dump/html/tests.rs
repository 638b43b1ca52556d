// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The page as text. That it looks as it should is tested with a browser in the lab.

use super::*;
use crate::dump::{Block, Entry, Nothing};
use crate::mirror::{DomainReport, Holds, Stats};
use crate::run::Rights;

fn domain(blocks: Vec<Block>) -> DomainDump {
    DomainDump {
        domain: DomainReport {
            table: 3,
            holds: Holds::Nothing,
            tags: Vec::new(),
            members: Vec::new(),
            leaves: 0,
            runs: 0,
            bytes: 0,
            entry_limit: None,
            unsynced: 0,
            first_unsynced: None,
            last_refusal: None,
            blocked: None,
            counters: Stats::default(),
        },
        granule: 0x1000,
        usable: Vec::new(),
        stopped: None,
        guest: Listed::default(),
        host: Listed::default(),
        differences: Listed::default(),
        holes: Listed::default(),
        blocks,
    }
}

fn page(domain: DomainDump) -> String {
    render(&Dump {
        domains: vec![domain],
        ..Dump::default()
    })
}

fn block(first: u64, len: u64) -> Block {
    Block {
        first: Address(first),
        last: Address(first + (len - 1)),
        parts: 1,
        read_write: len,
        ..Block::default()
    }
}

#[test]
fn text_from_outside_cannot_become_markup() {
    let mut domain = domain(Vec::new());
    domain.domain.last_refusal = Some(crate::mirror::RefusalReport {
        errno: 5,
        meaning: "<script>alert('\"&')</script>".to_owned(),
        ago_ms: 0,
    });
    domain.holes.lines.push(Hole {
        first: Address(0),
        last: Address(0xfff),
        entry: Some(Entry {
            level: 1,
            at: Address(0x3000),
            value: Address(0),
        }),
        why: Nothing::NotPresent,
    });
    let page = page(domain);
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;"));
    // One script that runs, and the data of one table.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
}

#[test]
fn page_needs_nothing_from_elsewhere() {
    let page = page(domain(vec![block(0, 0x1000)]));
    for foreign in ["http:", "https:", "//cdn", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn blocks_of_57_bits_fit_into_rows_and_name_their_addresses() {
    let far = (1 << 57) - 0x1000;
    let page = page(domain(vec![
        block(0, 0x1000),
        block(1 << 40, 1 << 30),
        block(far, 0x1000),
    ]));
    assert_eq!(page.matches("<rect").count(), 3);
    assert_eq!(page.matches("class=\"gap\"").count(), 2);
    assert!(page.contains("IOVA 0x1fffffffffff000 to 0x1ffffffffffffff, 4 KiB"));
    assert!(page.contains("IOVA 0x10000000000 to 0x1003fffffff, 1 GiB"));
    let widest = page
        .split("<rect")
        .skip(1)
        .map(|rect| {
            let number = |name: &str| {
                let rest = rect.split(&format!(" {name}=\"")).nth(1).unwrap();
                rest.split('"').next().unwrap().parse::<u64>().unwrap()
            };
            number("x") + number("width")
        })
        .max();
    assert!(widest <= Some(1150), "{widest:?}");
}

#[test]
fn differences_are_drawn_and_listed_as_such() {
    let mut bad = domain(vec![Block {
        missing: 0x1000,
        ..block(0, 0x2000)
    }]);
    bad.differences = Listed {
        total: 1,
        bytes: 0x1000,
        lines: vec![Difference {
            first: Address(0x1000),
            last: Address(0x1fff),
            what: Differs::Missing,
            guest: Some(crate::dump::explain::Mapping {
                gpa: Address(0x7000),
                rights: Rights::Read,
            }),
            host: None,
        }],
    };
    let bad = page(bad);
    assert!(bad.contains("<rect class=\"differs\""));
    assert!(bad.contains("<td>0x1000 to 0x1fff</td><td>missing on the host</td><td>0x7000 (read)</td><td>nothing</td>"));
    assert!(!bad.contains("Guest and host agree"));
    let good = page(domain(vec![block(0, 0x2000)]));
    assert!(good.contains("Guest and host agree") && !good.contains("<rect class=\"differs\""));
}

#[test]
fn many_blocks_are_rows_of_bounded_width() {
    let blocks: Vec<Block> = (0..1024)
        .map(|n| block(n << 21, 0x1000 << (n % 9)))
        .collect();
    let page = page(domain(blocks));
    assert_eq!(page.matches("<rect").count(), 1024);
    assert!(page.len() < 400_000, "{} bytes", page.len());
}
