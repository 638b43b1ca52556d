// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a backend must answer.

use std::fmt::Debug;

use anyhow::{Result, bail};
use iommu::address::{Iova, IovaRange};
use vfio::run::{Rights, Run};
use vm_memory::GuestAddress;

/// Fails unless `found` is `wanted`; says so otherwise.
pub fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Result<()> {
    if found != wanted {
        bail!("{what}: {found:x?}, not {wanted:x?}");
    }
    println!("{what}: ok");
    Ok(())
}

/// Fails unless `range` is mapped by one run to `gpa`.
pub fn run(iova: u64, len: u64, gpa: u64, rights: Rights) -> Run {
    Run {
        iova: range(iova, len),
        gpa: GuestAddress(gpa),
        rights,
    }
}

/// The `len` bytes from `iova` on.
pub fn range(iova: u64, len: u64) -> IovaRange {
    IovaRange::from_len(Iova(iova), len).expect("a range of the program's own")
}
