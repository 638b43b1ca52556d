// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The picture of address spaces (`remora ctl dump --html`) in a real browser: it draws what it is given, answers questions, and
//! needs nothing from anywhere. Without a browser the test is ignored and says why; `make test` provides one.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::ensure;
use lab::browser;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use vfio::dump::explain::Mapping;
use vfio::dump::{
    Block, Difference, Differs, DomainDump, Dump, Entry, Hole, Line, Listed, Nothing, html,
};
use vfio::mirror::{Address, DomainReport, Holds, Stats};
use vfio::run::Rights;

fn main() -> ExitCode {
    let test = Trial::ignorable_test("page_draws_each_block_and_answers_in_a_browser", || {
        look().map_err(|error| Failed::from(format!("{error:#}")))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

/// Asks the page about three addresses, then measures what is drawn.
const PROBE: &str = r#"
const form = document.getElementById("query");
const ask = (iova) => {
    form.iova.value = iova;
    form.dispatchEvent(new Event("submit", { cancelable: true }));
    return document.getElementById("answer").textContent;
};
const box = (element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return { x, y, width, height, fill: getComputedStyle(element).fill, class: element.getAttribute("class") };
};
return {
    answers: ["0x100123", "0x200000", "0x5000", "0xfee00000", "nonsense"].map(ask),
    blocks: [...document.querySelectorAll("svg.space rect")].map(box),
    loaded: performance.getEntriesByType("resource").length,
    wide: document.documentElement.scrollWidth,
};
"#;

fn look() -> anyhow::Result<Completion> {
    if !browser::is_there() {
        return Ok(Completion::ignored_with(format!(
            "there is no {} on this machine",
            browser::PROGRAM
        )));
    }
    let dir = tempfile::tempdir()?;
    let page = html::render(&dump());
    let (seen, _picture) = browser::ask(&page, dir.path(), PROBE)?;
    let answers = [
        "0x100123 is mapped: it reaches 0x40000123",
        "0x200000: missing on the host",
        "0x5000 is not mapped: ",
        "0xfee00000 is in none of the lists",
        "An address like 0x1000 is needed",
    ];
    for (answer, expected) in answers.iter().enumerate() {
        let told = seen["answers"][answer].as_str().unwrap_or_default();
        ensure!(told.contains(expected), "{told:?} instead of {expected:?}");
    }
    let blocks = seen["blocks"].as_array().cloned().unwrap_or_default();
    let classes: Vec<&Value> = blocks.iter().map(|block| &block["class"]).collect();
    ensure!(
        classes == [&json!("rw"), &json!("differs"), &json!("r")],
        "drawn as {classes:?}"
    );
    ensure!(seen["loaded"] == 0, "the page loads something: {seen}");
    drawn_apart(&blocks)?;
    Ok(Completion::Completed)
}

/// Each block can be seen, in a colour of its own, and none covers another.
fn drawn_apart(blocks: &[Value]) -> anyhow::Result<()> {
    let number = |block: &Value, name: &str| block[name].as_f64().unwrap_or_default();
    let mut end = 0.0;
    let mut fills = Vec::new();
    for block in blocks {
        ensure!(
            number(block, "width") >= 2.0 && number(block, "height") >= 10.0,
            "too small to be seen: {block}"
        );
        ensure!(
            number(block, "x") >= end,
            "it covers the one before: {block}"
        );
        end = number(block, "x") + number(block, "width");
        ensure!(end <= 1280.0, "it is outside the page: {block}");
        ensure!(
            !fills.contains(&&block["fill"]),
            "two kinds of blocks have the same colour: {block}"
        );
        fills.push(&block["fill"]);
    }
    Ok(())
}

/// One table: a mapped run, one that the host lacks, one that may only be read, and a hole.
fn dump() -> Dump {
    let line = |first, last, gpa, rights| Line {
        first: Address(first),
        last: Address(last),
        gpa: Address(gpa),
        rights,
    };
    let listed = |lines: Vec<Line>| Listed {
        total: lines.len() as u64,
        bytes: lines
            .iter()
            .map(|line| line.last.0 - line.first.0 + 1)
            .sum(),
        lines,
    };
    let mapped = line(0x10_0000, 0x17_ffff, 0x4000_0000, Rights::ReadWrite);
    let lacking = line(0x20_0000, 0x20_0fff, 0x5000_0000, Rights::ReadWrite);
    let readable = line(0x40_0000, 0x40_ffff, 0x6000_0000, Rights::Read);
    let difference = Difference {
        first: lacking.first,
        last: lacking.last,
        what: Differs::Missing,
        guest: Some(Mapping {
            gpa: lacking.gpa,
            rights: lacking.rights,
        }),
        host: None,
    };
    let hole = Hole {
        first: Address(0),
        last: Address(0xf_ffff),
        entry: Some(Entry {
            level: 1,
            at: Address(0x3000),
            value: Address(0),
        }),
        why: Nothing::NotPresent,
    };
    Dump {
        domains: vec![DomainDump {
            domain: report(),
            granule: 0x1000,
            usable: Vec::new(),
            stopped: None,
            guest: listed(vec![mapped, lacking, readable]),
            host: listed(vec![mapped, readable]),
            differences: Listed {
                total: 1,
                bytes: 0x1000,
                lines: vec![difference],
            },
            holes: Listed {
                total: 1,
                bytes: 0x10_0000,
                lines: vec![hole],
            },
            blocks: blocks(),
        }],
        ..Dump::default()
    }
}

/// What the picture of it has.
fn blocks() -> Vec<Block> {
    let block = |first, last| Block {
        first: Address(first),
        last: Address(last),
        parts: 1,
        ..Block::default()
    };
    vec![
        Block {
            read_write: 0x8_0000,
            ..block(0x10_0000, 0x17_ffff)
        },
        Block {
            missing: 0x1000,
            ..block(0x20_0000, 0x20_0fff)
        },
        Block {
            read: 0x1_0000,
            ..block(0x40_0000, 0x40_ffff)
        },
    ]
}

fn report() -> DomainReport {
    DomainReport {
        table: 3,
        holds: Holds::Nothing,
        tags: Vec::new(),
        members: Vec::new(),
        leaves: 145,
        runs: 2,
        bytes: 0x9_0000,
        entry_limit: None,
        unsynced: 1,
        first_unsynced: None,
        last_refusal: None,
        blocked: None,
        counters: Stats::default(),
    }
}
