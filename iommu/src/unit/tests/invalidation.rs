// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CCMD and IVA/IOTLB: granularities, refusals, and the trigger bit.

use super::*;
use crate::invalidation::{FunctionMask, Invalidation};
use crate::register_invalidation as registers;

fn context(bench: &Bench, command: u64) -> u64 {
    bench.w64(0x28, command);
    bench.r64(0x28)
}

fn iotlb(bench: &Bench, address: u64, command: u64) -> u64 {
    bench.w64(0xf0, address);
    bench.w64(0xf8, command);
    bench.r64(0xf8)
}

#[test]
fn context_command_reports_what_was_done() {
    let bench = Bench::new();
    // ICC and CIRG go in; CIRG, CAIG and DID come out.
    for (command, after) in [
        (0xa000_0000_0000_0000, 0x2800_0000_0000_0000),
        (0xc000_0000_0000_0007, 0x5000_0000_0000_0007),
        (0xe000_0003_01fb_0007, 0x7800_0000_0000_0007),
    ] {
        assert_eq!(context(&bench, command), after, "{command:#x}");
    }
    assert_eq!(bench.unit.counters().context_invalidations, 3);
}

#[test]
fn context_command_names_its_target() {
    let bench = Bench::new();
    for (command, expected) in [
        (0x2000_0000_0000_0000, Invalidation::ContextGlobal),
        (
            0x4000_0000_0000_0007,
            Invalidation::ContextDomain(crate::ids::DomainId(7)),
        ),
        (
            0x6000_0002_01fb_0007,
            Invalidation::ContextDevice {
                domain: crate::ids::DomainId(7),
                source: SourceId(0x1fb),
                mask: FunctionMask::Bits21,
            },
        ),
    ] {
        bench.w64(0x28, command);
        let mut shell = bench.unit.shell();
        let asked = registers::begin_context(&mut shell.state);
        assert_eq!(asked, Some(expected));
        assert_eq!(
            shell.state.registers.qword(0x28) >> 63,
            1,
            "busy until done"
        );
        registers::finish_context(&mut shell.state, asked.as_ref());
    }
}

#[test]
fn context_command_in_two_halves_fires_on_the_upper_one() {
    let bench = Bench::new();
    bench.w32(0x28, 0x0001_0007);
    assert_eq!(bench.unit.counters().context_invalidations, 0);
    bench.w32(0x2c, 0xc000_0000);
    assert_eq!(bench.unit.counters().context_invalidations, 1);
    assert_eq!(bench.r64(0x28), 0x5000_0000_0000_0007);
}

#[test]
fn context_command_without_granularity_is_refused() {
    let bench = Bench::new();
    assert_eq!(context(&bench, 0xa000_0000_0000_0000) >> 59 & 3, 1);
    assert_eq!(context(&bench, 0x8000_0000_0000_0000), 0);
    assert_eq!(bench.unit.counters().context_invalidations, 1);
}

#[test]
fn context_command_outside_legacy_mode_is_refused() {
    let bench = Bench::new();
    bench.w64(0x20, 0x400);
    bench.w32(0x18, 0x4000_0000);
    assert_eq!(
        context(&bench, 0xa000_0000_0000_0000),
        0x2000_0000_0000_0000
    );
}

#[test]
fn register_commands_are_refused_while_the_queue_is_enabled() {
    let bench = Bench::with_queue();
    assert_eq!(
        context(&bench, 0xa000_0000_0000_0000),
        0x2000_0000_0000_0000
    );
    assert_eq!(
        iotlb(&bench, 0, 0x9000_0000_0000_0000),
        0x1000_0000_0000_0000
    );
    assert_eq!(bench.unit.counters().context_invalidations, 0);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 0);
    bench.w32(0x18, 0);
    assert_eq!(
        context(&bench, 0xa000_0000_0000_0000),
        0x2800_0000_0000_0000
    );
}

#[test]
fn iotlb_command_reports_what_was_done() {
    let bench = Bench::new();
    // IVT and IIRG go in, with DR, DW and DID; all but IVT comes out, with IAIG.
    for (command, after) in [
        (0x9003_0000_0000_0000, 0x1203_0000_0000_0000),
        (0xa003_0007_0000_0000, 0x2403_0007_0000_0000),
        (0xb003_0007_0000_0000, 0x3603_0007_0000_0000),
    ] {
        assert_eq!(iotlb(&bench, 0, command), after, "{command:#x}");
    }
    let counters = bench.unit.counters();
    assert_eq!(counters.iotlb_invalidations, 2);
    assert_eq!(counters.page_invalidations, 1);
}

#[test]
fn iotlb_command_names_its_target() {
    let bench = Bench::new();
    bench.w64(0xf0, 0x1234_5043);
    bench.w64(0xf8, 0x3000_0007_0000_0000);
    let mut shell = bench.unit.shell();
    let unit = &bench.unit;
    let asked = registers::begin_iotlb(&mut shell.state, &unit.map, &unit.capabilities);
    let range = crate::address::IovaRange::new(Iova(0x1234_0000), Iova(0x1234_7fff)).unwrap();
    assert_eq!(
        asked,
        Some(Invalidation::IotlbPages {
            domain: crate::ids::DomainId(7),
            range,
            leaf_only: true,
        })
    );
    assert_eq!(
        shell.state.registers.qword(0xf8) >> 63,
        1,
        "busy until done"
    );
}

#[test]
fn iotlb_command_in_two_halves_fires_on_the_upper_one() {
    let bench = Bench::new();
    bench.w32(0xf8, 0xffff_ffff);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 0);
    bench.w32(0xfc, 0x9000_0000);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 1);
    assert_eq!(bench.r64(0xf8), 0x1200_0000_0000_0000);
}

#[test]
fn iotlb_command_without_granularity_is_refused() {
    let bench = Bench::new();
    assert_eq!(iotlb(&bench, 0, 0x8000_0000_0000_0000), 0);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 0);
}

/// MAMV is 18.
#[test]
fn iotlb_command_with_too_large_a_mask_is_refused() {
    let bench = Bench::new();
    assert_eq!(iotlb(&bench, 18, 0xb000_0000_0000_0000) >> 57 & 3, 3);
    assert_eq!(iotlb(&bench, 19, 0xb000_0000_0000_0000) >> 57 & 3, 0);
    assert_eq!(iotlb(&bench, 63, 0xb000_0000_0000_0000) >> 57 & 3, 0);
    assert_eq!(bench.unit.counters().page_invalidations, 1);
}
