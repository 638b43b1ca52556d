// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The unit's own interrupts: when they are raised, held back, sent and dropped.

use super::*;
use crate::queue::QueueError;

const FSTS: u64 = 0x34;
const FECTL: u64 = 0x38;
const IECTL: u64 = 0xa0;
const ICS: u64 = 0x9c;
const MASK: u32 = 0x8000_0000;

/// Programs an event the way Linux does: data, address, upper address.
fn program(bench: &Bench, control: u64, data: u32) {
    bench.w32(control + 4, data);
    bench.w32(control + 8, 0xfee0_1000);
    bench.w32(control + 12, 0x0000_0100);
}

fn message(data: u32) -> MsiMessage {
    MsiMessage {
        address: 0x0000_0100_fee0_1000,
        data,
    }
}

fn programmed() -> Bench {
    let bench = Bench::with_queue();
    program(&bench, FECTL, 0x31);
    program(&bench, IECTL, 0x32);
    bench
}

#[test]
fn fault_event_is_sent_at_once_when_unmasked() {
    let bench = programmed();
    bench.w32(FECTL, 0);
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages(), [message(0x31)]);
    assert_eq!(bench.r32(FECTL), 0);
    assert_eq!(bench.unit.counters().events, 1);
}

#[test]
fn fault_event_is_pending_while_masked_and_sent_when_unmasked() {
    let bench = programmed();
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.r32(FECTL), 0xc000_0000);
    bench.w32(FECTL, MASK);
    assert_eq!(bench.messages(), []);
    bench.w32(FECTL, 0);
    assert_eq!(bench.messages(), [message(0x31)]);
    assert_eq!(bench.r32(FECTL), 0);
    bench.w32(FECTL, 0);
    assert_eq!(bench.messages(), [], "sent once");
}

#[test]
fn pending_bit_cannot_be_written() {
    let bench = programmed();
    bench.w32(FECTL, 0x4000_0000);
    assert_eq!(bench.messages(), []);
    bench.fault(0x10, 0x1000, Access::Read);
    bench.messages();
    bench.w32(FECTL, MASK);
    assert_eq!(bench.r32(FECTL), MASK);
}

#[test]
fn fault_event_is_raised_once_until_every_fault_is_cleared() {
    let bench = programmed();
    bench.w32(FECTL, 0);
    bench.fault(0x10, 0x1000, Access::Read);
    bench.fault(0x10, 0x2000, Access::Read);
    assert_eq!(bench.messages().len(), 1);
    bench.w32(0x22c, MASK);
    bench.fault(0x10, 0x3000, Access::Read);
    assert_eq!(bench.messages(), [], "one record still holds a fault");
    bench.w32(0x23c, MASK);
    bench.w32(0x24c, MASK);
    bench.fault(0x10, 0x4000, Access::Read);
    assert_eq!(bench.messages().len(), 1);
}

#[test]
fn pending_event_is_dropped_when_every_record_is_cleared() {
    let bench = programmed();
    bench.fault(0x10, 0x1000, Access::Read);
    bench.fault(0x10, 0x2000, Access::Read);
    bench.w32(0x22c, MASK);
    assert_eq!(bench.r32(FECTL), 0xc000_0000);
    bench.w32(0x23c, MASK);
    assert_eq!(bench.r32(FECTL), MASK);
    bench.w32(FECTL, 0);
    assert_eq!(bench.messages(), []);
}

#[test]
fn queue_error_raises_the_fault_event() {
    let bench = programmed();
    bench.w32(FECTL, 0);
    bench.submit(&[(0x0f, 0)]);
    assert_eq!(bench.messages(), [message(0x31)]);
}

#[test]
fn pending_event_is_dropped_when_the_queue_error_is_cleared() {
    let bench = programmed();
    bench.submit(&[(0x0f, 0)]);
    assert_eq!(bench.r32(FECTL), 0xc000_0000);
    bench.put(0, 0xd2, 0);
    bench.w32(FSTS, 0x10);
    assert_eq!(bench.r32(FECTL), MASK);
}

#[test]
fn cause_while_another_is_pending_raises_nothing() {
    let bench = programmed();
    bench.w32(FECTL, 0);
    bench.submit(&[(0x0f, 0)]);
    assert_eq!(bench.messages().len(), 1);
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.r32(FSTS), 0x12);
    // And the other way round.
    bench.put(0, 0xd2, 0);
    bench.w32(FSTS, 0x10);
    bench.put(1, 0x0f, 0);
    bench.w32(0x88, 0x20);
    assert_eq!(bench.r32(FSTS), 0x12);
    assert_eq!(bench.messages(), []);
}

/// A device may be late (ICE) or silent (ITE): their bits hold back further events like the others.
#[test]
fn each_status_bit_holds_back_further_events() {
    for bit in [0x01, 0x10, 0x20, 0x40] {
        let bench = programmed();
        bench.w32(FECTL, 0);
        bench.unit.shell().state.registers.set_dword(0x34, bit);
        bench.fault(0x10, 0x1000, Access::Read);
        let outcome = bench
            .unit
            .shell()
            .state
            .stop_queue(QueueError::Type, &bench.unit.capabilities);
        assert_eq!(outcome.message, None, "{bit:#x}");
        assert_eq!(bench.messages(), [], "{bit:#x}");
        bench.w32(FSTS, bit | 0x10);
        bench.w32(0x22c, MASK);
        assert_eq!(bench.r32(FSTS), 0, "{bit:#x}");
        bench.fault(0x10, 0x1000, Access::Read);
        assert_eq!(bench.messages().len(), 1, "{bit:#x}");
    }
}

#[test]
fn upper_address_is_not_used_without_eim() {
    let bench = Bench::with(&LegacyOptions {
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    });
    program(&bench, FECTL, 0x31);
    bench.w32(FECTL, 0);
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages()[0].address, 0xfee0_1000);
}

#[test]
fn address_written_in_8_bytes_covers_the_upper_half() {
    let bench = Bench::new();
    bench.w64(0x40, 0x0000_0100_fee0_1000);
    bench.w64(0x38, 0x0000_0031_0000_0000);
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages(), [message(0x31)]);
}

/// The unit's own messages would be blocked by an empty interrupt table if they were remapped.
#[test]
fn own_messages_are_not_remapped() {
    let bench = programmed();
    bench.w64(0xb8, 0x8007);
    bench.w32(0x18, 0x0700_0000);
    bench.w32(FECTL, 0);
    bench.fault(0x10, 0x1000, Access::Read);
    assert_eq!(bench.messages(), [message(0x31)]);
}

#[test]
fn completion_event_is_sent_after_the_status_was_written() {
    let bench = programmed();
    bench.w32(IECTL, 0);
    bench.submit(&[(0x0000_0002_0000_0035, 0x2000)]);
    assert_eq!(bench.messages(), [message(0x32)]);
    assert_eq!(bench.r32(ICS), 1);
    assert_eq!(bench.memory32(0x2000), 2);
}

#[test]
fn completion_event_is_raised_once_until_iwc_is_cleared() {
    let bench = programmed();
    bench.w32(IECTL, 0);
    bench.submit(&[(0x15, 0), (0x15, 0)]);
    assert_eq!(bench.messages().len(), 1);
    bench.w32(ICS, 1);
    assert_eq!(bench.r32(ICS), 0);
    bench.put(2, 0x15, 0);
    bench.w32(0x88, 0x30);
    assert_eq!(bench.messages().len(), 1);
}

#[test]
fn completion_event_is_pending_while_masked_and_sent_when_unmasked() {
    let bench = programmed();
    bench.submit(&[(0x15, 0)]);
    assert_eq!((bench.r32(IECTL), bench.r32(ICS)), (0xc000_0000, 1));
    assert_eq!(bench.messages(), []);
    bench.w32(IECTL, 0);
    assert_eq!(bench.messages(), [message(0x32)]);
    assert_eq!(bench.r32(IECTL), 0);
}

#[test]
fn pending_completion_event_is_dropped_when_iwc_is_cleared() {
    let bench = programmed();
    bench.submit(&[(0x15, 0)]);
    bench.w32(ICS, 1);
    assert_eq!(bench.r32(IECTL), MASK);
    bench.w32(IECTL, 0);
    assert_eq!(bench.messages(), []);
}

#[test]
fn wait_without_interrupt_flag_raises_nothing() {
    let bench = programmed();
    bench.w32(IECTL, 0);
    bench.submit(&[(0x0000_0002_0000_0025, 0x2000), (0x45, 0)]);
    assert_eq!((bench.messages(), bench.r32(ICS)), (vec![], 0));
}
