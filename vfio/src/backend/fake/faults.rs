// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Refusals on demand.

use super::super::HostError;
use super::Call;
use iommu::address::IovaRange;

/// Which calls are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Making a table, nested or not.
    Create,
    /// Invalidating a nested table.
    Invalidate,
    /// Giving up a table.
    Destroy,
    /// Saying what a table can hold.
    Limits,
    /// Mapping.
    Map,
    /// Removing, in whatever way.
    Remove,
    /// Attaching.
    Attach,
    /// Detaching.
    Detach,
}

/// Calls that are to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Which.
    pub kind: CallKind,
    /// How.
    pub error: HostError,
    /// Only mapping and removing that touches this range.
    pub range: IovaRange,
    /// How many such calls succeed before.
    pub after: u32,
    /// How many fail then.
    pub times: u32,
}

impl Injection {
    /// Every call of a kind.
    #[must_use]
    pub const fn always(kind: CallKind, error: HostError) -> Self {
        Self {
            kind,
            error,
            range: IovaRange::ALL,
            after: 0,
            times: u32::MAX,
        }
    }

    /// The next call of a kind.
    #[must_use]
    pub const fn once(kind: CallKind, error: HostError) -> Self {
        Self {
            times: 1,
            ..Self::always(kind, error)
        }
    }

    /// Only where the call touches `range`.
    #[must_use]
    pub const fn within(self, range: IovaRange) -> Self {
        Self { range, ..self }
    }

    /// What comes of `call` by this injection.
    pub(super) fn strike(&mut self, call: &Call) -> Option<HostError> {
        let (kind, range) = match call {
            Call::Create(_) | Call::CreateNested(..) => (CallKind::Create, IovaRange::ALL),
            Call::Invalidate(..) => (CallKind::Invalidate, IovaRange::ALL),
            Call::Destroy(_) => (CallKind::Destroy, IovaRange::ALL),
            Call::Limits(_) => (CallKind::Limits, IovaRange::ALL),
            Call::Map(_, run, _) => (CallKind::Map, run.iova),
            Call::Unmap(_, range) | Call::CutOut(_, range) => (CallKind::Remove, *range),
            Call::UnmapAll(_) => (CallKind::Remove, IovaRange::ALL),
            Call::Attach(..) => (CallKind::Attach, IovaRange::ALL),
            Call::Detach(_) => (CallKind::Detach, IovaRange::ALL),
        };
        if kind != self.kind || !range.overlaps(&self.range) || self.times == 0 {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.error)
    }
}
