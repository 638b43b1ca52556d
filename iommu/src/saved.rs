// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The whole architectural state of a unit as one plain value: what a snapshot of the machine needs of it.
//!
//! Caches are not part of it, because they may be empty at any moment. Nor is what devices have cached, who listens, or what
//! the counters say. Queued descriptors and page requests stand in guest memory.
//!
//! A value that is restored comes from a file and is checked like one: the unit never gets into a state by it that it could
//! not have got into by itself.

use crate::capabilities::Capabilities;
use crate::event::Event;
use crate::queue::QueueSetup;
use crate::registers::{RegisterMap, Registers};
use crate::spec::regs::{
    EventControl, InterruptTableAddress, QueueAddress, QueueErrorRecord, QueueOffset,
    RootTableAddress, offset,
};
use crate::state::State;
use crate::translator::{InterruptTable, RootPointer};
use serde::{Deserialize, Serialize};

/// What a saved unit means: raised whenever a field changes.
pub const VERSION: u32 = 1;

/// A saved unit. Two are equal exactly when software cannot tell the units apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUnit {
    /// [`VERSION`].
    pub version: u32,
    /// CAP.
    pub cap: u64,
    /// ECAP.
    pub ecap: u64,
    /// Width of guest-physical addresses, bits.
    pub host_address_width: u8,
    /// The registers from offset 0 on, 32 bits each, hidden bits included.
    pub registers: Vec<u32>,
    /// RTADDR as the last SRTP took it.
    pub root: u64,
    /// IRTA as the last SIRTP took it.
    pub interrupt_table: u64,
    /// IQA as the last QIE took it.
    pub queue: u64,
    /// Index of the fault recording register that the next fault goes to.
    pub next_record: u16,
}

/// A saved unit cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was saved by another version.
    #[error("the unit was saved as version {0}, and only version {VERSION} can be restored")]
    Version(u32),
    /// It offers something else.
    #[error(
        "the saved unit offers CAP {cap:#x} and ECAP {ecap:#x} with {width}-bit addresses, this one does not: start it with the same options"
    )]
    Capabilities {
        /// CAP.
        cap: u64,
        /// ECAP.
        ecap: u64,
        /// Width of guest-physical addresses.
        width: u8,
    },
    /// A register is missing, too many, or holds what it cannot hold.
    #[error("the saved unit is damaged: the register at {0:#x} cannot hold what it should")]
    Register(u16),
    /// Two parts contradict each other.
    #[error("the saved unit is damaged: {0}")]
    Contradiction(&'static str),
}

impl State {
    /// The state as a value.
    pub(crate) fn save(&self, caps: &Capabilities) -> SavedUnit {
        SavedUnit {
            version: VERSION,
            cap: caps.cap().into_bits(),
            ecap: caps.ecap().into_bits(),
            host_address_width: caps.host_address_width(),
            registers: self.registers.words().to_vec(),
            root: self.root.address().into_bits(),
            interrupt_table: self.interrupt_table.address().into_bits(),
            queue: self.queue.address().into_bits(),
            next_record: self.next_record,
        }
    }

    /// The state that a value stands for.
    pub(crate) fn restored(
        saved: &SavedUnit,
        map: &RegisterMap,
        caps: &Capabilities,
    ) -> Result<Self, RestoreError> {
        if saved.version != VERSION {
            return Err(RestoreError::Version(saved.version));
        }
        let offered = (caps.cap().into_bits(), caps.ecap().into_bits());
        if (saved.cap, saved.ecap) != offered
            || saved.host_address_width != caps.host_address_width()
        {
            return Err(RestoreError::Capabilities {
                cap: saved.cap,
                ecap: saved.ecap,
                width: saved.host_address_width,
            });
        }
        let registers = map
            .with_words(&saved.registers)
            .map_err(RestoreError::Register)?;
        let state = Self {
            registers,
            root: RootPointer::taken_from(RootTableAddress::from_bits(saved.root)),
            interrupt_table: InterruptTable::taken_from(
                InterruptTableAddress::from_bits(saved.interrupt_table),
                caps,
            ),
            queue: QueueSetup::new(QueueAddress::from_bits(saved.queue)),
            next_record: saved.next_record,
        };
        state
            .check(map)
            .and_then(|()| state.check_latched(saved, caps))
            .map_err(RestoreError::Contradiction)?;
        Ok(state)
    }

    /// Checks that no latched register held bits that it cannot hold.
    fn check_latched(&self, saved: &SavedUnit, caps: &Capabilities) -> Result<(), &'static str> {
        let again = self.save(caps);
        let same = (again.root, again.interrupt_table, again.queue)
            == (saved.root, saved.interrupt_table, saved.queue);
        require(same, "a table pointer has reserved bits set")
    }

    /// Checks what the bits of different registers say of each other.
    fn check(&self, map: &RegisterMap) -> Result<(), &'static str> {
        let registers = &self.registers;
        let count = map.fault_record_count;
        let status = registers.fault_status();
        require(
            self.next_record < count && u16::from(status.fri()) < count,
            "a fault recording register is named that does not exist",
        )?;
        require(
            status.ppf() == self.any_fault_recorded(map),
            "PPF does not tell whether a fault is recorded",
        )?;
        let head = QueueOffset::from_bits(registers.qword(offset::IQH)).units();
        let enabled = registers.global_status().qies();
        require(
            if enabled {
                self.queue.can_hold_head(head)
            } else {
                head == 0
            },
            "the invalidation queue has no descriptor at its head",
        )?;
        let record = QueueErrorRecord::from_bits(registers.qword(offset::IQERCD));
        require(
            (status.iqe() || record.iqei() == 0)
                && (status.ite() || record.itesid() == 0)
                && (status.ice() || record.icesid() == 0),
            "a queue error is described that did not happen",
        )?;
        require(
            [Event::FAULT, Event::COMPLETION, Event::PAGE_REQUEST]
                .iter()
                .all(|event| !is_late(registers, *event)),
            "an event is pending that nothing holds back",
        )
    }
}

/// Whether an event is pending although it may be sent.
fn is_late(registers: &Registers, event: Event) -> bool {
    let control = EventControl::from_bits(registers.dword(event.control_offset()));
    control.ip() && !control.im()
}

fn require(condition: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(otherwise) }
}
