// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a device is told that asks for a translation (Address Translation Services).
//!
//! A page that is not there or may not be used is no mistake: the device is told that it has no right, nothing is recorded,
//! and it may ask for the page. Tables that cannot be used abort the request, and a device that is not set up for such
//! requests is told that they are not supported; both are recorded.

use super::rights::Claim;
use crate::address::Iova;
use crate::fault::{Fault, FaultReason};
use crate::spec::ats_completion::AtsCompletion;
use crate::walk::Page;

/// The completion of a translation request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtsAnswer {
    /// Success; without R and W there is no translation.
    Translation(AtsCompletion),
    /// Unsupported Request, with the fault if there is one.
    Unsupported(Option<Fault>),
    /// Completer Abort.
    Aborted(Fault),
}

/// What a fault of a translation request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success without any right; not recorded.
    NoTranslation,
    /// Unsupported Request.
    Unsupported,
    /// Completer Abort.
    Abort,
}

/// What `reason` comes to when a translation request meets it.
#[must_use]
pub const fn outcome(reason: FaultReason) -> Outcome {
    use FaultReason as R;
    match reason {
        R::BeyondWidth
        | R::NoWrite
        | R::NoRead
        | R::SupervisorDisabled
        | R::FirstStageNotPresent
        | R::SecondStageNotPresent
        | R::NotCanonical
        | R::UserBlocked
        | R::NoExecute
        | R::ScalableBeyondWidth
        | R::NestedBeyondWidth
        | R::ScalableNoWrite
        | R::ScalableNoRead => Outcome::NoTranslation,
        R::RootNotPresent
        | R::ContextNotPresent
        | R::AtsBlocked
        | R::PasidInLegacyMode
        | R::Aborted
        | R::ScalableRootNotPresent
        | R::ScalableContextNotPresent
        | R::DeviceTlbDisabled
        | R::PasidDisabled
        | R::PasidBeyondDirectory
        | R::RidPasidBeyondDirectory
        | R::PasidDirectoryNotPresent
        | R::PasidNotPresent => Outcome::Unsupported,
        _ => Outcome::Abort,
    }
}

/// A translation request and the rules for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtsClaim {
    /// The rights it asks for.
    pub claim: Claim,
    /// It wants to write. Otherwise the right to write is granted only where a write would change nothing in the tables.
    pub wants_write: bool,
}

impl AtsClaim {
    /// Whether the page is to be marked as written, because the device will not come back before it writes.
    ///
    /// # Errors
    /// There is no right to the page.
    pub fn judge(&self, page: Page) -> Result<bool, FaultReason> {
        let rights = self
            .claim
            .rights(page.rights())
            .ok_or(FaultReason::UserBlocked)?;
        if !rights.read && !rights.write {
            return Err(self.claim.codes.no_read());
        }
        Ok(rights.write && self.wants_write)
    }

    /// The completion for `page`, which was found with [`AtsClaim::judge`].
    #[must_use]
    pub fn completion(&self, page: Page) -> AtsCompletion {
        let rights = self.claim.rights(page.rights()).unwrap_or_default();
        AtsCompletion::of_range(page.gpa(), page.shift())
            .with_read(rights.read)
            .with_write(rights.write && (self.wants_write || page.rights().dirty()))
            .with_execute(rights.execute && self.claim.execute)
            .with_privileged(self.claim.privileged)
            .with_global(page.rights().global())
    }
}

/// The completion for an address that passes unchanged: one page, which is always right.
#[must_use]
pub fn unchanged(address: Iova, claim: &Claim) -> AtsCompletion {
    AtsCompletion::of_range(vm_memory::GuestAddress(address.page().0), 12)
        .with_read(true)
        .with_write(true)
        .with_execute(claim.execute && claim.rules.execute())
        .with_privileged(claim.privileged)
}

/// The completion for the interrupt range: the device is to send its interrupts untranslated.
#[must_use]
pub const fn interrupts(address: Iova) -> AtsCompletion {
    AtsCompletion::of_range(vm_memory::GuestAddress(address.page().0), 12)
        .with_write(true)
        .with_untranslated_only(true)
}
