// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks that QEMU's intel-iommu (7.2) is known to get wrong. With `oracle=qemu` they count as skipped.

/// Whether the list names this check.
pub fn excepts(group: &str, name: &str) -> bool {
    QEMU.iter().any(|&(in_group, pattern)| {
        in_group == group
            && pattern
                .strip_prefix('*')
                .map_or(pattern == name, |ending| name.ends_with(ending))
    })
}

/// Group and check; a name that begins with `*` stands for all that end so.
const QEMU: &[(&str, &str)] = &[
    // Reads of IQA show the base that was latched at the last QIE.
    ("registers", "widths: IQA"),
    (
        "registers",
        "writable: IQA keeps address and size, not bits 10:3",
    ),
    // The upper halves of event addresses are read-only even with EIM.
    ("registers", "writable: FEUADDR with EIM only"),
    ("registers", "writable: IEUADDR with EIM only"),
    // CFI is ignored.
    ("handshakes", "CFI sets CFIS"),
    // Aborts QEMU.
    (
        "queue",
        "interrupt: a wait with status and interrupt does both",
    ),
    // Raises IQE.
    ("queue", "wait: fence alone is no error"),
    // IQERCD is not there.
    ("queue-errors", "*: IQERCD"),
    (
        "queue-errors",
        "interrupt entry reserved bit stops the queue",
    ),
    // Goes on only at the next tail write.
    ("queue-errors", "recovery: clearing IQE resumes at IQH"),
    // IQE is set, but the queue can't be disabled any more.
    ("queue-errors", "unreadable queue: IQE"),
    // ICC and IVT stay set.
    (
        "register-invalidation",
        "CCMD: refused while the queue is on",
    ),
    (
        "register-invalidation",
        "IOTLB: refused while the queue is on",
    ),
    // The table mode is not looked at, nor the width of a pass-through context.
    ("faults", "table mode 10: 0x30"),
    ("faults", "table mode 01 without scalable mode: 0x30"),
    (
        "faults",
        "pass-through with a width that is not the largest: 0x4",
    ),
    // No interrupt remapping fault is recorded.
    ("interrupt-faults", "*: 0x20"),
    ("interrupt-faults", "*: 0x21"),
    ("interrupt-faults", "*: 0x22"),
    ("interrupt-faults", "*: 0x23"),
    ("interrupt-faults", "*: 0x24"),
    ("intremap", "*: 0x25"),
    ("interrupt-faults", "*: 0x26"),
    // A posted entry is taken for a remapped one.
    ("interrupt-faults", "posted without CAP.PI: no interrupt"),
    // The bus range is read with its bytes reversed.
    ("interrupt-faults", "SVT 10: start bus is the high byte"),
    // Compatibility format is always let through.
    ("intremap", "compatibility format: blocked"),
    ("intremap", "compatibility format with CFI: delivered"),
    (
        "intremap",
        "compatibility format, CFI cleared again: blocked",
    ),
    (
        "intremap",
        "compatibility format with EIME: blocked though CFI is set",
    ),
    // The IOAPIC's source id is not verified.
    ("ioapic", "another source's entry: no interrupt"),
    ("ioapic", "another source's entry: 0x26"),
];
