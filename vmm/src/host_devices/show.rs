// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The functions as a table for people and as JSON for programs.

use super::users::User;
use super::{Function, Passthrough};
use serde_json::{Value, json};

impl Passthrough {
    /// A word for it, and why.
    fn told(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Yes => ("yes", None),
            Self::AfterBind(refusal) => ("bind", Some(refusal.to_string())),
            Self::InUse(users) => {
                let users: Vec<String> = users.iter().map(User::to_string).collect();
                ("no", Some(format!("in use: {}", users.join("; "))))
            }
            Self::No(refusal) => ("no", Some(refusal.to_string())),
        }
    }
}

/// The functions for people: a line each.
#[must_use]
pub fn table(functions: &[Function]) -> String {
    let titles = ["ADDRESS", "GROUP", "DRIVER", "ID", "DEVICE", "PASSTHROUGH"];
    let titles = titles.map(str::to_owned);
    let rows: Vec<[String; 6]> = [titles]
        .into_iter()
        .chain(functions.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(text, width)| format!("{text:width$}  "));
        format!("{}{}\n", cells.collect::<String>(), row[5])
    };
    rows.iter().map(line).collect()
}

fn row(function: &Function) -> [String; 6] {
    let device = &function.device;
    let none = || "-".to_owned();
    let group = device.group.as_ref().map(|group| group.number.to_string());
    let name = function.name.as_ref();
    let name = name.map_or_else(String::new, |name| format!(": {name}"));
    let passthrough = match function.passthrough.told() {
        (word, Some(why)) => format!("{word}: {why}"),
        (word, None) => word.to_owned(),
    };
    [
        device.address.to_string(),
        group.unwrap_or_else(none),
        device.driver.clone().unwrap_or_else(none),
        format!("{:04x}:{:04x}", device.vendor, device.device),
        format!("{}{name}", function.class),
        passthrough,
    ]
}

/// The functions for programs.
#[must_use]
pub fn json(functions: &[Function]) -> Value {
    functions.iter().map(object).collect()
}

fn object(function: &Function) -> Value {
    let device = &function.device;
    let group = device.group.as_ref();
    let others = group.map_or(&[][..], |group| &group.others);
    let others = others.iter().map(|other| other.address.to_string());
    let (passthrough, reason) = function.passthrough.told();
    json!({
        "address": device.address.to_string(),
        "vendor": format!("{:04x}", device.vendor),
        "device": format!("{:04x}", device.device),
        "class_code": format!("{:06x}", device.class),
        "class": function.class,
        "name": function.name,
        "driver": device.driver,
        "iommu": device.unit,
        "group": group.map(|group| group.number),
        "group_shared_with": others.collect::<Vec<_>>(),
        "passthrough": passthrough,
        "reason": reason,
    })
}
