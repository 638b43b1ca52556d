// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Keeps a guest from filling the log: the first few occurrences of a thing are logged, then each power of two.
//!
//! The unit knows no clock, so the limit is by count: n occurrences make at most `FIRST` + log2(n) lines.

/// Occurrences that are all logged.
const FIRST: u64 = 8;

/// Whether occurrence number `count`, the first being 1, is to be logged.
pub(crate) const fn admits(count: u64) -> bool {
    count <= FIRST || count.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_after_the_first_are_admitted_at_powers_of_two() {
        let admitted: Vec<u64> = (1..=100).filter(|&count| admits(count)).collect();
        assert_eq!(admitted, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64]);
    }
}
