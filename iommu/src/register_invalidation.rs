// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation through registers: CCMD for the context cache, IVA and IOTLB for the IOTLB.
//!
//! The trigger bit reads as 1 until the invalidation is done; the actual granularity then says what was done, and 0 that the
//! command was refused: while the queue is enabled, for a granularity of 0, or for one that is not offered.

use crate::address::{Iova, IovaRange, PAGE_SIZE};
use crate::capabilities::Capabilities;
use crate::ids::{DomainId, SourceId};
use crate::invalidation::{FunctionMask, Invalidation};
use crate::registers::RegisterMap;
use crate::spec::regs::{ContextCommand, InvalidateAddress, IotlbInvalidate, offset};
use crate::state::State;
use crate::translator::TableMode;

/// Starts the context command: `None` when it is refused.
pub(crate) fn begin_context(state: &mut State) -> Option<Invalidation> {
    let command = ContextCommand::from_bits(state.registers.qword(offset::CCMD));
    let busy = command.with_icc(true).with_caig(0);
    state.registers.set_qword(offset::CCMD, busy.into_bits());
    if state.registers.global_status().qies() || state.root.mode != TableMode::Legacy {
        return None;
    }
    let domain = DomainId(command.did());
    match command.cirg() {
        1 => Some(Invalidation::ContextGlobal),
        2 => Some(Invalidation::ContextDomain(domain)),
        3 => Some(Invalidation::ContextDevice {
            domain,
            source: SourceId(command.sid()),
            mask: FunctionMask::from_field(command.fm()),
        }),
        _ => None,
    }
}

/// Ends the context command, which was carried out as `done`.
pub(crate) fn finish_context(state: &mut State, done: Option<&Invalidation>) {
    let command = ContextCommand::from_bits(state.registers.qword(offset::CCMD));
    let actual = match done {
        Some(Invalidation::ContextGlobal) => 1,
        Some(Invalidation::ContextDomain(_)) => 2,
        Some(Invalidation::ContextDevice { .. }) => 3,
        _ => 0,
    };
    let idle = command.with_icc(false).with_caig(actual);
    state.registers.set_qword(offset::CCMD, idle.into_bits());
}

/// Starts the IOTLB command: `None` when it is refused.
pub(crate) fn begin_iotlb(
    state: &mut State,
    map: &RegisterMap,
    caps: &Capabilities,
) -> Option<Invalidation> {
    let command = IotlbInvalidate::from_bits(state.registers.qword(map.iva + 8));
    let busy = command.with_ivt(true).with_iaig(0);
    state.registers.set_qword(map.iva + 8, busy.into_bits());
    if state.registers.global_status().qies() {
        return None;
    }
    let domain = DomainId(command.did());
    let address = InvalidateAddress::from_bits(state.registers.qword(map.iva));
    match command.iirg() {
        1 => Some(Invalidation::IotlbGlobal),
        2 => Some(Invalidation::IotlbDomain(domain)),
        3 if caps.page_invalidation(address.am()) => Some(Invalidation::IotlbPages {
            domain,
            range: IovaRange::aligned_block(
                Iova(address.page() * PAGE_SIZE),
                u32::from(address.am()),
            ),
            leaf_only: address.ih(),
        }),
        _ => None,
    }
}

/// Ends the IOTLB command, which was carried out as `done`.
pub(crate) fn finish_iotlb(state: &mut State, map: &RegisterMap, done: Option<&Invalidation>) {
    let command = IotlbInvalidate::from_bits(state.registers.qword(map.iva + 8));
    let actual = match done {
        Some(Invalidation::IotlbGlobal) => 1,
        Some(Invalidation::IotlbDomain(_)) => 2,
        Some(Invalidation::IotlbPages { .. }) => 3,
        _ => 0,
    };
    let idle = command.with_ivt(false).with_iaig(actual);
    state.registers.set_qword(map.iva + 8, idle.into_bits());
}
