// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who may ask for pages.

use super::{RootWord, TableMode, Translator};
use crate::fault::FaultReason;
use crate::page_request::PageRequest;
use crate::sync::Ordering;
use crate::translate::Blocked;

impl Translator {
    /// Checks whether software lets the device ask for pages in that address space. Requests while translation is off or
    /// everything is aborted leave no record.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn admit_page_request(&self, _request: &PageRequest) -> Result<(), Blocked> {
        let silent = |reason| Blocked {
            reason,
            record: false,
        };
        let root = RootWord::from_bits(self.root.load(Ordering::Acquire)).pointer();
        let Some(root) = root else {
            return Err(silent(FaultReason::PageRequestInLegacyMode));
        };
        if !self.capabilities.table_mode(root.mode) {
            return Err(Blocked::always(FaultReason::TableModeInvalid));
        }
        match root.mode {
            TableMode::Legacy => Err(Blocked::always(FaultReason::PageRequestInLegacyMode)),
            TableMode::Abort => Err(silent(FaultReason::Aborted)),
            TableMode::Scalable | TableMode::Reserved => {
                Err(Blocked::always(FaultReason::TableModeInvalid))
            }
        }
    }
}
