// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Answers for people: rows of a name and a value, and tables.
//!
//! What parts say of themselves is shown as it comes: numbers and texts of an object become rows, an array of objects becomes
//! a table, and an object within an object a section of its own.

use serde_json::{Map, Value};
use std::fmt::Write;

/// `value` under the heading `title`.
#[must_use]
pub fn section(title: &str, value: &Value) -> String {
    let mut text = String::new();
    add(&mut text, title, value);
    text
}

fn add(text: &mut String, title: &str, value: &Value) {
    match value {
        Value::Object(object) => add_object(text, title, object),
        Value::Array(rows) if rows.iter().any(Value::is_object) => add_rows(text, title, rows),
        plain => add_lines(text, title, &[vec![scalar(plain)]]),
    }
}

fn add_object(text: &mut String, title: &str, object: &Map<String, Value>) {
    let rows: Vec<Vec<String>> = object
        .iter()
        .filter(|(_, value)| is_scalar(value))
        .map(|(name, value)| vec![name.clone(), scalar(value)])
        .collect();
    if !rows.is_empty() {
        add_lines(text, title, &rows);
    }
    for (name, value) in object.iter().filter(|(_, value)| !is_scalar(value)) {
        add(text, &format!("{title}: {name}"), value);
    }
}

/// A table of what is plain in each row; the rest of each row comes behind it.
fn add_rows(text: &mut String, title: &str, rows: &[Value]) {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for (name, _) in row.iter().filter(|(_, value)| is_scalar(value)) {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let heading = columns.iter().map(|&name| name.to_owned()).collect();
    let cells = rows.iter().map(|row| {
        let cell = |name: &&str| row.get(name).map_or_else(String::new, scalar);
        columns.iter().map(cell).collect()
    });
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(cells).collect();
    if !columns.is_empty() {
        add_lines(text, title, &lines);
    }
    for (number, row) in rows.iter().enumerate() {
        for (name, value) in row.as_object().into_iter().flatten() {
            if !is_scalar(value) {
                add(text, &format!("{title} {number}: {name}"), value);
            }
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(values) => values.iter().all(|v| !v.is_object() && !v.is_array()),
        _ => true,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let texts: Vec<String> = values.iter().map(scalar).collect();
            texts.join(", ")
        }
        other => other.to_string(),
    }
}

/// Lines below a heading, their cells one below the other.
fn add_lines(text: &mut String, title: &str, lines: &[Vec<String>]) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "{title}");
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in lines {
        let mut row = String::from(" ");
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, " {cell:<width$} ");
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn object_becomes_rows_and_its_objects_sections() {
        let value = json!({"b": 12, "a": "x", "in": {"c": [1, 2]}, "none": null});
        let expected = "unit\n  a     x\n  b     12\n  none  -\n\nunit: in\n  c  1, 2\n";
        assert_eq!(section("unit", &value), expected);
    }

    #[test]
    fn array_of_objects_becomes_a_table_whose_rows_may_lack_cells() {
        let value = json!([
            {"bus": "p0", "power": "on"},
            {"bus": "port10", "device": "d0", "more": {"k": 1}},
        ]);
        let expected = concat!(
            "slots\n  bus     power  device\n  p0      on\n  port10         d0\n",
            "\nslots 1: more\n  k  1\n"
        );
        assert_eq!(section("slots", &value), expected);
    }
}
