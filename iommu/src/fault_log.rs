// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Primary fault logging: blocked requests go to the fault recording registers, in a ring.
//!
//! A fault that finds its register occupied is lost, which sets PFO; until software clears PFO all further faults are
//! dropped. The fault event is raised when the first register fills, not for each fault. Pure functions over the state.
//!
//! Not supported: the advanced fault log in memory, and dropping further faults of a source that has one recorded.

use crate::address::Iova;
use crate::capabilities::Capabilities;
use crate::fault::{Fault, FaultSubject};
use crate::msi::MsiMessage;
use crate::registers::RegisterMap;
use crate::request::{Access, AddressType, Request};
use crate::spec::regs::FaultRecord;
use crate::state::State;

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// It is in a register; the message is to be sent.
    Recorded(Option<MsiMessage>),
    /// No register was free for it.
    Lost,
}

impl State {
    /// Records `fault`, which must be one that is to be recorded.
    pub(crate) fn log_fault(
        &mut self,
        fault: &Fault,
        map: &RegisterMap,
        caps: &Capabilities,
    ) -> Logged {
        let status = self.registers.fault_status();
        if status.pfo() {
            return Logged::Lost;
        }
        if self.record(map, self.next_record).f() {
            self.registers.set_fault_status(status.with_pfo(true));
            return Logged::Lost;
        }
        self.set_record(map, self.next_record, record_of(fault));
        let index = self.next_record;
        self.next_record = (index + 1) % map.fault_record_count;
        if status.ppf() {
            return Logged::Recorded(None);
        }
        let fri = u8::try_from(index).unwrap_or(u8::MAX);
        self.registers
            .set_fault_status(status.with_ppf(true).with_fri(fri));
        Logged::Recorded(self.raise_fault_event(status, caps))
    }

    /// Whether some fault recording register holds a fault.
    pub(crate) fn any_fault_recorded(&self, map: &RegisterMap) -> bool {
        (0..map.fault_record_count).any(|index| self.record(map, index).f())
    }

    fn record(&self, map: &RegisterMap, index: u16) -> FaultRecord {
        let offset = map.fault_record(index);
        let low = u128::from(self.registers.qword(offset));
        let high = u128::from(self.registers.qword(offset + 8));
        FaultRecord::from_bits(high << 64 | low)
    }

    fn set_record(&mut self, map: &RegisterMap, index: u16, record: FaultRecord) {
        let bytes = record.into_bits().to_le_bytes();
        for (offset, word) in (map.fault_record(index)..)
            .step_by(4)
            .zip(bytes.chunks_exact(4))
        {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            self.registers.set_dword(offset, word);
        }
    }
}

/// The record of `fault`, with F set.
fn record_of(fault: &Fault) -> FaultRecord {
    let record = FaultRecord::new()
        .with_f(true)
        .with_reason(fault.reason.code());
    match fault.subject {
        FaultSubject::Interrupt { source, index } => {
            record.with_sid(source.0).with_fi(u64::from(index) << 48)
        }
        FaultSubject::Dma(request) => with_request(record, &request),
        FaultSubject::PageRequest(request) => {
            with_request(record, &request).with_t1(false).with_t2(true)
        }
    }
}

fn with_request(record: FaultRecord, request: &Request) -> FaultRecord {
    let Iova(page) = request.address.page();
    let (t1, t2) = match request.access {
        Access::Write => (false, false),
        Access::Read => (true, false),
        Access::Atomic => (true, true),
    };
    let record = record
        .with_sid(request.source.0)
        .with_fi(page)
        .with_t1(t1)
        .with_t2(t2)
        .with_at(match request.address_type {
            AddressType::Untranslated => 0,
            AddressType::TranslationRequest => 1,
            AddressType::Translated => 2,
        });
    match request.pasid {
        Some(pasid) => record
            .with_pp(true)
            .with_pasid(pasid.get())
            .with_exe(request.execute)
            .with_privileged(request.privileged),
        None => record,
    }
}
