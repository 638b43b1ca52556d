// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A limit on messages that the guest can cause.
//!
//! The first few are logged, then every message whose number is a power of two: a guest that fails for ever costs a handful
//! of lines a day, and the count stays visible. There is no clock in it.

use std::sync::atomic::{AtomicU64, Ordering};

const FIRST: u64 = 8;

/// Counts the messages of one kind.
#[derive(Debug, Default)]
pub struct LogLimit(AtomicU64);

impl LogLimit {
    /// A limit that has seen no message yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one message; its number if it is to be logged.
    pub fn admit(&self) -> Option<u64> {
        let number = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        (number <= FIRST || number.is_power_of_two()).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_of_many_messages_admits_a_few() {
        let limit = LogLimit::default();
        let admitted: Vec<_> = (0..100).filter_map(|_| limit.admit()).collect();
        assert_eq!(admitted, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64]);
    }
}
