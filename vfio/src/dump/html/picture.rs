// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The picture of an address space, which may have 57 bits and a few pages in them: blocks as wide as the logarithm of their
//! size, empty space collapsed to a mark, in rows like text.

use super::super::Block;
use super::{escape, put};
use std::fmt::Write;

/// Width of a row in pixels, without its label.
const ROW: u64 = 1000;
const HEIGHT: u64 = 26;
/// From row to row.
const PITCH: u64 = 34;
const LABEL: u64 = 150;
/// What stands for empty space.
const GAP: u64 = 8;
/// The narrowest block.
const LEAST: u64 = 4;

/// Draws `blocks`, which ascend.
pub fn draw(page: &mut String, blocks: &[Block]) {
    if blocks.is_empty() {
        page.push_str("<p>Nothing is mapped.</p>\n");
        return;
    }
    let placed = place(blocks);
    let rows = placed.last().map_or(0, |place| place.row + 1);
    put!(
        page,
        "<svg class=\"space\" role=\"img\" aria-label=\"IOVA space\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\">\n",
        LABEL + ROW,
        rows * PITCH,
        LABEL + ROW,
        rows * PITCH
    );
    let mut row = None;
    let mut last = None;
    for (block, place) in blocks.iter().zip(&placed) {
        let y = place.row * PITCH;
        if row != Some(place.row) {
            row = Some(place.row);
            put!(
                page,
                "<text x=\"0\" y=\"{}\">{}</text>\n",
                y + 18,
                block.first
            );
        }
        if let Some(gap) = gap(last, block) {
            put!(
                page,
                "<path class=\"gap\" d=\"M{} {}v{}\"><title>empty: {}</title></path>\n",
                LABEL + place.x - GAP / 2,
                y,
                HEIGHT,
                size(gap)
            );
        }
        put!(
            page,
            "<rect class=\"{}\" x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{HEIGHT}\"><title>{}</title></rect>\n",
            class(block),
            LABEL + place.x,
            place.width,
            escape(&title(block))
        );
        last = Some(block.last.0);
    }
    page.push_str("</svg>\n");
    page.push_str(concat!(
        "<p class=\"legend\"><i class=\"rw\"></i>read and write <i class=\"r\"></i>read <i class=\"w\"></i>write ",
        "<i class=\"left\"></i>left out <i class=\"differs\"></i>guest and host differ. ",
        "Widths are logarithms; a thin line is empty space.</p>\n",
    ));
}

struct Place {
    row: u64,
    x: u64,
    width: u64,
}

fn place(blocks: &[Block]) -> Vec<Place> {
    let (mut row, mut x) = (0, 0);
    let mut last = None;
    let mut places = Vec::with_capacity(blocks.len());
    for block in blocks {
        let pages = (block.span() >> 12).max(1);
        let width = LEAST + 3 * u64::from(pages.ilog2());
        x += gap(last, block).map_or(0, |_| GAP);
        if x + width > ROW {
            (row, x) = (row + 1, GAP);
        }
        places.push(Place { row, x, width });
        x += width;
        last = Some(block.last.0);
    }
    places
}

/// The empty bytes between `last` and a block.
fn gap(last: Option<u64>, block: &Block) -> Option<u64> {
    let next = last.map_or(0, |last: u64| last.saturating_add(1));
    let gap = block.first.0.saturating_sub(next);
    (gap != 0).then_some(gap)
}

fn class(block: &Block) -> &'static str {
    let rights = [
        (block.read_write, "rw"),
        (block.read, "r"),
        (block.write, "w"),
        (block.left_out, "left"),
    ];
    if block.differs() {
        return "differs";
    }
    let most = rights.into_iter().max_by_key(|(bytes, _)| *bytes);
    most.map_or("rw", |(_, class)| class)
}

fn title(block: &Block) -> String {
    let mut text = format!(
        "IOVA {} to {}, {}",
        block.first,
        block.last,
        size(block.span())
    );
    if let Some(gpa) = block.gpa {
        put!(text, "; the first reaches GPA {gpa}");
    }
    if block.parts > 1 {
        put!(text, "; {} runs drawn as one", block.parts);
    }
    for (bytes, what) in [
        (block.read_write, "read and write"),
        (block.read, "read"),
        (block.write, "write"),
        (block.left_out, "left out"),
        (block.missing, "missing on the host"),
        (block.extra, "extra on the host"),
        (block.different, "different on the host"),
    ] {
        if bytes != 0 {
            put!(text, "; {} {what}", size(bytes));
        }
    }
    text
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes;
    while value >= 1024 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    if value < 10_240 {
        return format!("{value} {}", UNITS[unit]);
    }
    while value >= 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("about {value} {}", UNITS[unit])
}
