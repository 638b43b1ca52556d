// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The receive queue: frames from the tap into the driver's buffers (virtio 1.2 section 5.1.6.4).

use super::MAX_FRAME;
use crate::virtio::chain::Chain;
use crate::virtio::log_limit::LogLimit;
use crate::virtio::ring::{Batch, Ring, RingError};
use crate::virtio::{QueueHandler, Wait};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Buffers that one frame may be spread over.
const MAX_MERGED: u16 = 64;

/// In `struct virtio_net_hdr_v1`: `flags`, of which a driver without receive offloads knows none, and `num_buffers`.
const FLAGS: usize = 0;
const NUM_BUFFERS: std::ops::Range<usize> = 10..12;

static TAP_ERRORS: LogLimit = LogLimit::new();

#[derive(Debug)]
pub struct Receiver {
    /// `None` after the tap failed.
    tap: Option<Arc<File>>,
    mergeable: bool,
    frame: Vec<u8>,
    /// Bytes in `frame` that wait for a buffer, 0 for none.
    pending: usize,
}

/// What became of the pending frame.
enum Delivery {
    Gone,
    NoBuffer,
}

impl Receiver {
    pub fn new(tap: Arc<File>, mergeable: bool) -> Self {
        Self {
            tap: Some(tap),
            mergeable,
            frame: vec![0; MAX_FRAME],
            pending: 0,
        }
    }

    /// Reads a frame. Whether there is one.
    fn fetch(&mut self) -> bool {
        let Some(tap) = &self.tap else {
            return false;
        };
        match tap.as_ref().read(&mut self.frame) {
            // The peer of a socket is gone: nothing will ever come again.
            Ok(0) => {
                self.tap = None;
                false
            }
            Ok(len) => {
                self.pending = if len > super::HEADER_LEN { len } else { 0 };
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                if let Some(number) = TAP_ERRORS.admit() {
                    tracing::warn!(number, %error, "tap cannot be read: no more frames until the driver resets the card");
                }
                self.tap = None;
                false
            }
        }
    }

    fn deliver(&mut self, batch: &mut Batch<'_, '_>) -> Result<Delivery, RingError> {
        let mut chains = Vec::new();
        let mut room = 0;
        let most = if self.mergeable { MAX_MERGED } else { 1 };
        for taken in 0..most {
            let Some(chain) = batch.pop()? else {
                if taken == 0 {
                    return Ok(Delivery::NoBuffer);
                }
                break;
            };
            room += chain.writable.len();
            chains.push(chain);
            if room >= self.pending {
                break;
            }
        }
        let count = u16::try_from(chains.len()).unwrap_or(0);
        if room < self.pending {
            batch.rewind(count);
        } else {
            // The tap says that it has seen a right checksum, offloads or not.
            self.frame[FLAGS] = 0;
            self.frame[NUM_BUFFERS].copy_from_slice(&count.to_le_bytes());
            fill(&self.frame[..self.pending], &mut chains, batch)?;
        }
        Ok(Delivery::Gone)
    }
}

fn fill(
    mut frame: &[u8],
    chains: &mut [Chain<'_>],
    batch: &mut Batch<'_, '_>,
) -> Result<(), RingError> {
    for chain in chains {
        let (part, rest) = frame.split_at(frame.len().min(chain.writable.len()));
        chain.writable.write(part)?;
        batch.push(chain, u32::try_from(part.len()).unwrap_or(0))?;
        frame = rest;
    }
    Ok(())
}

impl QueueHandler for Receiver {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().map(|tap| tap.as_fd())
    }

    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        if self.pending == 0 && !self.fetch() {
            return Ok(Wait::Source);
        }
        if self.pending > 0 {
            match ring.batch(|batch| self.deliver(batch))? {
                Delivery::Gone => self.pending = 0,
                Delivery::NoBuffer => return Ok(Wait::Chains),
            }
        }
        Ok(Wait::Nothing)
    }
}
