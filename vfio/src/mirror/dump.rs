// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Looking at the mirror as a whole, and at one address. The guest's tables are walked in slices with no lock held, so that
//! the guest waits for no dump.

use super::report::EndpointName;
use super::table::HostTable;
use super::wanted::{Reach, Wanted};
use super::{BlockedBy, Content, Mirror, State, UnitId};
use crate::backend::{Endpoint, TableId};
use crate::dump::explain::{Answer, Facts, Mapping, Verdict, explain, without_table};
use crate::dump::{Collector, DomainDump, Dump, Holes, Listed, Options, Span};
use crate::ram::RamMap;
use crate::run::{Rights, Run};
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::Capabilities;
use iommu::follow::{Attachment, DeviceHandle};
use iommu::ids::{DomainId, Pasid};
use iommu::memory::PhysMem;
use iommu::walk::range::{Progress, RangeWalk, Run as GuestRun, WalkBudget};
use std::sync::Arc;

/// What is walked and compared at a time.
const SLICE: WalkBudget = WalkBudget {
    tables: 256,
    runs: 4096,
};

/// Whose requests a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Those of a device, with a PASID or without.
    Device(DeviceHandle, Option<Pasid>),
    /// Those of a domain, by the unit and the id that the guest gave it.
    Domain(UnitId, DomainId),
    /// Those that go through a host table.
    Table(TableId),
}

impl Mirror {
    /// Everything, as far as `options` goes.
    #[must_use]
    pub fn dump(&self, options: &Options) -> Dump {
        let report = self.report();
        let tables = report.domains.iter().map(|domain| TableId(domain.table));
        let domains = tables
            .filter_map(|id| Some(Look::at(self, id)?.dump(options)))
            .collect();
        Dump { report, domains }
    }

    /// How it stands with `iova` for `subject`: an answer for each host table that has a part in it; none where there is no
    /// such subject.
    #[must_use]
    pub fn explain(&self, subject: Subject, iova: Iova) -> Vec<Answer> {
        let state = self.state();
        match subject {
            Subject::Device(device, pasid) => {
                let endpoint = Endpoint { device, pasid };
                state.explain_endpoint(endpoint, iova).into_iter().collect()
            }
            Subject::Domain(unit, id) => {
                let contents = state.tags.of(unit, id);
                let tables = contents.flat_map(|content| state.tables_of(content));
                let about = format!("domain {}", id.0);
                tables
                    .filter_map(|table| state.tables.get(&table))
                    .map(|table| state.explain_table(table, &about, iova))
                    .collect()
            }
            Subject::Table(id) => {
                let table = state.tables.get(&id);
                let about = format!("host table {}", id.0);
                table
                    .map(|table| state.explain_table(table, &about, iova))
                    .into_iter()
                    .collect()
            }
        }
    }
}

impl State {
    fn explain_table(&self, table: &HostTable, about: &str, iova: Iova) -> Answer {
        let refusal = table.lacks.refusal_of(iova);
        let facts = Facts {
            memory: self.memory.as_ref(),
            capabilities: &table.capabilities,
            content: table.content,
            limits: &table.limits,
            reach: self.reach(),
            held: table.ledger.get(iova),
            refusal: refusal.map(|refusal| self.refusal(refusal)),
            blocked: table.trouble.map(BlockedBy::from),
        };
        explain(&facts, about, iova)
    }

    fn explain_endpoint(&self, endpoint: Endpoint, iova: Iova) -> Option<Answer> {
        let about = EndpointName::from(endpoint).to_string();
        let member = self.members.get(&endpoint)?;
        if let Some(error) = member.refused {
            let verdict = Verdict::NotAttached(error.to_string());
            return Some(without_table(verdict, &about, iova, None));
        }
        let table = member.table.and_then(|id| self.tables.get(&id));
        if let Some(table) = table {
            return Some(self.explain_table(table, &about, iova));
        }
        // The host's own table of all RAM, or none.
        let gpa = vm_memory::GuestAddress(iova.0);
        let there = member.wants == Attachment::Identity && self.ram.piece(gpa, 1).host.is_some();
        let host = there.then_some(Mapping {
            gpa: iova.into(),
            rights: Rights::ReadWrite,
        });
        let verdict = match (member.wants, host) {
            (Attachment::Blocked, _) => Verdict::DeviceBlocked,
            (_, Some(_)) => Verdict::Mapped,
            (_, None) => Verdict::LeftOut(super::Why::NothingThere),
        };
        Some(without_table(verdict, &about, iova, host))
    }
}

/// A look at one host table, without the lock.
struct Look<'a> {
    mirror: &'a Mirror,
    id: TableId,
    domain: DomainDump,
    content: Content,
    capabilities: Capabilities,
    memory: Arc<dyn PhysMem>,
    ram: RamMap,
    /// The host can map memory of devices.
    devices: bool,
    /// Guest tables that may be read.
    tables: u64,
}

/// What a slice of the walk came to.
struct Slice {
    range: IovaRange,
    runs: Vec<GuestRun>,
}

impl<'a> Look<'a> {
    fn at(mirror: &'a Mirror, id: TableId) -> Option<Self> {
        let state = mirror.state();
        let table = state.tables.get(&id)?;
        let usable = table.limits.ranges.iter().map(|range| Span {
            first: range.start().into(),
            last: range.last().into(),
        });
        Some(Self {
            mirror,
            id,
            content: table.content,
            capabilities: table.capabilities,
            memory: state.memory.clone(),
            ram: state.ram.clone(),
            devices: state.host.features().device_memory,
            tables: state.options.budget.tables,
            domain: DomainDump {
                domain: state.domain(table),
                granule: table.limits.granule(),
                usable: usable.collect(),
                stopped: None,
                guest: Listed::default(),
                host: Listed::default(),
                differences: Listed::default(),
                holes: Listed::default(),
                blocks: Vec::new(),
            },
        })
    }

    fn dump(mut self, options: &Options) -> DomainDump {
        let mut collector = Collector::new(options);
        let content = self.content;
        let tables = content.copied();
        let (memory, capabilities) = (self.memory.clone(), self.capabilities);
        let mut holes = tables.map(|tables| Holes {
            memory: memory.as_ref(),
            capabilities: &capabilities,
            tables,
            left: options.holes,
            found: Vec::new(),
        });
        let mut walk = tables.and_then(|tables| tables.walk(&capabilities, &IovaRange::ALL));
        let mut at = Some(Iova(0));
        while let Some(start) = at {
            if self.tables == 0 {
                self.domain.stopped = Some(start.into());
                break;
            }
            let Some(slice) = self.slice(walk.as_mut(), start) else {
                continue;
            };
            let empty = self.compare(&slice, &mut collector);
            if let Some(holes) = &mut holes {
                empty.into_iter().for_each(|range| holes.look(range));
            }
            at = slice.range.last().checked_add(1);
        }
        let counts = walk.map(|walk| walk.counts());
        self.domain.domain.leaves = counts.map_or(0, |counts| counts.leaves);
        let found = holes.map(|holes| holes.found).unwrap_or_default();
        self.domain.holes = Listed {
            total: found.len() as u64,
            bytes: 0,
            lines: found,
        };
        let lists = collector.finish();
        (
            self.domain.guest,
            self.domain.host,
            self.domain.differences,
            self.domain.blocks,
        ) = lists;
        self.domain
    }

    /// Walks on from `start`; `None` when that told nothing yet.
    fn slice(&mut self, walk: Option<&mut RangeWalk>, start: Iova) -> Option<Slice> {
        let mut runs = Vec::new();
        let mut last = Iova(u64::MAX);
        if let Some(walk) = walk {
            let before = walk.counts().tables;
            let progress = walk.advance(self.memory.as_ref(), &self.capabilities, SLICE, &mut runs);
            let read = walk.counts().tables - before;
            self.tables = self.tables.saturating_sub(read.max(1));
            if let Progress::More(next) = progress {
                if next <= start {
                    return None;
                }
                last = Iova(next.0 - 1);
            }
        }
        Some(Slice {
            range: IovaRange::new(start, last)?,
            runs,
        })
    }

    /// Compares a slice with what the host has of it; returns where the guest maps nothing.
    fn compare(&self, slice: &Slice, collector: &mut Collector) -> Vec<IovaRange> {
        let range = slice.range;
        let state = self.mirror.state();
        let Some(table) = state.tables.get(&self.id) else {
            return Vec::new();
        };
        let held: Vec<Run> = table.ledger.overlapping(range).collect();
        let limits = table.limits.clone();
        drop(state);
        let (wanted, guest) = match self.content {
            Content::Guest(_) | Content::Parent(_) => {
                let runs = slice.runs.iter().filter_map(Run::of_guest).collect();
                let reach = Reach {
                    ram: &self.ram,
                    devices: self.devices,
                };
                let wanted = Wanted::of_copy(&self.content, &slice.runs, &limits, reach);
                (wanted, runs)
            }
            Content::Identity => {
                let wanted = Wanted::identity(&limits, &self.ram);
                let runs = wanted.runs.clone();
                (wanted, runs)
            }
            Content::Nothing | Content::Nested(_) => (Wanted::default(), Vec::new()),
        };
        collector.add(range, &guest, wanted, &held)
    }
}
