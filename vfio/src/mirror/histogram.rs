// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long calls take.

use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::Duration;

/// Buckets: calls of up to a microsecond, of up to two, four and so on, and at the end all longer ones.
const BUCKETS: usize = 24;

/// Numbers of calls by how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    total: Duration,
}

impl Histogram {
    /// Counts a call that took `time`.
    pub fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let microseconds = nanoseconds.div_ceil(1000).max(1);
        let bucket = microseconds.next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.total = self.total.saturating_add(time);
    }

    /// The time of all calls together.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.total
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Numbers of calls with the longest time of their bucket, ascending; `None` for the last, which has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        (0..BUCKETS).zip(self.buckets).map(|(bucket, calls)| {
            let end = (bucket + 1 < BUCKETS).then(|| Duration::from_micros(1 << bucket));
            (end, calls)
        })
    }
}

/// The number of calls, their time in nanoseconds, and what is in the buckets that are not empty.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Bucket {
            /// `None` is the last bucket's, which has no end.
            up_to_us: Option<u128>,
            calls: u64,
        }
        let filled = self.buckets().filter(|(_, calls)| *calls != 0);
        let buckets: Vec<Bucket> = filled
            .map(|(end, calls)| Bucket {
                up_to_us: end.map(|end| end.as_micros()),
                calls,
            })
            .collect();
        let mut fields = serializer.serialize_struct("Histogram", 3)?;
        fields.serialize_field("calls", &self.calls())?;
        let nanoseconds = u64::try_from(self.total.as_nanos()).unwrap_or(u64::MAX);
        fields.serialize_field("total_ns", &nanoseconds)?;
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_goes_into_the_first_bucket_that_is_long_enough() {
        let mut histogram = Histogram::default();
        let times = [0, 1000, 1001, 2000, 5000, u64::MAX];
        for nanoseconds in times {
            histogram.add(Duration::from_nanos(nanoseconds));
        }
        let filled: Vec<_> = histogram
            .buckets()
            .filter(|(_, calls)| *calls != 0)
            .map(|(end, calls)| (end.map(|end| end.as_micros()), calls))
            .collect();
        assert_eq!(
            filled,
            [(Some(1), 2), (Some(2), 2), (Some(8), 1), (None, 1)]
        );
        assert_eq!(histogram.calls(), 6);
        assert!(histogram.total() > Duration::from_nanos(u64::MAX));
    }
}
