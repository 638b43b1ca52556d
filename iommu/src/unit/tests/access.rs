// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The access type of every bit of the register page, against a table of raw masks.

use super::*;

/// One 32-bit word of the register page.
#[derive(Clone, Copy, Default)]
struct Word {
    offset: u64,
    reset: u32,
    /// Bits that read back what was written.
    rw: u32,
    /// Bits that are cleared by writing 1.
    w1c: u32,
    /// Bits that are stored but read as 0.
    hidden: u32,
    /// Bits that start something: not written here.
    command: u32,
}

const fn ro(offset: u64, reset: u32) -> Word {
    Word {
        offset,
        reset,
        rw: 0,
        w1c: 0,
        hidden: 0,
        command: 0,
    }
}

const fn rw(offset: u64, rw: u32) -> Word {
    Word {
        rw,
        ..ro(offset, 0)
    }
}

const fn w1c(offset: u64, w1c: u32) -> Word {
    Word {
        w1c,
        ..ro(offset, 0)
    }
}

const IM: u32 = 0x8000_0000;

/// A legacy unit with interrupt remapping, EIM and eight fault recording registers. What is not named is reserved.
const WORDS: [Word; 40] = [
    ro(0x00, 0x10),
    ro(0x08, 0x222f_0606),
    ro(0x0c, 0x00d2_078c),
    ro(0x10, 0x00f0_0fdb),
    Word {
        command: u32::MAX,
        ..ro(0x18, 0)
    },
    ro(0x1c, 0),
    rw(0x20, 0xffff_fc00),
    rw(0x24, 0xffff_ffff),
    Word {
        hidden: 0xffff_0000,
        ..rw(0x28, 0xffff_ffff)
    },
    Word {
        hidden: 0x3,
        command: 0x8000_0000,
        ..rw(0x2c, 0x6000_0003)
    },
    w1c(0x34, 0x71),
    Word {
        reset: IM,
        ..rw(0x38, IM)
    },
    rw(0x3c, 0xffff),
    rw(0x40, 0xffff_fffc),
    rw(0x44, 0xffff_ffff),
    ro(0x80, 0),
    ro(0x84, 0),
    rw(0x88, 0x7_fff0),
    rw(0x90, 0xffff_f807),
    rw(0x94, 0xffff_ffff),
    w1c(0x9c, 1),
    Word {
        reset: IM,
        ..rw(0xa0, IM)
    },
    rw(0xa4, 0xffff),
    rw(0xa8, 0xffff_fffc),
    rw(0xac, 0xffff_ffff),
    ro(0xb0, 0),
    ro(0xb4, 0),
    rw(0xb8, 0xffff_f80f),
    rw(0xbc, 0xffff_ffff),
    Word {
        hidden: 0xffff_f07f,
        ..rw(0xf0, 0xffff_f07f)
    },
    Word {
        hidden: 0xffff_ffff,
        ..rw(0xf4, 0xffff_ffff)
    },
    Word {
        command: 0x8000_0000,
        ..rw(0xfc, 0x3003_ffff)
    },
    w1c(0x22c, 0x8000_0000),
    w1c(0x23c, 0x8000_0000),
    w1c(0x24c, 0x8000_0000),
    w1c(0x25c, 0x8000_0000),
    w1c(0x26c, 0x8000_0000),
    w1c(0x27c, 0x8000_0000),
    w1c(0x28c, 0x8000_0000),
    w1c(0x29c, 0x8000_0000),
];

fn word(offset: u64) -> Word {
    let found = WORDS.iter().find(|word| word.offset == offset);
    found.copied().unwrap_or(ro(offset, 0))
}

fn pair(word: impl Fn(u64) -> u32, offset: u64) -> u64 {
    u64::from(word(offset + 4)) << 32 | u64::from(word(offset))
}

/// What a word reads as after `value` was written to it in its reset state.
fn after_write(word: Word, value: u32) -> u32 {
    (word.reset & !word.rw | value & word.rw) & !word.hidden
}

#[test]
fn every_word_reads_its_reset_value_at_both_widths() {
    let bench = Bench::new();
    for offset in (0..0x1000).step_by(4) {
        assert_eq!(bench.r32(offset), word(offset).reset, "{offset:#x}");
    }
    for offset in (0..0x1000).step_by(8) {
        let expected = pair(|offset| word(offset).reset, offset);
        assert_eq!(bench.r64(offset), expected, "{offset:#x}");
    }
}

#[test]
fn every_bit_is_writable_exactly_where_it_should_be() {
    for offset in (0..0x1000).step_by(4) {
        let word = word(offset);
        let bench = Bench::new();
        for bit in (0..32).map(|bit| 1 << bit) {
            for value in [bit & !word.command, !bit & !word.command] {
                bench.w32(offset, value);
                let expected = after_write(word, value);
                assert_eq!(bench.r32(offset), expected, "{value:#x} to {offset:#x}");
            }
        }
    }
}

#[test]
fn every_bit_is_writable_exactly_where_it_should_be_in_8_bytes() {
    for offset in (0..0x1000).step_by(8) {
        let (low, high) = (word(offset), word(offset + 4));
        let command = pair(|offset| word(offset).command, offset);
        let bench = Bench::new();
        for bit in (0..64).map(|bit| 1u64 << bit) {
            for value in [bit & !command, !bit & !command] {
                bench.w64(offset, value);
                let [low_value, high_value] = [value & 0xffff_ffff, value >> 32];
                let low = after_write(low, u32::try_from(low_value).unwrap());
                let high = after_write(high, u32::try_from(high_value).unwrap());
                let expected = u64::from(high) << 32 | u64::from(low);
                assert_eq!(bench.r64(offset), expected, "{value:#x} to {offset:#x}");
            }
        }
    }
}

/// Every bit is made 1 behind the registers' back, so that bits which only hardware sets are tested too.
#[test]
fn every_bit_is_cleared_by_writing_1_exactly_where_it_should_be() {
    for offset in (0..0x2a0).step_by(4) {
        // Unmasking an event sends it and clears IP: see the tests of events.
        if matches!(offset, 0x18 | 0x38 | 0xa0) {
            continue;
        }
        let word = word(offset);
        for bit in (0..32).map(|bit| 1u32 << bit) {
            let bench = Bench::new();
            let at = u16::try_from(offset).unwrap();
            bench.unit.shell().state.registers.set_dword(at, u32::MAX);
            let value = bit & !word.command;
            bench.w32(offset, value);
            let expected = (!word.rw | value) & !(word.w1c & value) & !word.hidden;
            assert_eq!(bench.r32(offset), expected, "{value:#x} to {offset:#x}");
        }
    }
}

#[test]
fn write_only_bits_are_kept_although_they_read_as_0() {
    let bench = Bench::new();
    bench.w32(0x28, 0x01fb_0007);
    bench.w64(0xf0, 0x1234_5000_0000_1043);
    let state = &bench.unit.shell().state;
    assert_eq!(state.registers.dword(0x28), 0x01fb_0007);
    assert_eq!(state.registers.qword(0xf0), 0x1234_5000_0000_1043);
}

#[test]
fn upper_addresses_and_eime_are_reserved_without_eim() {
    let bench = Bench::with(&LegacyOptions {
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    });
    for (offset, expected) in [(0x44, 0), (0xac, 0), (0xb8, 0xffff_f00f)] {
        bench.w32(offset, u32::MAX);
        assert_eq!(bench.r32(offset), expected, "{offset:#x}");
    }
}

#[test]
fn interrupt_table_address_is_reserved_without_interrupt_remapping() {
    let bench = Bench::with(&LegacyOptions {
        interrupt_remapping: false,
        extended_interrupt_mode: false,
        ..LegacyOptions::default()
    });
    bench.w64(0xb8, u64::MAX);
    assert_eq!(bench.r64(0xb8), 0);
}

#[test]
fn queue_registers_are_reserved_without_queued_invalidation() {
    let cap = Capabilities::legacy(&LegacyOptions::default())
        .unwrap()
        .cap();
    let ecap = crate::spec::regs::Ecap::new().with_iro(0xf);
    let recorder = Arc::new(Recorder::default());
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap());
    let outputs = Outputs {
        events: Arc::clone(&recorder) as _,
        interrupts: Arc::clone(&recorder) as _,
    };
    let capabilities = Capabilities::new(cap, ecap, 48).unwrap();
    let bench = Bench {
        unit: Unit::new(capabilities, Arc::clone(&ram) as _, outputs),
        ram,
        recorder,
    };
    for offset in (0x80..0xc0).step_by(8) {
        bench.w64(offset, u64::MAX);
        assert_eq!(bench.r64(offset), 0, "{offset:#x}");
    }
    assert_eq!(bench.r32(0x34), 0);
    bench.w32(0x18, 0x0400_0000);
    assert_eq!(bench.r32(0x1c), 0);
}

#[test]
fn registers_without_capability_are_absent() {
    let bench = Bench::new();
    // AFLOG, PMEN and its ranges, the page request block, MTRRs, performance monitoring, enhanced and virtual commands.
    for offset in [
        0x58, 0x64, 0x68, 0x6c, 0x70, 0x78, 0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0x100, 0x300, 0x400,
        0xe00,
    ] {
        bench.w32(offset, u32::MAX);
        assert_eq!(bench.r32(offset), 0, "{offset:#x}");
    }
}

#[test]
fn access_of_odd_size_or_alignment_reads_ones_and_writes_nothing() {
    let bench = Bench::new();
    for (offset, len) in [
        (0x20, 1),
        (0x20, 2),
        (0x21, 4),
        (0x22, 4),
        (0x24, 8),
        (0x20, 3),
        (0x20, 0),
        (0x20, 16),
        (0x1000, 4),
        (0x1000, 8),
        (u64::MAX - 3, 4),
        (u64::MAX - 7, 8),
    ] {
        let mut data = vec![0x55; len];
        bench.unit.read(offset, &mut data);
        assert_eq!(data, vec![0xff; len], "{len} bytes at {offset:#x}");
        bench.unit.write(offset, &vec![0xff; len]);
        assert_eq!(bench.r64(0x20), 0);
    }
    assert_eq!(bench.unit.counters().bad_accesses, 24);
}

#[test]
fn reset_restores_every_byte() {
    let bench = Bench::with_queue();
    let read_all = || {
        (0..0x1000)
            .step_by(4)
            .map(|offset| bench.r32(offset))
            .collect::<Vec<_>>()
    };
    let cold = Bench::new();
    for offset in (0..0x1000).step_by(4).filter(|&offset| offset != 0x18) {
        bench.w32(offset, 0x7fff_ffff);
    }
    bench.fault(0x10, 0x1000, Access::Read);
    bench.w32(0x18, 0xc380_0000);
    bench.unit.reset();
    let expected: Vec<u32> = (0..0x1000)
        .step_by(4)
        .map(|offset| cold.r32(offset))
        .collect();
    assert_eq!(read_all(), expected);
    assert_eq!(bench.unit.shell().state, cold.unit.shell().state);
}
