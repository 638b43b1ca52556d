// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The architectural state of the unit as one plain value, and what a register write does to it at once.
//!
//! No lock, no cache, no memory: a write returns what is to be done outside. Writes that start an operation (GCMD, CCMD,
//! IOTLB) are only stored here; [`crate::command`] and [`crate::register_invalidation`] carry them out.

use crate::ats::Failures;
use crate::capabilities::Capabilities;
use crate::event::Event;
use crate::msi::MsiMessage;
use crate::queue::{QueueError, QueueSetup};
use crate::registers::{RegisterMap, Registers};
use crate::spec::regs::{
    CompletionStatus, FaultStatus, GlobalStatus, InterruptTableAddress, QueueAddress,
    QueueErrorRecord, RootTableAddress, offset,
};
use crate::translator::{InterruptMode, InterruptTable, RootPointer};

/// The registers, and what the commands took over from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The registers.
    pub(crate) registers: Registers,
    /// What the last SRTP took from RTADDR.
    pub(crate) root: RootPointer,
    /// What the last SIRTP took from IRTA.
    pub(crate) interrupt_table: InterruptTable,
    /// What the last QIE took from IQA.
    pub(crate) queue: QueueSetup,
    /// Index of the fault recording register that the next fault goes to.
    pub(crate) next_record: u16,
}

/// What is to be done after a write, once no lock is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// A message to send.
    pub(crate) message: Option<MsiMessage>,
    /// The queue stopped with an error.
    pub(crate) queue_error: Option<QueueError>,
}

impl Outcome {
    const fn sending(message: Option<MsiMessage>) -> Self {
        Self {
            message,
            queue_error: None,
        }
    }
}

impl State {
    /// The state after power-on.
    pub(crate) fn cold(map: &RegisterMap, caps: &Capabilities) -> Self {
        Self {
            registers: map.cold(),
            root: RootPointer::taken_from(RootTableAddress::new()),
            interrupt_table: InterruptTable::taken_from(InterruptTableAddress::new(), caps),
            queue: QueueSetup::new(QueueAddress::new()),
            next_record: 0,
        }
    }

    /// How DMA is translated where GSTS is `status`; `None` for not at all.
    pub(crate) fn translation(&self, status: GlobalStatus) -> Option<RootPointer> {
        status.tes().then_some(self.root)
    }

    /// How interrupts are treated where GSTS is `status`.
    pub(crate) fn interrupt_mode(&self, status: GlobalStatus) -> InterruptMode {
        InterruptMode {
            table: status.ires().then_some(self.interrupt_table),
            compatibility_allowed: status.cfis(),
        }
    }

    /// Stores a 32-bit write to byte `offset` and does what it does at once.
    pub(crate) fn write(
        &mut self,
        map: &RegisterMap,
        caps: &Capabilities,
        offset: u16,
        value: u32,
    ) -> Outcome {
        map.write(&mut self.registers, offset, value);
        match offset {
            offset::FSTS => self.fault_status_written(),
            offset::FECTL => Outcome::sending(Event::FAULT.send(&mut self.registers, caps)),
            offset::IECTL if caps.queued_invalidation() => {
                Outcome::sending(Event::COMPLETION.send(&mut self.registers, caps))
            }
            offset::PECTL if caps.page_requests() => {
                Outcome::sending(Event::PAGE_REQUEST.send(&mut self.registers, caps))
            }
            offset::PRS if caps.page_requests() => self.page_status_written(),
            offset::ICS => self.completion_status_written(),
            offset::IQA => self.queue_address_written(caps),
            _ if map.is_fault_word(offset) => self.fault_record_written(map),
            _ => Outcome::default(),
        }
    }

    /// Stops the queue: sets IQE with its code, and raises the fault event.
    pub(crate) fn stop_queue(&mut self, error: QueueError, caps: &Capabilities) -> Outcome {
        let before = self.registers.fault_status();
        self.registers.set_fault_status(before.with_iqe(true));
        let record = QueueErrorRecord::from_bits(self.registers.qword(offset::IQERCD));
        self.registers
            .set_qword(offset::IQERCD, record.with_iqei(error.code()).into_bits());
        Outcome {
            message: self.raise_fault_event(before, caps),
            queue_error: Some(error),
        }
    }

    /// Notes that devices did not invalidate as they were told: a silent one stops the queue (ITE), a wrong answer does not
    /// (ICE). The record keeps the first device until software clears the status.
    pub(crate) fn device_tlb_failed(&mut self, failures: Failures, caps: &Capabilities) -> Outcome {
        let before = self.registers.fault_status();
        let mut record = QueueErrorRecord::from_bits(self.registers.qword(offset::IQERCD));
        let mut status = before;
        if let Some(source) = failures.late.filter(|_| !before.ite()) {
            status.set_ite(true);
            record.set_itesid(source.0);
        }
        if let Some(source) = failures.wrong.filter(|_| !before.ice()) {
            status.set_ice(true);
            record.set_icesid(source.0);
        }
        if status == before {
            return Outcome::default();
        }
        self.registers.set_fault_status(status);
        self.registers.set_qword(offset::IQERCD, record.into_bits());
        Outcome::sending(self.raise_fault_event(before, caps))
    }

    /// Raises the fault event for a cause that has occurred, unless another was pending `before`.
    pub(crate) fn raise_fault_event(
        &mut self,
        before: FaultStatus,
        caps: &Capabilities,
    ) -> Option<MsiMessage> {
        if before.pending() {
            return None;
        }
        Event::FAULT.raise(&mut self.registers, caps)
    }

    /// Notes that a wait descriptor which asks for an interrupt has completed.
    pub(crate) fn complete_wait(&mut self, caps: &Capabilities) -> Option<MsiMessage> {
        let status = CompletionStatus::from_bits(self.registers.dword(offset::ICS));
        if status.iwc() {
            return None;
        }
        self.registers
            .set_dword(offset::ICS, status.with_iwc(true).into_bits());
        Event::COMPLETION.raise(&mut self.registers, caps)
    }

    fn fault_status_written(&mut self) -> Outcome {
        let status = self.registers.fault_status();
        let record = QueueErrorRecord::from_bits(self.registers.qword(offset::IQERCD));
        let record = record
            .with_iqei(if status.iqe() { record.iqei() } else { 0 })
            .with_itesid(if status.ite() { record.itesid() } else { 0 })
            .with_icesid(if status.ice() { record.icesid() } else { 0 });
        self.registers.set_qword(offset::IQERCD, record.into_bits());
        self.drop_served_event();
        Outcome::default()
    }

    fn fault_record_written(&mut self, map: &RegisterMap) -> Outcome {
        let holds_fault = self.any_fault_recorded(map);
        let status = self.registers.fault_status().with_ppf(holds_fault);
        self.registers.set_fault_status(status);
        self.drop_served_event();
        Outcome::default()
    }

    /// A fault event that is still held back is not due any more once software has cleared every condition.
    fn drop_served_event(&mut self) {
        if !self.registers.fault_status().pending() {
            Event::FAULT.cancel(&mut self.registers);
        }
    }

    fn completion_status_written(&mut self) -> Outcome {
        if !CompletionStatus::from_bits(self.registers.dword(offset::ICS)).iwc() {
            Event::COMPLETION.cancel(&mut self.registers);
        }
        Outcome::default()
    }

    fn queue_address_written(&mut self, caps: &Capabilities) -> Outcome {
        let address = QueueAddress::from_bits(self.registers.qword(offset::IQA));
        if address.dw() && !caps.wide_descriptors() {
            return self.stop_queue(QueueError::Width, caps);
        }
        Outcome::default()
    }
}
