// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The translator: what requests and interrupts become in the guest's tables, and what is remembered of them (Address
//! Translation, Interrupt Remapping, Caching Translation Information).
//!
//! A thin shell around pure functions. A hit takes no lock. No result that was read before an invalidation can be found
//! after it: whoever reads tables takes the caches' stamps first, then the root pointer, and a cache refuses a result whose
//! stamp is older than a drop. What was found before the drop may still be in use, but only inside a DMA section of a
//! registered space or inside an interrupt section, and whoever drops it returns only when every section that was open has
//! ended.
//!
//! Lock rule: no lock is held while tables are read or sections are waited for. A thread inside a section must not
//! invalidate, or it waits for itself.
//!
//! A batch of invalidations drops contexts before what is derived from them, so that nothing stale is derived again.

mod ats;
mod counters;
mod dma;
mod invalidate;
mod mode;
mod page;
mod short;

pub use counters::TranslatorCounters;
pub use mode::{InterruptMode, InterruptTable, RootPointer, TableMode};

use crate::cache::binding::BindingCache;
use crate::cache::context::ContextCache;
use crate::cache::interrupt::InterruptCache;
use crate::cache::iotlb::Iotlb;
use crate::cache::scalable_context::ScalableContextCache;
use crate::capabilities::Capabilities;
use crate::dma::DmaSpace;
use crate::fault::{Fault, FaultSubject};
use crate::ids::SourceId;
use crate::interrupt::{self, Delivery, InterruptBlocked, Routing};
use crate::memory::PhysMem;
use crate::msi::MsiMessage;
use crate::request::{Request, Translation};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock, RwLockReadGuard};
use crate::translate::Blocked;
use counters::Tally;
use mode::RootWord;
use std::sync::{Arc, PoisonError, Weak};

/// How much is remembered, in entries. Each is rounded up to a power of two of at least 4; 0 remembers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSizes {
    /// Context entries.
    pub contexts: usize,
    /// PASID entries.
    pub pasids: usize,
    /// Pages.
    pub pages: usize,
    /// Tables of the lowest levels, from which a walk can begin.
    pub tables: usize,
    /// Interrupt remapping table entries.
    pub interrupts: usize,
}

impl CacheSizes {
    /// Nothing is remembered.
    pub const NONE: Self = Self {
        contexts: 0,
        pasids: 0,
        pages: 0,
        tables: 0,
        interrupts: 0,
    };
}

impl Default for CacheSizes {
    /// About 450 KiB.
    fn default() -> Self {
        Self {
            contexts: 512,
            pasids: 1024,
            pages: 8192,
            tables: 1024,
            interrupts: 1024,
        }
    }
}

/// Translates requests and remaps interrupts.
#[derive(Debug)]
pub struct Translator {
    capabilities: Arc<Capabilities>,
    memory: Arc<dyn PhysMem>,
    root: AtomicU64,
    interrupts: RwLock<InterruptMode>,
    contexts: ContextCache,
    scalable_contexts: ScalableContextCache,
    bindings: BindingCache,
    iotlb: Iotlb,
    /// The paging-structure cache.
    tables: Iotlb,
    entries: InterruptCache,
    spaces: Mutex<Vec<Weak<DmaSpace>>>,
    /// Held for reading from the remapping of an interrupt to its delivery.
    deliveries: RwLock<()>,
    tally: Tally,
}

/// The right to deliver what [`Translator::remap`] returned, until dropped.
#[derive(Debug)]
pub struct InterruptSection<'a>(
    #[expect(dead_code, reason = "held, not used")] RwLockReadGuard<'a, ()>,
);

impl Translator {
    /// A translator that lets everything through, with caches of the default sizes.
    #[must_use]
    pub fn new(capabilities: Arc<Capabilities>, memory: Arc<dyn PhysMem>) -> Self {
        Self::with_cache_sizes(capabilities, memory, CacheSizes::default())
    }

    /// A translator that lets everything through.
    #[must_use]
    pub fn with_cache_sizes(
        capabilities: Arc<Capabilities>,
        memory: Arc<dyn PhysMem>,
        sizes: CacheSizes,
    ) -> Self {
        Self {
            capabilities,
            memory,
            root: AtomicU64::new(RootWord::of(None).into_bits()),
            interrupts: RwLock::new(InterruptMode::default()),
            contexts: ContextCache::new(sizes.contexts),
            scalable_contexts: ScalableContextCache::new(sizes.contexts),
            bindings: BindingCache::new(sizes.pasids),
            iotlb: Iotlb::new(sizes.pages),
            tables: Iotlb::new(sizes.tables),
            entries: InterruptCache::new(sizes.interrupts),
            spaces: Mutex::new(Vec::new()),
            deliveries: RwLock::new(()),
            tally: Tally::default(),
        }
    }

    /// Enables translation, or disables it with `None`, and drops everything that is cached. Returns when no DMA section
    /// can still use what held before.
    pub fn set_translation(&self, root: Option<RootPointer>) {
        self.root
            .store(RootWord::of(root).into_bits(), Ordering::Release);
        self.tally.dropped.add_many(self.drop_translations());
        self.quiesce();
    }

    /// Where the tables are; `None` while translation is disabled.
    pub(crate) fn root(&self) -> Option<RootPointer> {
        RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer()
    }

    /// Sets how interrupts are treated and drops every cached table entry. Returns when no interrupt section can still
    /// deliver what held before.
    pub fn set_interrupts(&self, mode: InterruptMode) {
        *self
            .interrupts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = mode;
        self.tally.dropped.add_many(self.entries.drop_all());
        self.finish_deliveries();
    }

    /// Translates one request. The answer may be used until the end of the DMA section in which it was asked for.
    ///
    /// # Errors
    /// The request is blocked.
    pub fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        match self.hit(request) {
            Ok(found) => Ok(found),
            Err(miss) => self.miss(request, miss),
        }
    }

    /// Opens a section in which remapped interrupts are delivered. Keep it short: invalidations wait for it. Sections do
    /// not nest on one thread.
    #[must_use]
    pub fn interrupt_section(&self) -> InterruptSection<'_> {
        let guard = self
            .deliveries
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        InterruptSection(guard)
    }

    /// Remaps one interrupt. It may be delivered until the end of the interrupt section in which it was asked for.
    ///
    /// # Errors
    /// The interrupt is blocked.
    pub fn remap(&self, source: SourceId, message: MsiMessage) -> Result<Delivery, Fault> {
        self.interrupt(source, message).map_err(|refusal| {
            let index = refusal.index;
            fault(refusal.blocked, FaultSubject::Interrupt { source, index })
        })
    }

    /// Adds a space whose sections invalidations wait for. Held weakly.
    pub fn register(&self, space: &Arc<DmaSpace>) {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.retain(|known| known.strong_count() != 0);
        spaces.push(Arc::downgrade(space));
    }

    /// What the translator has done so far.
    #[must_use]
    pub fn counters(&self) -> TranslatorCounters {
        self.tally.snapshot()
    }

    /// Waits until every section of a registered space that is open now has ended.
    pub(crate) fn quiesce(&self) {
        let spaces: Vec<_> = self
            .spaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for space in spaces {
            space.quiesce();
        }
    }

    /// Waits until every interrupt section that is open now has ended.
    fn finish_deliveries(&self) {
        drop(
            self.deliveries
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn interrupt(
        &self,
        source: SourceId,
        message: MsiMessage,
    ) -> Result<Delivery, InterruptBlocked> {
        let stamp = self.entries.stamp();
        let mode = self.interrupt_mode();
        let Routing::Remapped { table, index } = interrupt::route(&mode, message)? else {
            return Ok(Delivery::Message(message));
        };
        let refusal = |blocked| InterruptBlocked { blocked, index };
        let entry = if let Some(entry) = self.entries.get(index) {
            self.tally.entry_hits.add();
            entry
        } else {
            self.tally.entry_misses.add();
            let entry = interrupt::read_entry(&*self.memory, &self.capabilities, &table, index)
                .map_err(refusal)?;
            self.entries.insert(stamp, index, entry);
            entry
        };
        interrupt::validate(entry, source).map_err(refusal)?;
        Ok(interrupt::deliver(entry, index, table.extended))
    }

    fn interrupt_mode(&self) -> InterruptMode {
        *self
            .interrupts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault(blocked: Blocked, subject: FaultSubject) -> Fault {
    Fault {
        reason: blocked.reason,
        subject,
        record: blocked.record,
    }
}

#[cfg(test)]
mod tests;
