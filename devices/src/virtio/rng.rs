// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The entropy source (virtio 1.2 section 5.4): the host's `/dev/urandom`.

use super::ring::{Ring, RingError};
use super::{QueueHandler, VirtioDevice, VirtioError, Wait};
use std::fs::File;
use std::io::{self, Read};

/// Bytes that one request yields at most. A driver that wants more asks again.
const MAX_BYTES: usize = 4096;

/// An entropy source.
#[derive(Debug)]
pub struct Rng {
    urandom: File,
}

impl Rng {
    /// # Errors
    /// The host has no `/dev/urandom` to read.
    pub fn new() -> Result<Self, VirtioError> {
        let urandom = File::open("/dev/urandom").map_err(|source| VirtioError::Host {
            device: "rng",
            what: "opening /dev/urandom",
            source,
        })?;
        Ok(Self { urandom })
    }
}

impl VirtioDevice for Rng {
    fn id(&self) -> u16 {
        4
    }

    fn name(&self) -> &'static str {
        "rng"
    }

    fn class(&self) -> u32 {
        0x00_ff_00
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&self, _features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>> {
        let urandom = self.urandom.try_clone()?;
        Ok(vec![Box::new(RngQueue { urandom })])
    }
}

#[derive(Debug)]
struct RngQueue {
    urandom: File,
}

impl QueueHandler for RngQueue {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        let served = ring.serve(|chain| {
            let len = chain.writable.len().min(MAX_BYTES);
            let mut bytes = vec![0; len];
            // A host that cannot read its own entropy yields none, and the driver sees a length of 0.
            if self.urandom.read_exact(&mut bytes).is_err() {
                return Ok(0);
            }
            chain.writable.write(&bytes)?;
            Ok(u32::try_from(len).unwrap_or(0))
        })?;
        Ok(if served { Wait::Nothing } else { Wait::Chains })
    }
}

#[cfg(test)]
mod tests;
