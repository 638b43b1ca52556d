// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the structures of one table say of each other.

use super::{Dmar, DmarError, Drhd, Scope, ScopeKind, Structure};
use crate::address::PAGE_SIZE;
use std::collections::{BTreeMap, BTreeSet};

impl Dmar {
    /// Checks the units against each other, and what refers to them.
    pub(super) fn check(&self) -> Result<(), DmarError> {
        let units: Vec<&Drhd> = self
            .structures
            .iter()
            .filter_map(|structure| match structure {
                Structure::Drhd(drhd) => Some(drhd),
                _ => None,
            })
            .collect();
        check_order(&units)?;
        check_registers(&units)?;
        check_scopes(&units)?;
        for structure in &self.structures {
            if let Structure::Rhsa(rhsa) = structure
                && units.iter().all(|unit| unit.registers != rhsa.registers)
            {
                return Err(DmarError::NoSuchUnit(rhsa.registers.0));
            }
        }
        Ok(())
    }
}

/// No unit comes after the one that includes the rest of its segment.
fn check_order(units: &[&Drhd]) -> Result<(), DmarError> {
    let mut complete = BTreeMap::new();
    for unit in units {
        if complete.insert(unit.segment, unit.include_pci_all) == Some(true) {
            return Err(DmarError::NotLast(unit.segment));
        }
    }
    Ok(())
}

/// No two register blocks overlap: software claims each whole one.
fn check_registers(units: &[&Drhd]) -> Result<(), DmarError> {
    let mut blocks: Vec<(u64, u64)> = units
        .iter()
        .map(|unit| {
            let bytes = PAGE_SIZE.checked_shl(unit.size.into()).unwrap_or(u64::MAX);
            let base = unit.registers.0;
            (base, base.saturating_add(bytes - 1))
        })
        .collect();
    blocks.sort_unstable();
    match blocks.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
        Some(pair) => Err(DmarError::RegisterOverlap(pair[1].0)),
        None => Ok(()),
    }
}

/// Nothing is listed by two units. IOAPICs and HPETs are known by their numbers, everything else by its place.
fn check_scopes(units: &[&Drhd]) -> Result<(), DmarError> {
    let mut known = BTreeSet::new();
    for unit in units {
        for scope in &unit.scopes {
            if !known.insert(identity(unit.segment, scope)) {
                return Err(DmarError::TwoUnits(scope.kind));
            }
        }
    }
    Ok(())
}

fn identity(segment: u16, scope: &Scope) -> (u8, u16, u8, Vec<(u8, u8)>) {
    match scope.kind {
        ScopeKind::Ioapic | ScopeKind::Hpet | ScopeKind::Namespace => {
            (scope.kind as u8, 0, scope.enumeration_id, Vec::new())
        }
        ScopeKind::Endpoint | ScopeKind::Bridge => {
            let path = scope.path.iter().map(|hop| (hop.device, hop.function));
            (0, segment, scope.start_bus, path.collect())
        }
    }
}
