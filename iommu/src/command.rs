// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The global command register: what each of its bits does, as a plan to carry out with no lock held.
//!
//! Level bits act when they differ from GSTS; one-shot bits act whenever they are written as 1, also when software merely
//! wrote them back. What the capabilities do not offer is ignored. The status bits show the new state only when the plan
//! has been carried out.

use crate::capabilities::Capabilities;
use crate::queue::QueueSetup;
use crate::spec::regs::{
    GlobalCommand, GlobalStatus, InterruptTableAddress, QueueAddress, RootTableAddress, offset,
};
use crate::state::State;
use crate::translator::{InterruptMode, InterruptTable, RootPointer};

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Set the translation to this: `Some(None)` disables it.
    pub(crate) translation: Option<Option<RootPointer>>,
    /// Treat interrupts like this, and tell whoever cached a route.
    pub(crate) interrupts: Option<InterruptMode>,
    /// The queue is switched on or off.
    queue: Option<bool>,
    /// GSTS when all is done.
    status: GlobalStatus,
}

/// Whether `command` switches the queue off, so that what is queued must be done first.
pub(crate) fn disables_queue(state: &State, command: GlobalCommand) -> bool {
    state.registers.global_status().qies() && !command.qie()
}

/// Takes over the pointers that `command` names, and says what else is to be done.
pub(crate) fn begin(state: &mut State, caps: &Capabilities, command: GlobalCommand) -> Plan {
    let old = state.registers.global_status();
    let ir = caps.interrupt_remapping();
    let sirtp = command.sirtp() && ir;
    let status = old
        .with_tes(command.te())
        .with_qies(command.qie() && caps.queued_invalidation())
        .with_ires(command.ire() && ir)
        .with_cfis(command.cfi() && ir)
        .with_rtps(old.rtps() || command.srtp())
        .with_irtps(old.irtps() || sirtp);
    if command.srtp() {
        let address = state.registers.qword(offset::RTADDR);
        state.root = RootPointer::taken_from(RootTableAddress::from_bits(address));
    }
    if sirtp {
        let address = state.registers.qword(offset::IRTA);
        state.interrupt_table =
            InterruptTable::taken_from(InterruptTableAddress::from_bits(address), caps);
    }
    // The pointers are set when the status bits go from 0 to 1.
    state.registers.set_global_status(
        old.with_rtps(old.rtps() && !command.srtp())
            .with_irtps(old.irtps() && !sirtp),
    );
    let translation = (status.tes() != old.tes() || status.tes() && command.srtp())
        .then(|| state.translation(status));
    let remapping = status.ires() != old.ires() || status.cfis() != old.cfis() || sirtp;
    let interrupts =
        (remapping && (status.ires() || old.ires())).then(|| state.interrupt_mode(status));
    Plan {
        translation,
        interrupts,
        queue: (status.qies() != old.qies()).then_some(status.qies()),
        status,
    }
}

/// Shows that the plan has been carried out.
pub(crate) fn finish(state: &mut State, plan: &Plan) {
    if let Some(enable) = plan.queue {
        if enable {
            let address = QueueAddress::from_bits(state.registers.qword(offset::IQA));
            state.queue = QueueSetup::new(address);
        }
        state.set_queue_head(0);
    }
    state.registers.set_global_status(plan.status);
}
