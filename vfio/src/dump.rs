// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A look at everything: what the guest's tables map, what the host has, where the two differ, and why an address is not
//! mapped. Values that serialise, and a page to look at ([`html::render`]).
//!
//! A dump is made while the guest goes on: what it tells of an address was true at some moment during it, and a difference may
//! be a change that the guest has not invalidated yet. It is bounded: lists end after [`Options::lines`], pictures are of
//! [`Options::blocks`], and the guest's tables are walked as far as a domain's budget allows.

mod blocks;
mod collect;
mod compare;
pub mod explain;
mod holes;
pub mod html;

pub use blocks::Block;
pub(crate) use collect::Collector;
pub(crate) use holes::Holes;
pub use holes::{Entry, Hole, Nothing};

use crate::mirror::{Address, DomainReport, Report, Why};
use crate::run::Rights;

/// How much to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lines of each list of each host table.
    pub lines: usize,
    /// Blocks of each picture.
    pub blocks: usize,
    /// Addresses that are not mapped and for which the guest's entry is looked up, for each host table.
    pub holes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lines: 4096,
            blocks: 1024,
            holes: 16_384,
        }
    }
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dump {
    /// The counters, and the devices with what they go through.
    pub report: Report,
    /// By host table, ascending.
    pub domains: Vec<DomainDump>,
}

/// One host table beside the guest's tables.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DomainDump {
    /// The table, its members and counters.
    pub domain: DomainReport,
    /// The granularity of its mappings in bytes.
    pub granule: u64,
    /// The addresses that the host can map.
    pub usable: Vec<Span>,
    /// Where the comparison stopped, because the guest's tables cost too much; `None` when all was compared.
    pub stopped: Option<Address>,
    /// What the guest's tables map.
    pub guest: Listed<Line>,
    /// What the host has, mapping by mapping where their borders matter.
    pub host: Listed<Line>,
    /// Where guest and host differ, or the host is not to have what the guest maps.
    pub differences: Listed<Difference>,
    /// Where the guest maps nothing, and the entry that says so. A part of it where there are many.
    pub holes: Listed<Hole>,
    /// The address space as a picture.
    pub blocks: Vec<Block>,
}

/// Addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Span {
    /// The first.
    pub first: Address,
    /// The last.
    pub last: Address,
}

/// The beginning of a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listed<T> {
    /// How many there are in all.
    pub total: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The first of them.
    pub lines: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            total: 0,
            bytes: 0,
            lines: Vec::new(),
        }
    }
}

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// The first address.
    pub first: Address,
    /// The last.
    pub last: Address,
    /// What the first reaches, guest-physically.
    pub gpa: Address,
    /// What a device may do.
    pub rights: Rights,
}

/// What is the matter with addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", content = "why", rename_all = "snake_case")]
pub enum Differs {
    /// The guest says it, and the host does not have it.
    Missing,
    /// The host has it, and the guest does not say it.
    Extra,
    /// The host has something else there.
    Different,
    /// The guest says it, and the host is not to have it.
    LeftOut(Why),
}

/// Addresses where guest and host differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The first address.
    pub first: Address,
    /// The last.
    pub last: Address,
    /// What is the matter.
    #[serde(flatten)]
    pub what: Differs,
    /// What the first address reaches by the guest's tables.
    pub guest: Option<explain::Mapping>,
    /// What it reaches on the host.
    pub host: Option<explain::Mapping>,
}
