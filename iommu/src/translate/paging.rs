// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From an address to a page: one walk through whatever stages there are, the judgement of what it found, and the accessed
//! and dirty bits that it leaves behind (First-Stage, Second-Stage and Nested Translation).
//!
//! Nested: the top first-stage table, the address in each first-stage entry and the first stage's output are input of the
//! second stage, but are no requests, so that the interrupt range is memory like any other to them. The bits are set after
//! the whole request was allowed, first-stage ones by what the second stage allows to be written.

use super::rights::is_in_interrupt_range;
use crate::address::{Gpa, Iova};
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::memory::PhysMem;
use crate::request::Access;
use crate::walk::first_stage::{self, FirstStage, Fresh, Nested, Place};
use crate::walk::second_stage::{self, SecondStage, WalkError};
use crate::walk::trail::{Stage, Trail, TrailError};
use crate::walk::{Page, Tables, Waypoint};

/// The paging structures that requests go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stages {
    /// The first stage only.
    First(FirstStage),
    /// The second stage only.
    Second(SecondStage),
    /// The first stage, whose addresses the second translates.
    Nested(FirstStage, SecondStage),
}

/// Which codes name the faults of the second stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Those of legacy mode, where an entry that is not present lacks what the access asks for.
    Legacy(Access),
    /// Those of scalable mode.
    Scalable,
}

/// How a walk is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging<'a> {
    /// Through what.
    pub stages: &'a Stages,
    /// Walks are coherent; otherwise no accessed or dirty bit may change.
    pub snooped: bool,
    /// How faults are named.
    pub codes: Codes,
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The page, with its bits set.
    pub page: Page,
    /// The level of the first-stage page that it is a piece of; its own where it is no piece.
    pub whole: u32,
    /// The lowest table of the walk; `None` when the first stage's tables are no host addresses.
    pub table: Option<Waypoint>,
}

/// A walk found no page that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// The request is blocked.
    Fault(FaultReason),
    /// An entry of this stage changed meanwhile: walk again.
    Changed(Stage),
}

impl From<FaultReason> for PagingError {
    fn from(reason: FaultReason) -> Self {
        Self::Fault(reason)
    }
}

impl Paging<'_> {
    /// Checks an address before any table is read.
    ///
    /// # Errors
    /// The stage that it enters has no such address.
    #[inline]
    pub fn check_input(
        &self,
        capabilities: &Capabilities,
        address: Iova,
    ) -> Result<(), FaultReason> {
        match self.stages {
            Stages::First(first) | Stages::Nested(first, _) if !first.is_canonical(address.0) => {
                Err(FaultReason::NotCanonical)
            }
            Stages::Second(second)
                if self.codes == Codes::Scalable && beyond(capabilities, second, address.0) =>
            {
                Err(FaultReason::ScalableBeyondWidth)
            }
            _ => Ok(()),
        }
    }

    /// Walks for `address`, lets `judge` decide whether the page may be used and is to be written, and sets the accessed and
    /// dirty bits. `start` is where an earlier walk in the same region came by.
    ///
    /// # Errors
    /// The page may not be used, or the walk has to be done again.
    #[inline]
    pub fn walk<M: PhysMem + ?Sized>(
        &self,
        tables: &Tables<'_, M>,
        address: Iova,
        start: Option<Waypoint>,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Found, PagingError> {
        match self.stages {
            Stages::Second(second) => self.walk_second(tables, second, address, start, judge),
            Stages::First(first) => self.walk_first(tables, first, address, start, judge),
            Stages::Nested(first, second) => {
                self.walk_nested(tables, first, second, address, judge)
            }
        }
    }

    #[inline(always)]
    fn walk_second<M: PhysMem + ?Sized>(
        &self,
        tables: &Tables<'_, M>,
        second: &SecondStage,
        address: Iova,
        start: Option<Waypoint>,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Found, PagingError> {
        let mut trail = Trail::default();
        let leaf = second_stage::walk(tables, second, address.0, start, &mut trail)
            .map_err(|error| self.codes.second_stage(error))?;
        let found = Found::of_second(&leaf);
        self.settle(tables.memory, found, trail, judge, |write, trail| {
            if write {
                leaf.mark_dirty(trail);
            }
            Ok(())
        })
    }

    #[inline(always)]
    fn walk_first<M: PhysMem + ?Sized>(
        &self,
        tables: &Tables<'_, M>,
        first: &FirstStage,
        address: Iova,
        start: Option<Waypoint>,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Found, PagingError> {
        let mut fresh = Fresh::default();
        let leaf = first_stage::walk(tables, first, address.0, start, &mut fresh, in_place)?;
        let found = Found::of_first(&leaf);
        self.settle(
            tables.memory,
            found,
            Trail::default(),
            judge,
            |write, trail| leaf.mark(&fresh, write, trail),
        )
    }

    /// On its own, so that the walks of one stage need not make room for what this one keeps.
    #[inline(never)]
    fn walk_nested<M: PhysMem + ?Sized>(
        &self,
        tables: &Tables<'_, M>,
        first: &FirstStage,
        second: &SecondStage,
        address: Iova,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Found, PagingError> {
        let mut trail = Trail::default();
        let nested = Through { tables, second };
        let locate = |gpa, top| nested.locate(gpa, top, &mut trail);
        let mut fresh = Fresh::default();
        let outer = first_stage::walk(tables, first, address.0, None, &mut fresh, locate)?;
        let gpa = outer.page.translate(address.0);
        if beyond(tables.capabilities, second, gpa.0) {
            return Err(FaultReason::NestedBeyondWidth.into());
        }
        let inner = second_stage::walk(tables, second, gpa.0, None, &mut trail)
            .map_err(|error| self.codes.second_stage(error))?;
        let found = Found::of_both(&outer, &inner, gpa);
        self.settle(tables.memory, found, trail, judge, |write, trail| {
            outer.mark(&fresh, write, trail)?;
            if write {
                inner.mark_dirty(trail);
            }
            Ok(())
        })
    }

    /// Judges what was found, and sets the bits that `mark` adds to `trail`.
    #[inline]
    fn settle<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        mut found: Found,
        mut trail: Trail,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
        mark: impl FnOnce(bool, &mut Trail) -> Result<(), FaultReason>,
    ) -> Result<Found, PagingError> {
        let write = judge(found.page)?;
        if is_in_interrupt_range(found.page) {
            return Err(self.codes.output().into());
        }
        mark(write, &mut trail)?;
        self.leave(&trail, memory)?;
        let rights = found.page.rights();
        found
            .page
            .set_rights(rights.with_dirty(rights.dirty() || write));
        Ok(found)
    }

    #[inline]
    fn leave<M: PhysMem + ?Sized>(&self, trail: &Trail, memory: &M) -> Result<(), PagingError> {
        if !self.snooped && trail.touches(Stage::First) {
            return Err(FaultReason::FirstStageUpdateNotSnooped.into());
        }
        if !self.snooped && trail.touches(Stage::Second) {
            return Err(FaultReason::SecondStageUpdateNotSnooped.into());
        }
        trail.leave(memory).map_err(|error| match error {
            TrailError::Changed(stage) => PagingError::Changed(stage),
            TrailError::Failed(stage) => update_failed(stage).into(),
        })
    }
}

/// The fault of bits that could not be set.
#[must_use]
pub const fn update_failed(stage: Stage) -> FaultReason {
    match stage {
        Stage::First => FaultReason::FirstStageUpdateFailed,
        Stage::Second => FaultReason::SecondStageUpdateFailed,
    }
}

impl Codes {
    /// What a failed walk of the second stage is.
    fn second_stage(self, error: WalkError) -> FaultReason {
        match self {
            Self::Scalable => match error {
                WalkError::TopUnreadable => FaultReason::SecondStageTopUnreadable,
                WalkError::Unreadable => FaultReason::SecondStageUnreadable,
                WalkError::Reserved => FaultReason::SecondStageReserved,
                WalkError::NotPresent => FaultReason::SecondStageNotPresent,
            },
            Self::Legacy(access) => match error {
                WalkError::TopUnreadable => FaultReason::ContextInvalid,
                WalkError::Unreadable => FaultReason::TableUnreadable,
                WalkError::Reserved => FaultReason::TableReserved,
                WalkError::NotPresent if access.writes() => FaultReason::NoWrite,
                WalkError::NotPresent => FaultReason::NoRead,
            },
        }
    }

    /// What a page in the interrupt range is.
    const fn output(self) -> FaultReason {
        match self {
            Self::Legacy(_) => FaultReason::OutputInInterruptRange,
            Self::Scalable => FaultReason::ScalableOutputInInterruptRange,
        }
    }

    /// What a missing right to write is.
    #[must_use]
    pub const fn no_write(self) -> FaultReason {
        match self {
            Self::Legacy(_) => FaultReason::NoWrite,
            Self::Scalable => FaultReason::ScalableNoWrite,
        }
    }

    /// What a missing right to read is.
    #[must_use]
    pub const fn no_read(self) -> FaultReason {
        match self {
            Self::Legacy(_) => FaultReason::NoRead,
            Self::Scalable => FaultReason::ScalableNoRead,
        }
    }
}

impl Found {
    #[inline]
    pub(super) fn of_second(leaf: &second_stage::Leaf) -> Self {
        Self {
            page: leaf.page,
            whole: leaf.page.level(),
            table: Some(leaf.table),
        }
    }

    #[inline]
    pub(super) fn of_first(leaf: &first_stage::Leaf<Gpa>) -> Self {
        Self {
            page: leaf.page,
            whole: leaf.page.level(),
            table: Some(leaf.table),
        }
    }

    /// The page around `gpa` that both leaves map.
    fn of_both<P: Place>(
        outer: &first_stage::Leaf<P>,
        inner: &second_stage::Leaf,
        gpa: Gpa,
    ) -> Self {
        let level = outer.page.level().min(inner.page.level());
        // Global is what the second stage never says.
        let rights = outer.page.rights().and(inner.page.rights());
        Self {
            page: Page::containing(inner.page.translate(gpa.0).0, level, rights),
            whole: outer.page.level(),
            table: None,
        }
    }
}

/// Where the word of a first-stage table lies when there is no second stage.
#[expect(clippy::unnecessary_wraps, reason = "the walk asks for what may fail")]
pub(super) const fn in_place(gpa: Gpa, _top: bool) -> Result<Gpa, FaultReason> {
    Ok(gpa)
}

/// Whether `address` lies beyond what the second stage translates.
#[inline]
pub(super) fn beyond(capabilities: &Capabilities, second: &SecondStage, address: u64) -> bool {
    address >> second.width(capabilities) != 0
}

/// The second stage as first-stage tables are read through it.
struct Through<'a, M: PhysMem + ?Sized> {
    tables: &'a Tables<'a, M>,
    second: &'a SecondStage,
}

impl<M: PhysMem + ?Sized> Through<'_, M> {
    /// Where the word of a first-stage table lies.
    fn locate(&self, gpa: Gpa, top: bool, trail: &mut Trail) -> Result<Nested, FaultReason> {
        if beyond(self.tables.capabilities, self.second, gpa.0) {
            return Err(FaultReason::FirstStageTableBeyondWidth);
        }
        let no_read = if top {
            FaultReason::FirstStageTopNoRead
        } else {
            FaultReason::FirstStageTableNoRead
        };
        let leaf =
            second_stage::walk(self.tables, self.second, gpa.0, None, trail).map_err(|error| {
                match error {
                    WalkError::NotPresent => no_read,
                    _ => Codes::Scalable.second_stage(error),
                }
            })?;
        if !leaf.page.rights().read() {
            return Err(no_read);
        }
        Ok(Nested {
            gpa: leaf.page.translate(gpa.0),
            through: leaf,
        })
    }
}
