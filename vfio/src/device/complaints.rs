// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a function tells the log about what could not be done. The guest can bring all of it about, again and again, so each
//! kind of complaint is told the first, the second, the fourth time and so on, with its number.

use std::collections::BTreeMap;
use std::fmt::Display;

/// The complaints of one function so far.
#[derive(Debug)]
pub(super) struct Complaints {
    /// Who complains.
    name: String,
    /// By kind; kinds are few, as they stand in the source.
    counts: BTreeMap<&'static str, u64>,
}

impl Complaints {
    /// None yet of the function `name`.
    pub(super) const fn new(name: String) -> Self {
        Self {
            name,
            counts: BTreeMap::new(),
        }
    }

    /// `what` is the kind, and `error` why.
    pub(super) fn tell(&mut self, what: &'static str, error: &dyn Display) {
        if let Some(count) = self.due(what) {
            tracing::warn!("{}: {what} ({count} so far): {error}", self.name);
        }
    }

    /// Counts one more of `what`; the number if it is to be told.
    fn due(&mut self, what: &'static str) -> Option<u64> {
        let count = self.counts.entry(what).or_default();
        *count = count.saturating_add(1);
        count.is_power_of_two().then_some(*count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_ever_more_rarely() {
        let mut complaints = Complaints::new(String::new());
        let told: Vec<_> = (0..10).filter_map(|_| complaints.due("a")).collect();
        assert_eq!(told, [1, 2, 4, 8]);
        assert_eq!(complaints.due("b"), Some(1), "another kind is not hidden");
    }
}
