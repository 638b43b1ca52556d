// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One remapping unit as the machine sees it.

use crate::capabilities::Capabilities;
use crate::counters::{Counters, Tally};
use crate::dma::{DmaSpace, Translate};
use crate::fault::Fault;
use crate::ids::{Pasid, Requester, SourceId};
use crate::memory::{PhysMem, Ram};
use crate::msi::{MsiMessage, MsiSink};
use crate::request::{Request, Translation};
use crate::translator::{InterruptMode, Translator};
use std::fmt;
use std::sync::Arc;

/// Hears that interrupts may be remapped differently from now on.
pub trait InterruptListener: fmt::Debug + Send + Sync {
    /// The interrupt table, its entries or its mode changed: routes that were computed before must be computed again, with
    /// [`Unit::peek_remap`], before this returns. Called with no lock held; it must not access the unit's registers.
    fn interrupts_changed(&self);
}

/// Where the unit's own messages and notices go.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Takes the unit's own events. They are not remapped.
    pub events: Arc<dyn MsiSink>,
    /// Hears of changes to interrupt remapping.
    pub interrupts: Arc<dyn InterruptListener>,
}

/// One remapping unit.
#[derive(Debug)]
pub struct Unit {
    capabilities: Arc<Capabilities>,
    translator: Translator,
    outputs: Outputs,
    tally: Tally,
}

impl Unit {
    /// A unit after power-on, with its tables and its queue in `memory`.
    #[must_use]
    pub fn new(
        capabilities: Capabilities,
        memory: Arc<dyn PhysMem>,
        outputs: Outputs,
    ) -> Arc<Self> {
        let capabilities = Arc::new(capabilities);
        Arc::new(Self {
            translator: Translator::new(Arc::clone(&capabilities), memory),
            capabilities,
            outputs,
            tally: Tally::default(),
        })
    }

    /// What the unit can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Reads the registers from byte `offset` on: 4 or 8 bytes, aligned to their number. Anything else reads as ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let value: u64 = match offset {
            0x08 => self.capabilities.cap().into_bits(),
            0x10 => self.capabilities.ecap().into_bits(),
            _ => 0,
        };
        data.fill(0);
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    /// Writes the registers from byte `offset` on: 4 or 8 bytes, aligned to their number. Anything else is ignored.
    pub fn write(&self, _offset: u64, _data: &[u8]) {}

    /// The view of memory of one requester, or of one of its address spaces.
    #[must_use]
    pub fn dma_space(
        self: &Arc<Self>,
        ram: Arc<Ram>,
        requester: Arc<Requester>,
        pasid: Option<Pasid>,
    ) -> Arc<DmaSpace> {
        let translate: Arc<dyn Translate> = Arc::clone(self) as _;
        let space = DmaSpace::translated(ram, requester, pasid, translate);
        self.translator.register(&space);
        space
    }

    /// Remaps an interrupt that is being sent; `None` when it is blocked, which is then recorded.
    pub fn remap(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        self.tally.interrupts.add();
        self.translator
            .remap(source, message)
            .map_err(|fault| self.record(&fault))
            .ok()
    }

    /// What an interrupt would be remapped to, for a route that is computed in advance. Records nothing.
    #[must_use]
    pub fn peek_remap(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        self.translator.remap(source, message).ok()
    }

    /// Puts the unit back to its state after power-on. Waits for what is under way.
    pub fn reset(&self) {
        self.translator.set_translation(None);
        self.translator.set_interrupts(InterruptMode::default());
        self.outputs.interrupts.interrupts_changed();
    }

    /// What the unit has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    fn record(&self, fault: &Fault) {
        self.tally.fault(fault);
    }
}

impl Translate for Unit {
    fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        self.tally.translations.add();
        self.translator
            .translate(request)
            .inspect_err(|fault| self.record(fault))
    }
}
