// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a scenario is and how it can end.

use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;

/// One end-to-end test.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for `cargo lab list`.
    pub about: &'static str,
    /// Wall time after which it has failed.
    pub limit: Duration,
    /// The test. An error is a failure, and its text the reason.
    pub run: fn(&mut Lab<'_>) -> Result<Verdict>,
}

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was asked for was seen.
    Pass,
    /// It cannot run here, for this reason.
    Skip(String),
    /// It went wrong, in this way.
    Fail(String),
}

impl Verdict {
    /// The exit status of `cargo lab run NAME`.
    pub fn status(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Skip(_) => 77,
            Self::Fail(_) => 1,
        }
    }

    /// The contract's last line, with the first line of the reason.
    pub fn line(&self, name: &str) -> String {
        let first = |text: &str| text.trim().lines().next().unwrap_or_default().to_owned();
        match self {
            Self::Pass => format!("{name}: pass"),
            Self::Skip(why) => format!("{name}: skip: {}", first(why)),
            Self::Fail(why) => format!("{name}: FAIL: {}", first(why)),
        }
    }

    /// The further lines of the reason.
    pub fn details(&self) -> String {
        match self {
            Self::Pass => String::new(),
            Self::Skip(why) | Self::Fail(why) => why
                .trim()
                .lines()
                .skip(1)
                .map(|line| format!("{line}\n"))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_lines_and_statuses_are_those_of_the_contract() {
        let cases = [
            (Verdict::Pass, "x: pass", 0),
            (Verdict::Skip("no a".into()), "x: skip: no a", 77),
            (Verdict::Fail("b\n  c".into()), "x: FAIL: b", 1),
        ];
        for (verdict, line, status) in cases {
            assert_eq!(
                (verdict.line("x").as_str(), verdict.status()),
                (line, status)
            );
        }
    }
}
