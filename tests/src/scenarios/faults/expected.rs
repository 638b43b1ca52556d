// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel has to log: a row for each request that is refused, in the order in which the guest makes them.

use Kind::{Interrupt, Read, Write};
use Who::{Below, Dmatest, Edu};

/// The device whose request it is.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    Edu,
    /// By its number among those of the root bus that make requests.
    Dmatest(usize),
    /// The dmatest behind the root port.
    Below,
}

/// What kind of line the kernel writes. An atomic operation counts as a read, a page request as a write.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Read,
    Write,
    Interrupt,
}

/// A refused request.
#[derive(Debug)]
pub struct Fault {
    /// Its name in the guest's program.
    pub name: &'static str,
    pub who: Who,
    kind: Kind,
    pasid: Option<u32>,
    /// The page, or the index of an interrupt.
    address: u64,
    /// The specification's code.
    pub reason: u8,
}

impl Fault {
    /// What the kernel has to say, up to the reason's code.
    pub fn line(&self, device: &str) -> String {
        let Self {
            address, reason, ..
        } = self;
        let pasid = match self.pasid {
            Some(pasid) => format!("PASID {pasid:#x}"),
            None => "NO_PASID".to_owned(),
        };
        let (request, place) = match self.kind {
            Read => (format!("DMA Read {pasid}"), "addr"),
            Write => (format!("DMA Write {pasid}"), "addr"),
            Interrupt => ("INTR-REMAP".to_owned(), "index"),
        };
        format!(
            "[{request}] Request device [{device}] fault {place} {address:#x} [fault reason {reason:#04x}]"
        )
    }
}

const fn row(
    name: &'static str,
    who: Who,
    kind: Kind,
    pasid: Option<u32>,
    address: u64,
    reason: u8,
) -> Fault {
    Fault {
        name,
        who,
        kind,
        pasid,
        address,
        reason,
    }
}

const A: Who = Dmatest(0);

const EDU: Fault = row("edu", Edu, Read, None, 0x0bad_1000, 0x71);

/// Groups in scalable mode: the guest's name of the group and its faults.
pub const SCALABLE: &[(&str, &[Fault])] = &[
    ("edu", &[EDU]),
    (
        "unmapped",
        &[
            row("read", A, Read, None, 0x1000_0000, 0x71),
            row("write", A, Write, None, 0x2_3456_7000, 0x71),
            row("atomic", A, Read, Some(0), 0x3000_0000, 0x71),
            row("not-canonical", A, Read, None, 1 << 47, 0x80),
            row("no-pasid-entry", A, Write, Some(5), 0x1000, 0x59),
            row("no-directory-entry", A, Read, Some(0xf_ffff), 0x1000, 0x51),
        ],
    ),
    (
        "roots",
        &[
            row("root-absent", Below, Read, None, 0x5000, 0x39),
            row("root-reserved", Below, Read, None, 0x5000, 0x3a),
            row("context-unreadable", Below, Read, None, 0x5000, 0x40),
            row("context-absent", Below, Read, None, 0x5000, 0x41),
            row("context-reserved", Below, Read, None, 0x5000, 0x42),
            row("context-contradicts", Below, Read, None, 0x5000, 0x43),
            row("directory-unreadable", Below, Read, None, 0x5000, 0x50),
        ],
    ),
    (
        "contexts",
        &[
            row("pasids-disabled", Dmatest(1), Read, Some(9), 0x6000, 0x45),
            row(
                "pasid-beyond-directory",
                Dmatest(2),
                Write,
                Some(0x2000),
                0x6000,
                0x46,
            ),
            row("translation-request", Dmatest(3), Read, None, 0x6000, 0x44),
            row("page-request", Dmatest(4), Write, None, 0x6000, 0x47),
            row(
                "rid-pasid-beyond-directory",
                Dmatest(5),
                Write,
                None,
                0x6000,
                0x48,
            ),
        ],
    ),
    (
        "pasids",
        &[
            row("directory-reserved", A, Read, Some(0x80), 0x7000, 0x52),
            row("table-unreadable", A, Write, Some(0xc1), 0x7000, 0x58),
            row("entry-reserved", A, Read, Some(0x11), 0x7000, 0x5a),
            row("entry-type", A, Write, Some(0x12), 0x7000, 0x5b),
            row("execute-disabled", A, Read, Some(0x13), 0x7000, 0x5c),
            row("supervisor-disabled", A, Write, Some(0x13), 0x7000, 0x5d),
        ],
    ),
    (
        "first",
        &[
            row("first-table-unreadable", A, Read, Some(0x20), 1 << 39, 0x70),
            row("first-reserved", A, Write, Some(0x20), 2 << 39, 0x72),
            row("first-read-only", A, Write, Some(0x20), 0x1000, 0x85),
            row("first-supervisor-page", A, Read, Some(0x20), 0x2000, 0x81),
            row("first-interrupt-range", A, Read, Some(0x20), 0x4000, 0x87),
            row("first-no-execute", A, Read, Some(0x21), 0x3000, 0x82),
            row("first-top-unreadable", A, Write, Some(0x22), 0x1000, 0x73),
        ],
    ),
    (
        "second",
        &[
            row("second-absent", A, Read, Some(0x30), 0x5000, 0x79),
            row(
                "second-table-unreadable",
                A,
                Write,
                Some(0x30),
                1 << 39,
                0x78,
            ),
            row("second-reserved", A, Read, Some(0x30), 2 << 39, 0x7a),
            row("second-read-only", A, Read, Some(0x30), 0x1000, 0x85),
            row("second-write-only", A, Read, Some(0x30), 0x2000, 0x86),
            row("second-beyond-width", A, Write, Some(0x30), 1 << 48, 0x83),
            row("second-top-unreadable", A, Read, Some(0x31), 0x1000, 0x7b),
        ],
    ),
    (
        "nested",
        &[
            row("nested-top-beyond-width", A, Read, Some(0x32), 0, 0x74),
            row("nested-top-unreadable", A, Read, Some(0x33), 0, 0x75),
            row("nested-table-unreadable", A, Write, Some(0x34), 0, 0x76),
            row(
                "nested-output-beyond-width",
                A,
                Read,
                Some(0x34),
                2 << 39 | 0x1000,
                0x84,
            ),
            row(
                "nested-output-absent",
                A,
                Write,
                Some(0x34),
                2 << 39 | 0x2000,
                0x79,
            ),
            row("nested-table-read-only", A, Read, Some(0x35), 0, 0x77),
        ],
    ),
    (
        "interrupts",
        &[
            row("compatibility-format", A, Interrupt, None, 0, 0x25),
            row("reserved-data", A, Interrupt, None, 0, 0x20),
            row("beyond-table", A, Interrupt, None, 0xffff, 0x21),
            row("absent-entry", A, Interrupt, None, 0x1000, 0x22),
            row("reserved-entry", A, Interrupt, None, 0x1001, 0x24),
            row("another-source", A, Interrupt, None, 0x1002, 0x26),
            row("not-a-message", A, Write, None, 0xfee0_0000, 0x29),
        ],
    ),
];

/// Groups in legacy mode.
pub const LEGACY: &[(&str, &[Fault])] = &[
    ("edu", &[row("edu", Edu, Read, None, 0x0bad_1000, 0x06)]),
    (
        "legacy-roots",
        &[
            row("root-absent", Below, Read, None, 0x5000, 0x01),
            row("root-reserved", Below, Read, None, 0x5000, 0x0a),
            row("context-unreadable", Below, Read, None, 0x5000, 0x09),
            row("context-absent", Below, Read, None, 0x5000, 0x02),
            row("context-reserved", Below, Read, None, 0x5000, 0x0b),
            row("context-type", Below, Read, None, 0x5000, 0x03),
        ],
    ),
    (
        "legacy-tables",
        &[
            row("absent", A, Read, None, 0, 0x06),
            row("read-only", A, Write, None, 0x1000, 0x05),
            row("interrupt-range", A, Read, None, 0x4000, 0x0e),
            row("table-unreadable", A, Read, None, 1 << 39, 0x07),
            row("table-reserved", A, Write, None, 2 << 39, 0x0c),
            row("beyond-width", A, Read, None, 1 << 48, 0x04),
        ],
    ),
    (
        "legacy-requests",
        &[
            row("pasid", Dmatest(1), Write, Some(0x123), 0x7000, 0x31),
            row("page-request", Dmatest(2), Write, None, 0x7000, 0x32),
            row("translation-request", Dmatest(3), Read, None, 0x8000, 0x0d),
        ],
    ),
];
