// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt remapping (Interrupt Remapping): from a request of a device or an IOAPIC to the message for the processors.
//! Pure functions; [`crate::translator`] applies them in the order of this file and keeps entries between. What posting does
//! to memory is the last step and [`posted`]'s.

pub mod posted;

use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::ids::SourceId;
use crate::memory::{PhysMem, load_entry};
use crate::msi::MsiMessage;
use crate::spec::interrupt_request::{
    ADDRESS_HEAD, MessageAddress, MessageData, RequestAddress, RequestData,
};
use crate::spec::irte::{
    ENTRY_SIZE, Irte, IrteHigh, IrteLow, PostedIrteHigh, PostedIrteLow, VALIDATE_BUS,
    VALIDATE_NOTHING, VALIDATE_SOURCE,
};
use crate::translate::Blocked;
use crate::translator::{InterruptMode, InterruptTable};
use posted::Posting;
use vm_memory::GuestAddress;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// It passes unchanged.
    Unchanged,
    /// It goes through an entry of this table.
    Remapped {
        /// The table.
        table: InterruptTable,
        /// The entry.
        index: u16,
    },
}

/// Where an interrupt goes that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To the processors, as this message.
    Message(MsiMessage),
    /// Into memory.
    Posted {
        /// What to do there.
        posting: Posting,
        /// The index that the record of a failure shows.
        index: u16,
    },
}

impl Delivery {
    /// The message, if it is one.
    #[must_use]
    pub const fn message(self) -> Option<MsiMessage> {
        match self {
            Self::Message(message) => Some(message),
            Self::Posted { .. } => None,
        }
    }
}

/// An interrupt is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptBlocked {
    /// Why, and whether it is recorded.
    pub blocked: Blocked,
    /// The index that the record shows.
    pub index: u16,
}

/// Decides what a message asks for.
///
/// # Errors
/// The format is blocked, reserved fields are set, or the index lies beyond the table.
pub fn route(mode: &InterruptMode, message: MsiMessage) -> Result<Routing, InterruptBlocked> {
    let Some(table) = mode.table else {
        return Ok(Routing::Unchanged);
    };
    let refuse = |reason, index| {
        Err(InterruptBlocked {
            blocked: Blocked::always(reason),
            index,
        })
    };
    let [low, high] = words(message.address);
    let address = RequestAddress::from_bits(low);
    let data = RequestData::from_bits(message.data);
    if !address.remappable() {
        if mode.compatibility_allowed && !table.extended {
            return Ok(Routing::Unchanged);
        }
        return refuse(FaultReason::CompatibilityBlocked, 0);
    }
    let bad_data = address.subhandle_valid() && data.reserved() != 0;
    if high != 0 || address.head() != ADDRESS_HEAD || bad_data {
        return refuse(FaultReason::InterruptRequestReserved, 0);
    }
    let subhandle = if address.subhandle_valid() {
        data.subhandle()
    } else {
        0
    };
    // The sum does not wrap: an index that needs 17 bits lies beyond every table.
    match address.handle().checked_add(subhandle) {
        Some(index) if u32::from(index) < table.entries => Ok(Routing::Remapped { table, index }),
        index => refuse(
            FaultReason::InterruptIndexBeyondTable,
            index.unwrap_or(u16::MAX),
        ),
    }
}

/// Reads entry `index` of `table` and checks it. What it returns is valid for every requester that [`validate`] passes.
///
/// # Errors
/// The entry lies beyond the host address width, is no memory, not present, or has reserved bits set.
pub fn read_entry<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    table: &InterruptTable,
    index: u16,
) -> Result<Irte, Blocked> {
    let offset = u64::from(index) * ENTRY_SIZE;
    let address = GuestAddress(table.table.0.saturating_add(offset));
    if !capabilities.is_host_address(address) {
        return Err(Blocked::always(FaultReason::InterruptIndexBeyondTable));
    }
    let [low, high] =
        load_entry(memory, address).map_err(|_| Blocked::always(FaultReason::IrteUnreadable))?;
    let entry = Irte {
        low: IrteLow::from_bits(low),
        high: IrteHigh::from_bits(high),
    };
    let fpd = entry.low.fault_processing_disabled();
    if !entry.low.present() {
        return Err(Blocked::qualified(FaultReason::IrteNotPresent, fpd));
    }
    if has_reserved_bits(entry, capabilities, table.extended) {
        return Err(Blocked::qualified(FaultReason::IrteReserved, fpd));
    }
    Ok(entry)
}

/// Whether a present entry sets bits that are reserved. IM is one of them where posting is not offered.
fn has_reserved_bits(entry: Irte, capabilities: &Capabilities, extended: bool) -> bool {
    if entry.low.posted() {
        let low = PostedIrteLow::from_bits(entry.low.into_bits());
        let high = PostedIrteHigh::from_bits(entry.high.into_bits());
        return !capabilities.posted_interrupts()
            || low.reserved_0() != 0
            || low.reserved_1() != 0
            || low.reserved_2() != 0
            || high.reserved() != 0;
    }
    let destination = entry.low.destination();
    entry.low.reserved_0() != 0
        || entry.low.reserved_1() != 0
        || entry.high.reserved() != 0
        || !extended && destination & !0xff00 != 0
}

/// Checks that `source` may use `entry`. A reserved validation type passes nobody.
///
/// # Errors
/// It may not.
pub fn validate(entry: Irte, source: SourceId) -> Result<(), Blocked> {
    let named = entry.high.source();
    let valid = match entry.high.validation_type() {
        VALIDATE_NOTHING => true,
        VALIDATE_SOURCE => {
            let ignored: u16 = match entry.high.source_qualifier() {
                0b00 => 0b000,
                0b01 => 0b100,
                0b10 => 0b110,
                _ => 0b111,
            };
            source.0 & !ignored == named & !ignored
        }
        VALIDATE_BUS => {
            let [start, end] = named.to_be_bytes();
            (start..=end).contains(&source.bus())
        }
        _ => false,
    };
    if valid {
        Ok(())
    } else {
        let fpd = entry.low.fault_processing_disabled();
        Err(Blocked::qualified(FaultReason::SourceValidation, fpd))
    }
}

/// Where an interrupt through entry `index` goes. Without extended mode the destination has 8 bits.
#[must_use]
pub fn deliver(entry: Irte, index: u16, extended: bool) -> Delivery {
    if entry.low.posted() {
        let posting = Posting::of(entry, extended);
        return Delivery::Posted { posting, index };
    }
    let entry = entry.low;
    let destination = if extended {
        entry.destination()
    } else {
        entry.destination() >> 8 & 0xff
    };
    let data = MessageData::new()
        .with_vector(entry.vector())
        .with_delivery_mode(entry.delivery_mode())
        .with_assert(true)
        .with_level_triggered(entry.level_triggered());
    let message = message(destination, data);
    let address = MessageAddress::from_bits(message.address)
        .with_redirection_hint(entry.redirection_hint())
        .with_logical(entry.logical());
    Delivery::Message(MsiMessage {
        address: address.into_bits(),
        ..message
    })
}

/// A message to one processor by its APIC id.
fn message(destination: u32, data: MessageData) -> MsiMessage {
    let [destination_low, ..] = destination.to_le_bytes();
    let address = MessageAddress::new()
        .with_head(ADDRESS_HEAD)
        .with_destination_low(destination_low)
        .with_destination_high(destination >> 8);
    MsiMessage {
        address: address.into_bits(),
        data: data.into_bits(),
    }
}

/// The low and the high half of a word.
const fn words(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
