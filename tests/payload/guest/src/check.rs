// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The verdict lines: one a check, and the sum at the end.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::oracle;
use crate::out;
use crate::vtd::faults::Fault;

static PASSED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
static SKIPPED: AtomicU32 = AtomicU32::new(0);
static ORACLE_IS_QEMU: AtomicBool = AtomicBool::new(false);

/// From now on the checks that QEMU is known to get wrong count as skipped.
pub fn oracle_is_qemu() {
    ORACLE_IS_QEMU.store(true, Ordering::Relaxed);
}

/// Prints the sum and ends the run.
pub fn finish() -> ! {
    let failed = FAILED.load(Ordering::Relaxed);
    let passed = PASSED.load(Ordering::Relaxed);
    out::text("payload: ");
    out::decimal(passed.into());
    out::text(" passed, ");
    out::decimal(failed.into());
    out::text(" failed, ");
    out::decimal(SKIPPED.load(Ordering::Relaxed).into());
    out::text(" skipped\n");
    out::exit(failed == 0 && passed != 0)
}

/// A word of the command line that nobody knows.
pub fn unknown_word(word: &str) {
    FAILED.fetch_add(1, Ordering::Relaxed);
    out::text("FAIL: payload: unknown word on the command line: ");
    out::text(word);
    out::text("\n");
}

/// A failure outside any check: an exception, a panic, a machine that lacks what the payload needs.
pub fn failure(what: &str, details: &[(&str, u64)]) {
    FAILED.fetch_add(1, Ordering::Relaxed);
    out::text("FAIL: payload: ");
    out::text(what);
    for (name, value) in details {
        out::text(" ");
        out::text(name);
        out::text(" ");
        out::hex(*value);
    }
    out::text("\n");
}

/// Says that whoever watches may look into the machine now, and goes on when a key was pressed.
pub fn hold(what: &str) {
    out::text("HOLD: ");
    out::text(what);
    // So whoever reads along knows that the name is whole.
    out::text(".\n");
    if !out::key() {
        failure("no key was pressed", &[]);
    }
}

/// Says how often something happened that the machine counts, too.
pub fn count(what: &str, times: u64) {
    out::text("COUNT: ");
    out::text(what);
    out::text(" ");
    out::decimal(times);
    out::text("\n");
}

/// The checks of one group.
#[derive(Clone, Copy)]
pub struct Checks {
    pub group: &'static str,
    /// What the names of the checks begin with, if anything.
    variant: &'static str,
}

impl Checks {
    pub fn of_group(group: &'static str) -> Checks {
        Checks { group, variant: "" }
    }

    /// The same checks on something else.
    pub fn on(self, variant: &'static str) -> Checks {
        Checks { variant, ..self }
    }

    /// Whether this check is left out with the oracle in use. For checks whose very attempt would derail what follows.
    pub fn excepted(self, name: &str) -> bool {
        ORACLE_IS_QEMU.load(Ordering::Relaxed) && oracle::excepts(self.group, name)
    }

    fn line(self, verdict: &str, name: &str) {
        out::text(verdict);
        out::text(": ");
        out::text(self.group);
        out::text(": ");
        if !self.variant.is_empty() {
            out::text(self.variant);
            out::text(": ");
        }
        out::text(name);
    }

    /// Says that a check did not run, and why.
    pub fn skip(self, name: &str, why: &str) {
        SKIPPED.fetch_add(1, Ordering::Relaxed);
        self.line("SKIP", name);
        out::text(": ");
        out::text(why);
        out::text("\n");
    }

    /// Records a verdict; on failure `detail` prints the rest of the line.
    fn verdict(self, name: &str, good: bool, detail: impl FnOnce()) -> bool {
        if self.excepted(name) {
            self.skip(
                name,
                if good {
                    "oracle exception, yet right"
                } else {
                    "oracle exception"
                },
            );
            return good;
        }
        if good {
            PASSED.fetch_add(1, Ordering::Relaxed);
            self.line("PASS", name);
        } else {
            FAILED.fetch_add(1, Ordering::Relaxed);
            self.line("FAIL", name);
            out::text(": ");
            detail();
        }
        out::text("\n");
        good
    }

    /// `got` must equal `expected`.
    pub fn equal(self, name: &str, expected: impl Into<u64>, got: impl Into<u64>) -> bool {
        let (expected, got) = (expected.into(), got.into());
        self.verdict(name, expected == got, || {
            out::text("expected ");
            out::hex(expected);
            out::text(" got ");
            out::hex(got);
        })
    }

    /// `holds` must be true.
    pub fn holds(self, name: &str, holds: bool) -> bool {
        self.verdict(name, holds, || out::text("expected true got false"))
    }

    /// Exactly this fault, or none, must have been recorded.
    pub fn fault(self, name: &str, expected: Option<Fault>, got: Option<Fault>) -> bool {
        self.verdict(name, expected == got, || {
            out::text("expected ");
            print_fault(expected);
            out::text(" got ");
            print_fault(got);
        })
    }
}

fn print_fault(fault: Option<Fault>) {
    let Some(fault) = fault else {
        out::text("no fault");
        return;
    };
    for (name, value) in [
        ("reason ", u64::from(fault.reason)),
        (" source ", u64::from(fault.source)),
        (" info ", fault.info),
        (" type ", u64::from(fault.access)),
        (" pasid ", fault.pasid.map_or(u64::MAX, u64::from)),
        (" at ", u64::from(fault.address_type)),
        (" exe ", u64::from(fault.execute)),
        (" priv ", u64::from(fault.privileged)),
    ] {
        out::text(name);
        out::hex(value);
    }
}
