// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of passed-through devices as a target of DMA: the parts of BARs that the guest has as memory, where it sees them now.
//!
//! When that changes, what leads to memory that goes is compared anew, and so are tables of which something led nowhere when
//! memory comes. A host that cannot map such memory has it left out and counted.

use super::content::Content;
use super::table::HostTable;
use super::wanted::Reach;
use super::{Mirror, State};
use crate::ram::{RamError, RamRegion};
use iommu::address::IovaRange;
use std::collections::BTreeSet;

impl Mirror {
    /// Memory of devices is at `regions` from now on, and nowhere else. To be called before the memory leaves this process:
    /// nothing maps what is no longer there when this returns, unless the host refused ([`Mirror::still_reachable`]). Guests'
    /// tables may be walked, so whoever calls holds nothing that a follower's caller waits for under the mirror's lock.
    ///
    /// # Errors
    /// A region overlaps another one or RAM. Nothing changes.
    pub fn set_device_memory(&self, regions: Vec<RamRegion>) -> Result<(), RamError> {
        let mut state = self.state();
        let after = state.ram.with_devices(regions)?;
        if !state.host.features().device_memory {
            state.ram = after;
            return Ok(());
        }
        let before = state.ram.devices();
        let known = |region: &&RamRegion| after.devices().contains(region);
        // What is elsewhere in the process by now must go, although the guest sees it where it was.
        let (stays, gone): (Vec<&RamRegion>, Vec<&RamRegion>) = before.iter().partition(known);
        let stays: Vec<RamRegion> = stays.into_iter().copied().collect();
        let gone: Vec<RamRegion> = gone.into_iter().copied().collect();
        let comes = stays.len() != after.devices().len();
        if !gone.is_empty() {
            state.ram = state.ram.with_devices(stays)?;
            state.ask_leading_to(&gone);
            state = self.carry_out(state);
        }
        if comes {
            state.ram = after;
            state.ask_leading_nowhere();
            state = self.carry_out(state);
        }
        let news = state.news(None);
        drop(state);
        self.tell(news);
        Ok(())
    }
}

impl State {
    /// What leads to memory `gone` is to be compared.
    fn ask_leading_to(&mut self, gone: &[RamRegion]) {
        let mut asked: Vec<(Content, Vec<IovaRange>)> = Vec::new();
        for table in self.copies() {
            let leads = table.ledger.iter().filter(|run| {
                let end = run.gpa.0.saturating_add(run.len());
                gone.iter()
                    .any(|gone| gone.gpa.0 < end && run.gpa.0 < gone.gpa.0 + gone.len)
            });
            let leads: Vec<IovaRange> = leads.map(|run| run.iova).collect();
            if !leads.is_empty() {
                asked.push((table.content, leads));
            }
        }
        for (content, ranges) in asked {
            self.ask(content, ranges);
        }
        self.ask_busy();
    }

    /// Tables of which something led nowhere are to be compared.
    fn ask_leading_nowhere(&mut self) {
        let tables = self.copies().filter(|table| table.leads_nowhere);
        let contents: BTreeSet<Content> = tables.map(|table| table.content).collect();
        for content in contents {
            self.ask(content, [IovaRange::ALL]);
        }
        self.ask_busy();
    }

    /// What somebody works on is planned by where memory was.
    fn ask_busy(&mut self) {
        let copies = |content: &&Content| content.copied().is_some();
        let busy: Vec<Content> = self.busy.iter().filter(copies).copied().collect();
        for content in busy {
            self.ask(content, [IovaRange::ALL]);
        }
    }

    /// Tables with copies of the guest's.
    fn copies(&self) -> impl Iterator<Item = &HostTable> {
        let tables = self.tables.values();
        tables.filter(|table| table.content.copied().is_some())
    }

    /// What mappings may lead to.
    pub fn reach(&self) -> Reach<'_> {
        Reach {
            ram: &self.ram,
            devices: self.host.features().device_memory,
        }
    }
}
