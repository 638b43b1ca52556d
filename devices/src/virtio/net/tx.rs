// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The transmit queue: frames of the driver to the tap (virtio 1.2 section 5.1.6.2).

use super::MAX_FRAME;
use crate::virtio::ring::{Ring, RingError};
use crate::virtio::{QueueHandler, Wait};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

#[derive(Debug)]
pub struct Sender {
    tap: Arc<File>,
    frame: Vec<u8>,
}

impl Sender {
    pub fn new(tap: Arc<File>) -> Self {
        Self {
            tap,
            frame: vec![0; MAX_FRAME],
        }
    }
}

impl QueueHandler for Sender {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        let mut len = 0;
        let frame = &mut self.frame;
        let served = ring.serve(|chain| {
            let wanted = chain.readable.len();
            if let Some(room) = frame.get_mut(..wanted) {
                chain.readable.read(room)?;
                len = wanted;
            }
            Ok(0)
        })?;
        if !served {
            return Ok(Wait::Chains);
        }
        if len > super::HEADER_LEN {
            // A tap that is full or down loses frames, as a cable does.
            let _ = self.tap.as_ref().write(&self.frame[..len]);
        }
        Ok(Wait::Nothing)
    }
}
