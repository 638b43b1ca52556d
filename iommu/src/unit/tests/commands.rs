// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! GCMD: every bit, in both directions, and the orders in which guests write it.

use super::*;
use crate::command;
use crate::fault::FaultReason;
use crate::spec::regs::GlobalCommand;
use crate::translator::{InterruptTable, RootPointer, TableMode};

fn identity(bench: &Bench) -> Result<u64, FaultReason> {
    let request = Request::untranslated(SourceId(0x10), Iova(0x5000), Access::Read);
    bench
        .unit
        .translate(&request)
        .map(|translation| translation.gpa.0)
        .map_err(|fault| fault.reason)
}

#[test]
fn each_bit_sets_its_status_and_nothing_else() {
    for (command, status) in [
        (1u32 << 31, 1u32 << 31),
        (1 << 30, 1 << 30),
        (1 << 26, 1 << 26),
        (1 << 25, 1 << 25),
        (1 << 24, 1 << 24),
        (1 << 23, 1 << 23),
        // SFL, EAFL and WBF are not offered; the rest is reserved.
        (1 << 29, 0),
        (1 << 28, 0),
        (1 << 27, 0),
        (0x007f_ffff, 0),
    ] {
        let bench = Bench::new();
        bench.w32(0x18, command);
        assert_eq!(bench.r32(0x1c), status, "{command:#x}");
        assert_eq!(bench.r32(0x18), 0);
    }
}

#[test]
fn level_bits_fall_when_written_0_and_one_shot_status_stays() {
    let bench = Bench::new();
    bench.w32(0x18, 0xffff_ffff);
    assert_eq!(bench.r32(0x1c), 0xc780_0000);
    for (command, status) in [
        (0x0780_0000, 0x4780_0000),
        (0x0380_0000, 0x4380_0000),
        (0x0180_0000, 0x4180_0000),
        (0x0000_0000, 0x4100_0000),
    ] {
        bench.w32(0x18, command);
        assert_eq!(bench.r32(0x1c), status, "{command:#x}");
    }
}

#[test]
fn interrupt_bits_are_ignored_without_interrupt_remapping() {
    let bench = Bench::with(&LegacyOptions {
        interrupt_remapping: false,
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    });
    bench.w32(0x18, 0x0380_0000);
    assert_eq!(bench.r32(0x1c), 0);
}

/// kvm-unit-tests writes GSTS back with one more bit, one-shot bits included, and reads GSTS at once.
#[test]
fn unmasked_one_shots_are_issued_again_and_show_at_once() {
    let bench = Bench::new();
    for command in [
        0x0400_0000,
        0x4400_0000,
        0x4500_0000,
        0xc500_0000,
        0xc700_0000,
    ] {
        bench.w32(0x18, command);
        assert_eq!(bench.r32(0x1c), command);
    }
    assert_eq!(bench.r32(0x34), 0);
}

#[test]
fn command_in_8_bytes_is_carried_out() {
    let bench = Bench::new();
    bench.w64(0x18, 0x8000_0000);
    assert_eq!(bench.r64(0x18), 0x8000_0000_0000_0000);
}

#[test]
fn te_switches_translation_on_and_off() {
    let bench = Bench::new();
    assert_eq!(identity(&bench), Ok(0x5000));
    bench.w32(0x18, 0x8000_0000);
    assert_eq!(identity(&bench), Err(FaultReason::RootNotPresent));
    bench.w32(0x18, 0);
    assert_eq!(identity(&bench), Ok(0x5000));
}

#[test]
fn srtp_takes_the_pointer_over_and_rtaddr_alone_does_not() {
    let bench = Bench::new();
    for (rtaddr, table, mode) in [
        (0x12_3000, 0x12_3000, TableMode::Legacy),
        (0x12_3400, 0x12_3000, TableMode::Scalable),
        (
            0xffff_ffff_ffff_f800,
            0xffff_ffff_ffff_f000,
            TableMode::Reserved,
        ),
        (0xc00, 0, TableMode::Abort),
    ] {
        let before = bench.unit.shell().state.root;
        bench.w64(0x20, rtaddr);
        assert_eq!(bench.unit.shell().state.root, before);
        bench.w32(0x18, 0x4000_0000);
        let table = GuestAddress(table);
        assert_eq!(bench.unit.shell().state.root, RootPointer { table, mode });
        assert_eq!(bench.r64(0x20), rtaddr);
    }
}

#[test]
fn srtp_during_translation_switches_tables_at_once() {
    let bench = Bench::new();
    bench.w32(0x18, 0x8000_0000);
    bench.w64(0x20, 0x9000);
    let command = GlobalCommand::from_bits(0xc000_0000);
    let state = &mut bench.unit.shell().state;
    let plan = command::begin(state, &bench.unit.capabilities, command);
    let expected = RootPointer {
        table: GuestAddress(0x9000),
        mode: TableMode::Legacy,
    };
    assert_eq!(plan.translation, Some(Some(expected)));
}

#[test]
fn pointer_status_is_0_until_the_command_is_done() {
    let bench = Bench::new();
    bench.w32(0x18, 0x4100_0000);
    let command = GlobalCommand::from_bits(0x4100_0000);
    let state = &mut bench.unit.shell().state;
    let plan = command::begin(state, &bench.unit.capabilities, command);
    assert_eq!(state.registers.dword(0x1c), 0);
    command::finish(state, &plan);
    assert_eq!(state.registers.dword(0x1c), 0x4100_0000);
}

#[test]
fn sirtp_takes_the_table_over() {
    let bench = Bench::new();
    for (irta, table, entries, extended) in [
        (0x12_3000, 0x12_3000, 2, false),
        (0x12_380f, 0x12_3000, 65536, true),
        (0x12_3807, 0x12_3000, 256, true),
    ] {
        let before = bench.unit.shell().state.interrupt_table;
        bench.w64(0xb8, irta);
        assert_eq!(bench.unit.shell().state.interrupt_table, before);
        bench.w32(0x18, 0x0100_0000);
        let expected = InterruptTable {
            table: GuestAddress(table),
            entries,
            extended,
        };
        assert_eq!(bench.unit.shell().state.interrupt_table, expected);
    }
}

#[test]
fn routes_are_told_of_every_change_that_matters() {
    let bench = Bench::new();
    for (command, changes) in [
        // SIRTP and CFI while interrupts are not remapped change nothing.
        (0x0100_0000, 0),
        (0x0080_0000, 0),
        (0x0000_0000, 0),
        // IRE, SIRTP, CFI set, CFI clear, nothing, IRE clear.
        (0x0200_0000, 1),
        (0x0300_0000, 1),
        (0x0280_0000, 1),
        (0x0200_0000, 1),
        (0x0200_0000, 0),
        (0x0000_0000, 1),
    ] {
        bench.w32(0x18, command);
        assert_eq!(bench.changes(), changes, "{command:#x}");
    }
}

#[test]
fn ire_blocks_what_the_table_does_not_hold() {
    let bench = Bench::new();
    let message = MsiMessage {
        address: 0xfee0_0010,
        data: 0,
    };
    assert_eq!(bench.unit.remap(SourceId(8), message), Some(message));
    bench.w64(0xb8, 0x8007);
    bench.w32(0x18, 0x0300_0000);
    assert_eq!(bench.unit.peek_remap(SourceId(8), message), None);
    assert_eq!(bench.r32(0x34), 0, "peeking records nothing");
    assert_eq!(bench.unit.remap(SourceId(8), message), None);
    assert_eq!(bench.r32(0x34), 2);
    assert_eq!(bench.r32(0x22c), 0x8000_0022);
    bench.w32(0x18, 0);
    assert_eq!(bench.unit.remap(SourceId(8), message), Some(message));
}

#[test]
fn qie_takes_the_queue_over_and_iqa_alone_does_not() {
    let bench = Bench::with_queue();
    bench.w64(0x90, 0x8001);
    bench.submit(&[(0x11, 0)]);
    assert_eq!(bench.unit.counters().context_invalidations, 1);
    bench.w32(0x18, 0);
    bench.w32(0x88, 0x1ff0);
    bench.w32(0x18, 0x0400_0000);
    // The new queue has 512 descriptors, all of them of type 0.
    assert_eq!(bench.r64(0xb0), 3);
}

#[test]
fn qie_with_a_tail_starts_at_once() {
    let bench = Bench::new();
    bench.w64(0x90, QUEUE);
    bench.submit(&[(0x11, 0), (0xd2, 0)]);
    assert_eq!(bench.r64(0x80), 0);
    assert_eq!(bench.unit.counters().context_invalidations, 0);
    bench.w32(0x18, 0x0400_0000);
    assert_eq!(bench.r64(0x80), 0x20);
    assert_eq!(bench.unit.counters().context_invalidations, 1);
}

#[test]
fn qie_clear_resets_the_head_and_stops_processing() {
    let bench = Bench::with_queue();
    bench.submit(&[(0x11, 0), (0x11, 0)]);
    assert_eq!(bench.r64(0x80), 0x20);
    bench.w32(0x18, 0);
    assert_eq!(bench.r32(0x1c), 0);
    assert_eq!(bench.r64(0x80), 0);
    bench.w32(0x88, 0x30);
    assert_eq!(bench.r64(0x80), 0);
    assert_eq!(bench.unit.counters().context_invalidations, 2);
}

#[test]
fn qie_clear_works_while_the_queue_is_stopped_by_an_error() {
    let bench = Bench::with_queue();
    bench.submit(&[(0x0f, 0)]);
    assert_eq!(bench.r32(0x34), 0x10);
    bench.w32(0x18, 0);
    assert_eq!(bench.r32(0x1c), 0);
    assert_eq!(bench.r64(0x80), 0);
}

#[test]
fn reset_tells_routes_and_lets_everything_through() {
    let bench = Bench::new();
    bench.w32(0x18, 0x8200_0000);
    bench.changes();
    bench.unit.reset();
    assert_eq!(bench.changes(), 1);
    assert_eq!(identity(&bench), Ok(0x5000));
}
