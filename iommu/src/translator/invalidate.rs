// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each invalidation drops (Invalidation of Translation Caches).
//!
//! Whatever others are derived from is dropped first, contexts before PASID entries and tables before pages: a request that
//! finds the old one may still keep what it makes of it until then, and no longer once the derived ones are dropped.

use super::Translator;
use crate::invalidation::Invalidation;

impl Translator {
    /// Drops what `batch` names; returns when no DMA section and no interrupt section can still use it.
    pub fn invalidate(&self, batch: &[Invalidation]) {
        let (mut dma, mut interrupts) = (false, false);
        for invalidation in batch {
            self.tally.dropped.add_many(self.drop_named(invalidation));
            if invalidation.names_interrupts() {
                interrupts = true;
            } else if !invalidation.names_device() {
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

    /// Drops all that is remembered of DMA. Returns how many entries that were.
    pub(super) fn drop_translations(&self) -> u64 {
        self.contexts.drop_all()
            + self.scalable_contexts.drop_all()
            + self.bindings.drop_all()
            + self.tables.drop_all()
            + self.iotlb.drop_all()
    }

    fn drop_named(&self, invalidation: &Invalidation) -> u64 {
        match *invalidation {
            Invalidation::ContextGlobal
            | Invalidation::ContextDomain(_)
            | Invalidation::ContextDevice { .. } => self.drop_contexts(invalidation),
            Invalidation::PasidCacheGlobal => self.bindings.drop_all(),
            Invalidation::PasidCacheDomain(domain) => self.bindings.drop_domain(domain),
            Invalidation::PasidCacheOne { domain, pasid } => {
                self.bindings.drop_pasid(domain, pasid)
            }
            Invalidation::IotlbGlobal => self.tables.drop_all() + self.iotlb.drop_all(),
            Invalidation::IotlbDomain(domain) => {
                self.tables.drop_domain(domain) + self.iotlb.drop_domain(domain)
            }
            Invalidation::IotlbPages {
                domain,
                range,
                leaf_only,
            } => {
                let tables = if leaf_only {
                    0
                } else {
                    self.tables.drop_pages(domain, &range)
                };
                tables + self.iotlb.drop_pages(domain, &range)
            }
            Invalidation::PasidIotlbAll { domain, pasid } => {
                self.tables.drop_pasid(domain, pasid) + self.iotlb.drop_pasid(domain, pasid)
            }
            Invalidation::PasidIotlbPages {
                domain,
                pasid,
                range,
                leaf_only,
            } => {
                let tables = if leaf_only {
                    0
                } else {
                    self.tables.drop_pasid_pages(domain, pasid, &range)
                };
                tables + self.iotlb.drop_pasid_pages(domain, pasid, &range)
            }
            Invalidation::DeviceTlb(_) => 0,
            Invalidation::InterruptGlobal => self.entries.drop_all(),
            Invalidation::InterruptIndex { first, count } => self.entries.drop_block(first, count),
        }
    }

    /// Drops contexts and then the PASID entries that were found through them. Contexts of scalable mode name no domain, so
    /// that those of every domain are dropped.
    fn drop_contexts(&self, invalidation: &Invalidation) -> u64 {
        match *invalidation {
            Invalidation::ContextDevice { source, mask, .. } => {
                self.contexts.drop_source(source, mask)
                    + self.scalable_contexts.drop_source(source, mask)
                    + self.bindings.drop_source(source, mask)
            }
            Invalidation::ContextDomain(domain) => {
                self.contexts.drop_domain(domain)
                    + self.scalable_contexts.drop_all()
                    + self.bindings.drop_all()
            }
            _ => {
                self.contexts.drop_all()
                    + self.scalable_contexts.drop_all()
                    + self.bindings.drop_all()
            }
        }
    }
}
