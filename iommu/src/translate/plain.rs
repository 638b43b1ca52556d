// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The usual walk: one stage, and nothing to change in its entries.
//!
//! It finds what [`super::paging::Paging::walk`] finds, by the same walks of each stage, or nothing. Faults, nested tables,
//! and accessed and dirty bits that are still to be set are left to that one, which walks afresh.

use super::paging::{Found, Stages, beyond, in_place};
use super::rights::{is_in_interrupt_range, user_perms};
use crate::address::Iova;
use crate::memory::PhysMem;
use crate::request::{Access, Perms};
use crate::walk::trail::Unset;
use crate::walk::{Tables, Waypoint, first_stage, second_stage};

/// Walks for `address`, which a request without privilege accesses, and tells the rights besides execution. `start` is where
/// an earlier walk in the same region came by.
#[inline(always)]
pub fn walk<M: PhysMem + ?Sized>(
    tables: &Tables<'_, M>,
    stages: &Stages,
    address: Iova,
    access: Access,
    start: Option<Waypoint>,
) -> Option<(Found, Perms)> {
    let mut unset = Unset::default();
    let found = match stages {
        Stages::First(first) if first.is_canonical(address.0) => {
            let leaf =
                first_stage::walk(tables, first, address.0, start, &mut unset, in_place).ok()?;
            unset.0 |= !leaf.is_accessed();
            Found::of_first(&leaf)
        }
        Stages::Second(second) if !beyond(tables.capabilities, second, address.0) => {
            let leaf = second_stage::walk(tables, second, address.0, start, &mut unset).ok()?;
            Found::of_second(&leaf)
        }
        _ => return None,
    };
    let perms = user_perms(found.page.rights(), access)?;
    if unset.0 || is_in_interrupt_range(found.page) {
        return None;
    }
    Some((found, perms))
}
