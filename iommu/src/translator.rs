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
//! Not supported: scalable mode, translation requests of devices.

mod counters;
mod mode;

pub use counters::TranslatorCounters;
pub use mode::{InterruptMode, InterruptTable, RootPointer, TableMode};

use crate::address::Gpa;
use crate::cache::Stamp;
use crate::cache::context::ContextCache;
use crate::cache::interrupt::InterruptCache;
use crate::cache::iotlb::{Iotlb, Space};
use crate::capabilities::Capabilities;
use crate::dma::DmaSpace;
use crate::fault::{Fault, FaultReason, FaultSubject};
use crate::ids::SourceId;
use crate::interrupt::{self, InterruptBlocked, Routing};
use crate::invalidation::Invalidation;
use crate::memory::PhysMem;
use crate::msi::MsiMessage;
use crate::request::{Request, Translation};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock, RwLockReadGuard};
use crate::translate::context::{Context, Route, lookup};
use crate::translate::{self, Blocked, check_page, check_rights};
use crate::walk::second_stage::{Table, walk};
use counters::Tally;
use mode::RootWord;
use std::sync::{Arc, PoisonError, Weak};

/// How much is remembered, in entries. Each is rounded up to a power of two of at least 4; 0 remembers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSizes {
    /// Context entries.
    pub contexts: usize,
    /// Pages.
    pub pages: usize,
    /// Interrupt remapping table entries.
    pub interrupts: usize,
}

impl CacheSizes {
    /// Nothing is remembered.
    pub const NONE: Self = Self {
        contexts: 0,
        pages: 0,
        interrupts: 0,
    };
}

impl Default for CacheSizes {
    /// About 300 KiB.
    fn default() -> Self {
        Self {
            contexts: 512,
            pages: 8192,
            interrupts: 1024,
        }
    }
}

/// The stamps for what one request reads.
struct Stamps {
    context: Stamp,
    page: Stamp,
}

/// Translates requests and remaps interrupts.
#[derive(Debug)]
pub struct Translator {
    capabilities: Arc<Capabilities>,
    memory: Arc<dyn PhysMem>,
    root: AtomicU64,
    interrupts: RwLock<InterruptMode>,
    contexts: ContextCache,
    iotlb: Iotlb,
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
            iotlb: Iotlb::new(sizes.pages),
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
        let dropped = self.contexts.drop_all() + self.iotlb.drop_all();
        self.tally.dropped.add(dropped);
        self.quiesce();
    }

    /// Sets how interrupts are treated and drops every cached table entry. Returns when no interrupt section can still
    /// deliver what held before.
    pub fn set_interrupts(&self, mode: InterruptMode) {
        *self
            .interrupts
            .write()
            .unwrap_or_else(PoisonError::into_inner) = mode;
        self.tally.dropped.add(self.entries.drop_all());
        self.finish_deliveries();
    }

    /// Translates one request. The answer may be used until the end of the DMA section in which it was asked for.
    ///
    /// # Errors
    /// The request is blocked.
    pub fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        self.dma(request).map_err(|blocked| Fault {
            reason: blocked.reason,
            subject: FaultSubject::Dma(*request),
            record: blocked.record,
        })
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

    /// Remaps one interrupt. The message may be delivered until the end of the interrupt section in which it was asked
    /// for.
    ///
    /// # Errors
    /// The interrupt is blocked.
    pub fn remap(&self, source: SourceId, message: MsiMessage) -> Result<MsiMessage, Fault> {
        self.interrupt(source, message).map_err(|refusal| Fault {
            reason: refusal.blocked.reason,
            subject: FaultSubject::Interrupt {
                source,
                index: refusal.index,
            },
            record: refusal.blocked.record,
        })
    }

    /// Drops what `batch` names; returns when no DMA section and no interrupt section can still use it.
    pub fn invalidate(&self, batch: &[Invalidation]) {
        let (mut dma, mut interrupts) = (false, false);
        for invalidation in batch {
            let dropped = match *invalidation {
                Invalidation::ContextGlobal => self.contexts.drop_all(),
                Invalidation::ContextDomain(domain) => self.contexts.drop_domain(domain),
                Invalidation::ContextDevice { source, mask, .. } => {
                    self.contexts.drop_source(source, mask)
                }
                Invalidation::IotlbGlobal => self.iotlb.drop_all(),
                Invalidation::IotlbDomain(domain) => self.iotlb.drop_domain(domain),
                Invalidation::IotlbPages { domain, range, .. } => {
                    self.iotlb.drop_pages(domain, &range)
                }
                Invalidation::PasidCacheGlobal
                | Invalidation::PasidCacheDomain(_)
                | Invalidation::PasidCacheOne { .. } => self.contexts.drop_all(),
                Invalidation::PasidIotlbAll { domain, .. }
                | Invalidation::PasidIotlbPages { domain, .. } => self.iotlb.drop_domain(domain),
                Invalidation::DeviceTlb(_) => 0,
                Invalidation::InterruptGlobal => self.entries.drop_all(),
                Invalidation::InterruptIndex { first, count } => {
                    self.entries.drop_block(first, count)
                }
            };
            self.tally.dropped.add(dropped);
            if invalidation.names_interrupts() {
                interrupts = true;
            } else {
                dma = true;
            }
        }
        if dma {
            self.quiesce();
        }
        if interrupts {
            self.finish_deliveries();
        }
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
    fn quiesce(&self) {
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

    fn dma(&self, request: &Request) -> Result<Translation, Blocked> {
        let stamps = Stamps {
            context: self.contexts.stamp(),
            page: self.iotlb.stamp(),
        };
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer();
        if translate::is_to_interrupt_range(request) {
            self.interrupt_range(root.is_some())
                .inspect_err(|_| self.tally.refused.add())?;
        }
        let Some(root) = root else {
            self.tally.unchanged.add();
            return Ok(translate::identity(request.address, None));
        };
        translate::check_mode(&self.capabilities, root.mode, request)
            .inspect_err(|_| self.tally.refused.add())?;
        self.context(root.table, request.source, &stamps)
            .and_then(|context| {
                context.admit(request)?;
                match context.route {
                    Route::PassThrough => {
                        self.tally.unchanged_by_context.add();
                        let limit = 1 << context.width;
                        Ok(translate::identity(request.address, Some(limit)))
                    }
                    Route::SecondStage(table) => self
                        .second_stage(&context, table, request, &stamps)
                        .map_err(|reason| {
                            Blocked::qualified(reason, context.fault_processing_disabled)
                        }),
                }
            })
            .inspect_err(|_| self.tally.blocked.add())
    }

    /// A request to the interrupt range is no DMA: with remapping on it is a faulty interrupt, with only translation on it
    /// is aborted.
    fn interrupt_range(&self, translating: bool) -> Result<(), Blocked> {
        let remapping = self.interrupt_mode().table.is_some();
        if remapping || translating {
            return Err(Blocked {
                reason: FaultReason::NotAnInterruptRequest,
                record: remapping,
            });
        }
        Ok(())
    }

    fn context(&self, root: Gpa, source: SourceId, stamps: &Stamps) -> Result<Context, Blocked> {
        if let Some(context) = self.contexts.get(source) {
            return Ok(context);
        }
        self.tally.context_misses.add();
        let found = lookup(&*self.memory, &self.capabilities, root, source);
        self.tally.table_reads.add(found.reads.into());
        let context = found.context?;
        self.contexts.insert(stamps.context, source, &context);
        Ok(context)
    }

    /// A cached page without the right that is asked for is walked again: rights may have been added meanwhile, and a
    /// fault is always fresh.
    fn second_stage(
        &self,
        context: &Context,
        table: Table,
        request: &Request,
        stamps: &Stamps,
    ) -> Result<Translation, FaultReason> {
        let space = Space {
            domain: context.domain,
            pasid: None,
        };
        if let Some(page) = self.iotlb.get(space, request.address)
            && check_rights(page.perms, request.access).is_ok()
        {
            self.tally.page_hits.add();
            return Ok(translate::answer(&page, request.address));
        }
        let walked = walk(&*self.memory, &self.capabilities, table, request.address);
        self.tally.table_reads.add(walked.reads.into());
        let page = walked
            .page
            .map_err(|error| translate::legacy_reason(error, request.access))?;
        check_page(&page, request.access)?;
        self.iotlb
            .insert(stamps.page, space, request.address, &page);
        self.tally.page_misses.add();
        Ok(translate::answer(&page, request.address))
    }

    fn interrupt(
        &self,
        source: SourceId,
        message: MsiMessage,
    ) -> Result<MsiMessage, InterruptBlocked> {
        let stamp = self.entries.stamp();
        let mode = self.interrupt_mode();
        let Routing::Remapped { table, index } = interrupt::route(&mode, message)? else {
            return Ok(message);
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
        Ok(interrupt::deliver(entry, table.extended))
    }

    fn interrupt_mode(&self) -> InterruptMode {
        *self
            .interrupts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
