// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest says now of a device and its PASIDs: functions of the root pointer, the capabilities and memory.
//!
//! Whatever would make requests fault blocks them, for whatever reason.

use super::{Attachment, Domain};
use crate::capabilities::Capabilities;
use crate::ids::{DomainId, Pasid, SourceId};
use crate::memory::PhysMem;
use crate::translate::Blocked;
use crate::translate::context::{self, Route};
use crate::translate::paging::Stages;
use crate::translate::pasid::{self, Binding};
use crate::translate::rights::Rules;
use crate::translate::scalable::{self, ScalableContext};
use crate::translator::{RootPointer, TableMode};

/// The guest's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) memory: &'a dyn PhysMem,
    pub(crate) capabilities: &'a Capabilities,
    /// `None` while translation is disabled.
    pub(crate) root: Option<RootPointer>,
}

/// What requests of one kind go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) to: Attachment,
    /// The tag of the entry that says so, if there is one.
    pub(crate) domain: Option<DomainId>,
    /// Faults are not recorded (FPD).
    pub(crate) silent: bool,
}

impl Seen {
    /// Where nothing is translated.
    pub(crate) const UNCHANGED: Self = Self {
        to: Attachment::Identity,
        domain: None,
        silent: false,
    };

    const fn blocked(blocked: Blocked) -> Self {
        Self {
            to: Attachment::Blocked,
            domain: None,
            silent: !blocked.record,
        }
    }

    /// The tag by which invalidations of tables name it.
    pub(crate) const fn tables(&self) -> Option<DomainId> {
        match self.to {
            Attachment::Domain(domain) => Some(domain.id),
            _ => None,
        }
    }
}

/// What a context says of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DeviceContext {
    /// All there is to say: in legacy mode, or where there is no valid context.
    Whole(Seen),
    /// PASID entries say the rest.
    Scalable(ScalableContext),
}

impl Guest<'_> {
    /// How the tables are read; `None` while translation is disabled.
    pub(crate) fn mode(&self) -> Option<TableMode> {
        self.root.map(|root| root.mode)
    }

    /// The context of `source`.
    pub(crate) fn context(&self, source: SourceId) -> DeviceContext {
        let Some(root) = self.root else {
            return DeviceContext::Whole(Seen::UNCHANGED);
        };
        let (memory, capabilities) = (self.memory, self.capabilities);
        match root.mode {
            TableMode::Legacy => {
                let found = context::lookup(memory, capabilities, root.table, source);
                DeviceContext::Whole(found.entry.map_or_else(Seen::blocked, |context| Seen {
                    to: match context.route() {
                        Route::PassThrough => Attachment::Identity,
                        Route::SecondStage(stage) => Attachment::Domain(Domain::new(
                            context.word.domain_id(),
                            Stages::Second(stage),
                            Rules::new(),
                            false,
                            capabilities,
                        )),
                    },
                    domain: Some(context.word.domain_id()),
                    silent: context.word.fault_processing_disabled(),
                }))
            }
            TableMode::Scalable if capabilities.scalable_mode() => {
                let found = scalable::lookup(memory, capabilities, root.table, source);
                match found.entry {
                    Ok(context) => DeviceContext::Scalable(context),
                    Err(blocked) => DeviceContext::Whole(Seen::blocked(blocked)),
                }
            }
            _ => DeviceContext::Whole(Seen {
                to: Attachment::Blocked,
                ..Seen::UNCHANGED
            }),
        }
    }

    /// What requests without PASID go through.
    pub(crate) fn without_pasid(&self, context: &DeviceContext) -> Seen {
        let context = match context {
            DeviceContext::Whole(seen) => return *seen,
            DeviceContext::Scalable(context) => context,
        };
        let binding = context
            .pasid_of(self.capabilities, None)
            .and_then(|pasid| pasid::lookup(self.memory, self.capabilities, context, pasid).entry);
        binding.map_or_else(Seen::blocked, |binding| {
            let mut seen = self.seen(&binding, binding.word.rid_privilege());
            if binding.word.rid_privilege() && !binding.word.rules().supervisor() {
                seen.to = Attachment::Blocked;
            }
            seen
        })
    }

    /// What requests with `pasid` go through; `None` when they are blocked.
    pub(crate) fn with_pasid(&self, context: &ScalableContext, pasid: Pasid) -> Option<Seen> {
        let found = pasid::lookup(self.memory, self.capabilities, context, pasid);
        Some(self.seen(&found.entry.ok()?, false))
    }

    /// What a PASID entry says.
    pub(super) fn seen(&self, binding: &Binding, privileged: bool) -> Seen {
        let to = binding.stages().map_or(Attachment::Identity, |stages| {
            let domain = Domain::new(
                binding.word.domain_id(),
                stages,
                binding.word.rules(),
                privileged,
                self.capabilities,
            );
            Attachment::Domain(domain.of_entry(binding.word.entry_pasid()))
        });
        Seen {
            to,
            domain: Some(binding.word.domain_id()),
            silent: binding.word.fault_processing_disabled(),
        }
    }
}
