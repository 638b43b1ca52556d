// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is above the device: its address spaces, translations to cache, and where page requests go.

use iommu::address::{Gpa, Iova, PAGE_SIZE};
use iommu::dma::DmaSpace;
use iommu::ids::Pasid;
use iommu::page_request::{PageRequest, PageRequestOutcome};
use iommu::request::{Access, Request};
use iommu::spec::ats_completion::AtsCompletion;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::GuestAddress;

/// The successful completion of a translation request, for one page of 4096 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Where the page is.
    pub page: Gpa,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Instructions may be fetched from it, which the request asked for.
    pub execute: bool,
    /// It may be used by untranslated requests only, so there is nothing to cache.
    pub untranslated_only: bool,
}

impl Grant {
    /// What the completion of a request for the page at `address` says of that page. The completion may be of a larger range.
    #[must_use]
    pub const fn of(completion: AtsCompletion, address: Iova) -> Self {
        let page = completion.page();
        // The low bits that say how large the range is are the address's own.
        let own = if completion.size() {
            page ^ (page + 1)
        } else {
            0
        };
        let number = page & !own | (address.0 / PAGE_SIZE) & own;
        Self {
            page: GuestAddress(number * PAGE_SIZE),
            read: completion.read(),
            write: completion.write(),
            execute: completion.execute(),
            untranslated_only: completion.untranslated_only(),
        }
    }

    /// Whether `access` is granted, as an instruction fetch if `execute`.
    #[must_use]
    pub const fn allows(&self, access: Access, execute: bool) -> bool {
        (self.read || !access.reads())
            && (self.write || !access.writes())
            && (self.execute || !execute)
    }
}

/// A translation request ended with Unsupported Request or Completer Abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The root complex as the device sees it. It is called with no lock of the device held.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// The device's view of memory with `pasid`; `None` where requests with PASID are not supported.
    fn space(&self, pasid: Pasid) -> Option<Arc<DmaSpace>>;

    /// Answers a translation request for one page. May be called within a section of the device.
    ///
    /// # Errors
    /// The request is not supported, or was aborted. A page without rights is no error.
    fn translation_request(&self, request: &Request) -> Result<Grant, Refused>;

    /// Takes a page request. The answer to a queued one comes by [`iommu::ats::AtsEndpoint::respond`], perhaps before this
    /// returns.
    fn page_request(&self, request: &PageRequest) -> PageRequestOutcome;
}

/// How many spaces of PASIDs are kept.
const KEPT: usize = 128;

/// The address spaces of the device: that without PASID, and those of the PASIDs used last.
#[derive(Debug)]
pub(super) struct Spaces {
    plain: Arc<DmaSpace>,
    upstream: Arc<dyn Upstream>,
    by_pasid: Mutex<VecDeque<(Pasid, Arc<DmaSpace>)>>,
}

impl Spaces {
    pub(super) fn new(plain: Arc<DmaSpace>, upstream: Arc<dyn Upstream>) -> Self {
        Self {
            plain,
            upstream,
            by_pasid: Mutex::default(),
        }
    }

    /// The space without PASID, in which translated requests are made too.
    pub(super) const fn plain(&self) -> &Arc<DmaSpace> {
        &self.plain
    }

    /// The space of `pasid`, if it can be had.
    pub(super) fn get(&self, pasid: Option<Pasid>) -> Option<Arc<DmaSpace>> {
        let Some(pasid) = pasid else {
            return Some(Arc::clone(&self.plain));
        };
        let known = {
            let mut spaces = self.lock();
            let index = spaces.iter().rposition(|(known, _)| *known == pasid);
            index.and_then(|index| spaces.remove(index))
        };
        let (_, space) = match known {
            Some(known) => known,
            None => (pasid, self.upstream.space(pasid)?),
        };
        let mut spaces = self.lock();
        if spaces.len() >= KEPT {
            spaces.pop_front();
        }
        spaces.push_back((pasid, Arc::clone(&space)));
        Some(space)
    }

    /// Waits until every section that is open has ended.
    pub(super) fn quiesce(&self) {
        let spaces: Vec<_> = self.lock().iter().map(|(_, s)| Arc::clone(s)).collect();
        self.plain.quiesce();
        for space in spaces {
            space.quiesce();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Pasid, Arc<DmaSpace>)>> {
        self.by_pasid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grant for the page at 0x1234_5000.
    fn grant(completion: u64) -> (u64, [bool; 4]) {
        let grant = Grant::of(AtsCompletion::from_bits(completion), Iova(0x1234_5000));
        let flags = [
            grant.read,
            grant.write,
            grant.execute,
            grant.untranslated_only,
        ];
        (grant.page.0, flags)
    }

    #[test]
    fn completion_of_any_size_is_cut_down_to_the_page() {
        let table = [
            (0x8765_4001, 0x8765_4000, [true, false, false, false]),
            (0x8765_4802, 0x8765_5000, [false, true, false, false]),
            (0x8760_0009, 0x8760_0000, [true, false, true, false]),
            // 2 MiB: eight ones, then a zero.
            (
                0x8760_0000 | 0xf_f803,
                0x8774_5000,
                [true, true, false, false],
            ),
            (0xfee0_0006, 0xfee0_0000, [false, true, false, true]),
            (0, 0, [false; 4]),
            // All ones: any address.
            (
                0xffff_ffff_ffff_f801,
                0x1234_5000,
                [true, false, false, false],
            ),
        ];
        for (completion, page, flags) in table {
            assert_eq!(grant(completion), (page, flags), "{completion:#x}");
        }
    }
}
