// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a request may do with a page (First-Stage and Second-Stage Access Rights).
//!
//! A page is kept with the rights of its walk. What they come to depends on the privilege of each request and on the entry
//! that its PASID leads to.

use super::INTERRUPT_RANGE;
use super::paging::Codes;
use super::pasid::Binding;
use crate::fault::FaultReason;
use crate::request::{Access, Perms, Request};
use crate::walk::{Page, PageRights};
use bitfield_struct::bitfield;

/// What a request asks for and under which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it does.
    pub access: Access,
    /// It fetches instructions.
    pub execute: bool,
    /// It has supervisor privilege.
    pub privileged: bool,
    /// The rules for it.
    pub rules: Rules,
    /// How faults are named.
    pub codes: Codes,
}

/// The rules of a PASID entry.
#[bitfield(u8)]
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    /// Requests with supervisor privilege are allowed (SRE).
    pub supervisor: bool,
    /// Instruction fetches are allowed (ERE).
    pub execute: bool,
    /// Supervisor privilege needs the right to write (WPE).
    pub write_protect: bool,
    /// Supervisor privilege may not execute user pages (SMEP).
    pub smep: bool,
    #[bits(4)]
    __: u8,
}

impl Claim {
    /// The claim of a request in legacy mode, where there is neither privilege nor execution.
    #[must_use]
    #[inline]
    pub fn legacy(access: Access) -> Self {
        Self {
            access,
            execute: false,
            privileged: false,
            rules: Rules::new(),
            codes: Codes::Legacy(access),
        }
    }

    /// The claim of a request that goes through `binding`.
    #[must_use]
    #[inline]
    pub fn scalable(request: &Request, binding: &Binding) -> Self {
        let (execute, privileged) = match request.pasid {
            Some(_) => (request.execute, request.privileged),
            None => (false, binding.word.rid_privilege()),
        };
        Self {
            access: request.access,
            execute,
            privileged,
            rules: binding.word.rules(),
            codes: Codes::Scalable,
        }
    }

    /// What the rights of a walk come to for the request; `None` when the page is a supervisor's and the request is a user's.
    #[must_use]
    #[inline]
    pub const fn rights(&self, page: PageRights) -> Option<Perms> {
        if !self.privileged && !page.first_user() {
            return None;
        }
        // Without branches: each of these is a bit at hand.
        let unprotected = self.privileged & !self.rules.write_protect();
        let kept_from = self.privileged & self.rules.smep() & page.first_user();
        Some(Perms {
            read: page.read(),
            write: page.write() & (page.first_write() | unprotected),
            execute: self.rules.execute() & page.execute() & page.first_execute() & !kept_from,
        })
    }

    /// The rights to a page, which cover the claim.
    ///
    /// # Errors
    /// A right is missing; of several, privilege is named first, then to execute, to write and to read.
    #[inline]
    pub fn check(&self, page: PageRights) -> Result<Perms, FaultReason> {
        let perms = self.rights(page).ok_or(FaultReason::UserBlocked)?;
        if self.execute && !perms.execute {
            return Err(FaultReason::NoExecute);
        }
        if self.access.writes() && !perms.write {
            return Err(self.codes.no_write());
        }
        if self.access.reads() && !perms.read {
            return Err(self.codes.no_read());
        }
        Ok(perms)
    }
}

/// The rights to a page of a request without privilege, where they cover `access` and it changes nothing in the tables. Of
/// execution they say what the page does, not what the request's PASID entry does.
#[must_use]
#[inline]
pub const fn user_perms(page: PageRights, access: Access) -> Option<Perms> {
    const READ: PageRights = PageRights::new().with_first_user(true).with_read(true);
    const WRITE: PageRights = PageRights::new()
        .with_first_user(true)
        .with_write(true)
        .with_first_write(true)
        .with_dirty(true);
    let needed = match access {
        Access::Read => READ.into_bits(),
        Access::Write => WRITE.into_bits(),
        Access::Atomic => READ.into_bits() | WRITE.into_bits(),
    };
    if page.into_bits() & needed != needed {
        return None;
    }
    Some(Perms {
        read: page.read(),
        write: page.write() & page.first_write(),
        execute: page.execute() & page.first_execute(),
    })
}

/// Whether a page touches the interrupt range, where no translation may lead.
#[must_use]
pub const fn is_in_interrupt_range(page: Page) -> bool {
    page.gpa().0 <= INTERRUPT_RANGE.1 && page.last().0 >= INTERRUPT_RANGE.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a page says: who needs no privilege and no execution is told what the rules say, or nothing where a write
    /// would change the tables.
    #[test]
    fn user_perms_are_what_the_claim_comes_to() {
        for page in (0..=u8::MAX).map(PageRights::from_bits) {
            for access in [Access::Read, Access::Write, Access::Atomic] {
                let claim = Claim {
                    rules: Rules::new().with_execute(true),
                    ..Claim::legacy(access)
                };
                let changes_nothing = page.into_bits() & 0x80 != 0 || access == Access::Read;
                let expected = claim.check(page).ok().filter(|_| changes_nothing);
                assert_eq!(user_perms(page, access), expected, "{page:?}, {access:?}");
            }
        }
    }
}
