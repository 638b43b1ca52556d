// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora doctor`: what this host can do, and how to mend what it cannot.
//!
//! Each topic has a file of functions from [`Host`] to rows. A host is its small files and the answers of its device nodes, so
//! tests examine hosts that are made up. Nothing is changed, and nothing is loaded.

mod here;
mod host;
mod intel;
mod iommu;
mod kvm;
mod memory;
mod nodes;
mod show;
mod vfio;

#[cfg(test)]
mod tests;

pub use here::ThisHost;
pub use host::{Host, KvmFacts, Node, Nodes};
pub use show::{json, table};

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is there and does.
    Ok,
    /// It is there, or can be done without, but something will be less than it could be.
    Warning,
    /// It is not there.
    Missing,
}

/// What a row is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any VM.
    Vm,
    /// Passing a device through.
    Passthrough,
    /// Neither needs it.
    Nothing,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What stands over the row and its neighbours.
    pub topic: &'static str,
    /// A name for programs.
    pub id: &'static str,
    /// How well it is.
    pub level: Level,
    /// What is impossible without it.
    pub need: Need,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What was found about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Everything examined, in the order in which people read it.
    pub rows: Vec<Row>,
}

impl Row {
    fn new(id: &'static str, level: Level, finding: impl Into<String>) -> Self {
        Self {
            topic: "",
            id,
            level,
            need: Need::Nothing,
            finding: finding.into(),
            advice: None,
        }
    }

    fn ok(id: &'static str, finding: impl Into<String>) -> Self {
        Self::new(id, Level::Ok, finding)
    }

    fn warning(id: &'static str, finding: impl Into<String>) -> Self {
        Self::new(id, Level::Warning, finding)
    }

    fn missing(id: &'static str, need: Need, finding: impl Into<String>) -> Self {
        Self {
            need,
            ..Self::new(id, Level::Missing, finding)
        }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl Report {
    /// Whether nothing is missing that any VM needs.
    #[must_use]
    pub fn can_run(&self) -> bool {
        !self.lacks(Need::Vm)
    }

    /// Whether, besides, nothing is missing that every passed-through device needs.
    #[must_use]
    pub fn can_pass_through(&self) -> bool {
        self.can_run() && !self.lacks(Need::Passthrough)
    }

    fn lacks(&self, need: Need) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.level == Level::Missing && row.need == need)
    }
}

/// Examines everything.
#[must_use]
pub fn examine(host: &Host<'_>) -> Report {
    let topics = [
        ("KVM", kvm::rows(host)),
        ("IOMMU", iommu::rows(host)),
        ("VFIO", vfio::rows(host)),
        ("Memory", memory::rows(host)),
    ];
    let rows = topics.into_iter().flat_map(|(topic, rows)| {
        rows.into_iter()
            .map(move |row| Row { topic, ..row })
            .collect::<Vec<_>>()
    });
    Report {
        rows: rows.collect(),
    }
}
