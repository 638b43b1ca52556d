// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of passed-through devices as a target of DMA: the parts of BARs that the guest has as memory, where it sees them now.
//!
//! Host tables that lead there are compared anew when that changes. A host that cannot map such memory has it left out and
//! counted.

use super::content::Content;
use super::wanted::Reach;
use super::{Mirror, State};
use crate::ram::{RamError, RamRegion};
use iommu::address::IovaRange;

impl Mirror {
    /// Memory of devices is at `regions` from now on, and nowhere else. To be called before the memory leaves this process:
    /// nothing maps what is no longer there when this returns, unless the host refused ([`Mirror::still_reachable`]). Guests'
    /// tables are walked, so whoever calls holds nothing that a follower's caller waits for.
    ///
    /// # Errors
    /// A region overlaps another one or RAM. Nothing changes.
    pub fn set_device_memory(&self, regions: Vec<RamRegion>) -> Result<(), RamError> {
        let mut state = self.state();
        let after = state.ram.with_devices(regions)?;
        let before = state.ram.devices();
        // What is elsewhere in the process by now must go, although the guest sees it where it was.
        let stays = before
            .iter()
            .filter(|region| after.devices().contains(region));
        let stays: Vec<RamRegion> = stays.copied().collect();
        let goes = stays.len() != before.len();
        let comes = stays.len() != after.devices().len();
        if goes {
            state.ram = state.ram.with_devices(stays)?;
            state.ask_all();
            state = self.carry_out(state);
        }
        if comes {
            state.ram = after;
            state.ask_all();
            state = self.carry_out(state);
        }
        let news = state.news(None);
        drop(state);
        self.tell(news);
        Ok(())
    }
}

impl State {
    /// All copies of guest tables are to be compared.
    fn ask_all(&mut self) {
        let copies = |content: &&Content| matches!(content, Content::Guest(_));
        let contents: Vec<Content> = self.contents.keys().filter(copies).copied().collect();
        for content in contents {
            self.ask(content, [IovaRange::ALL]);
        }
    }

    /// What mappings may lead to.
    pub fn reach(&self) -> Reach<'_> {
        Reach {
            ram: &self.ram,
            devices: self.host.features().device_memory,
        }
    }
}
