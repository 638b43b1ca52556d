// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the payload printed, read back.

/// The counts of the last line and the lines that are not `PASS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that passed.
    pub passed: u32,
    /// Checks that failed.
    pub failed: u32,
    /// Checks that were left out, each with its reason in its line.
    pub skipped: u32,
    /// The `FAIL:` lines.
    pub failures: Vec<String>,
}

impl Verdict {
    /// Reads the serial output of a payload; none if its last line is missing, so that the run did not end by itself.
    #[must_use]
    pub fn parse(output: &str) -> Option<Verdict> {
        let lines = || output.lines().map(|line| line.trim_end_matches('\r'));
        let sum = lines()
            .rev()
            .find_map(|line| line.strip_prefix("payload: "))?;
        let mut verdict = Verdict::default();
        for part in sum.split(", ") {
            let (count, what) = part.split_once(' ')?;
            let count = count.parse().ok()?;
            match what {
                "passed" => verdict.passed = count,
                "failed" => verdict.failed = count,
                "skipped" => verdict.skipped = count,
                _ => return None,
            }
        }
        verdict.failures = lines()
            .filter(|line| line.starts_with("FAIL:"))
            .map(str::to_owned)
            .collect();
        Some(verdict)
    }

    /// Whether something was checked and nothing failed.
    #[must_use]
    pub fn good(&self) -> bool {
        self.passed > 0 && self.failed == 0 && self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn verdict_of_a_clean_run_is_good() {
        let verdict =
            Verdict::parse("PASS: queue: x\r\npayload: 1 passed, 0 failed, 2 skipped\r\n").unwrap();
        assert_eq!((verdict.passed, verdict.failed, verdict.skipped), (1, 0, 2));
        assert!(verdict.good());
    }

    #[test]
    fn verdict_with_a_failure_names_it_and_is_not_good() {
        let verdict = Verdict::parse(
            "FAIL: queue: x: expected 0x1 got 0x2\npayload: 9 passed, 1 failed, 0 skipped\n",
        );
        let verdict = verdict.unwrap();
        assert_eq!(verdict.failures, ["FAIL: queue: x: expected 0x1 got 0x2"]);
        assert!(!verdict.good());
    }

    #[test]
    fn verdict_of_a_run_without_checks_is_not_good() {
        assert!(
            !Verdict::parse("payload: 0 passed, 0 failed, 0 skipped\n")
                .unwrap()
                .good()
        );
    }

    #[test]
    fn verdict_of_a_run_that_broke_off_is_none() {
        assert_eq!(Verdict::parse("PASS: queue: x\n"), None);
        assert_eq!(Verdict::parse("payload: many passed\n"), None);
    }
}
