// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A report as text for people and as JSON for programs.

use super::{Level, Report};
use serde_json::{Value, json};
use std::fmt::Write;

impl Level {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// The report for people: a row a line, below it what to do, and at the end what it all comes to.
#[must_use]
pub fn table(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.id.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    let mut topic = "";
    for row in &report.rows {
        if row.topic != topic {
            topic = row.topic;
            line(&mut text, format_args!("{topic}"));
        }
        let (level, id) = (row.level.name(), row.id);
        line(
            &mut text,
            format_args!("  {level:7}  {id:width$}  {}", row.finding),
        );
        if let Some(advice) = &row.advice {
            line(
                &mut text,
                format_args!("  {:7}  {:width$}  -> {advice}", "", ""),
            );
        }
    }
    let vm = if report.can_run() { "yes" } else { "no" };
    line(&mut text, format_args!("A VM can be run: {vm}."));
    let device = if report.can_pass_through() {
        "yes (which one: remora devices)"
    } else {
        "no"
    };
    line(
        &mut text,
        format_args!("A device can be passed through: {device}."),
    );
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(text, "{line}");
}

/// The report for programs.
#[must_use]
pub fn json(report: &Report) -> Value {
    let rows = report.rows.iter().map(|row| {
        json!({
            "topic": row.topic,
            "id": row.id,
            "level": row.level.name(),
            "finding": row.finding,
            "advice": row.advice,
        })
    });
    json!({
        "vm": report.can_run(),
        "passthrough": report.can_pass_through(),
        "rows": rows.collect::<Vec<_>>(),
    })
}
