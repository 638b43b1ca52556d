// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Boot loaders: from files to guest memory and the first vCPU's registers.

/// A kernel or an initrd cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Not yet detailed.
    #[error("cannot boot")]
    Unbootable,
}
