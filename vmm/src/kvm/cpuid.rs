// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the guest's processors say that they can do.

/// A CPU feature that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature;
