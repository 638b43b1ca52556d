// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The time, which comes from outside so that what is made of it can be tested.

use std::fmt;
use std::time::{Duration, Instant};

/// A clock that never goes back.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since some moment, always the same one.
    fn now(&self) -> Duration;
}

/// The machine's clock, from the moment of its making on.
#[derive(Clone, Copy, Debug)]
pub struct SinceStart(Instant);

impl Default for SinceStart {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SinceStart {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
