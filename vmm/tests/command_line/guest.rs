// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests of a few instructions.

/// A multiboot image of `code`, loaded and entered at 4 MiB.
pub fn image(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 96];
    let mut put = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x01\x01\x01");
    put(18, &[3, 0]);
    // Entry, and program headers: one of 32 bytes at 52.
    for (at, word) in [(24, 0x40_0000u32), (28, 52), (42, 32), (44, 1)] {
        put(at, &word.to_le_bytes());
    }
    let size = u32::try_from(code.len()).unwrap();
    for (at, word) in (52..)
        .step_by(4)
        .zip([1u32, 96, 0x40_0000, 0x40_0000, size, size, 7, 4])
    {
        put(at, &word.to_le_bytes());
    }
    put(
        84,
        &[0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4],
    );
    file.extend(code);
    file
}
