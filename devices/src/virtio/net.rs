// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The network card (virtio 1.2 section 5.1), on a tap interface.
//!
//! The tap is opened by the machine (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`, header size 12 by `TUNSETVNETHDRSZ`), so every frame
//! that is read or written begins with a `struct virtio_net_hdr_v1`, which the kernel understands. So the guest may leave
//! checksums and segmentation of what it sends to the host. What it receives is complete: the tap's own offloads stay off.
//! A receive queue without room drops frames, as a real card does.
//!
//! Not supported: control queue, several queue pairs, receive offloads, link status.

mod rx;
mod tx;

use super::{QueueHandler, VirtioDevice, VirtioError, feature};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rx::Receiver;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tx::Sender;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
};

/// Bytes in front of each frame: `struct virtio_net_hdr_v1`.
pub const HEADER_LEN: usize = 12;

/// Header and the longest frame: 64 KiB of segmented payload and its link-layer headers.
const MAX_FRAME: usize = HEADER_LEN + (64 << 10) + 64;

const QUEUE_SIZE: u16 = 256;

/// A network card.
#[derive(Debug)]
pub struct Net {
    tap: Arc<File>,
    /// `struct virtio_net_config`: address and unused status.
    config: [u8; 8],
}

impl Net {
    /// A card with address `mac` on `tap`, which it makes non-blocking.
    ///
    /// # Errors
    /// The host refuses the non-blocking mode.
    pub fn new(tap: OwnedFd, mac: [u8; 6]) -> Result<Self, VirtioError> {
        let non_blocking =
            fcntl_getfl(&tap).and_then(|flags| fcntl_setfl(&tap, flags | OFlags::NONBLOCK));
        non_blocking.map_err(|error| VirtioError::Host {
            device: "net",
            what: "making the tap non-blocking",
            source: error.into(),
        })?;
        let mut config = [0; 8];
        config[..6].copy_from_slice(&mac);
        Ok(Self {
            tap: Arc::new(File::from(tap)),
            config,
        })
    }
}

/// A locally administered unicast address that is always the same for the same `name`.
#[must_use]
pub fn mac_of(name: &str) -> [u8; 6] {
    // FNV-1a, 64 bits.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_le_bytes();
    [0x52, a, b, c, d, e]
}

impl VirtioDevice for Net {
    fn id(&self) -> u16 {
        1
    }

    fn name(&self) -> &'static str {
        "net"
    }

    fn class(&self) -> u32 {
        0x02_00_00
    }

    fn features(&self) -> u64 {
        feature(VIRTIO_NET_F_MAC)
            | feature(VIRTIO_NET_F_MRG_RXBUF)
            | feature(VIRTIO_NET_F_CSUM)
            | feature(VIRTIO_NET_F_HOST_TSO4)
            | feature(VIRTIO_NET_F_HOST_TSO6)
            | feature(VIRTIO_NET_F_HOST_ECN)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&self, features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>> {
        let mergeable = features & feature(VIRTIO_NET_F_MRG_RXBUF) != 0;
        Ok(vec![
            Box::new(Receiver::new(Arc::clone(&self.tap), mergeable)),
            Box::new(Sender::new(Arc::clone(&self.tap))),
        ])
    }
}

#[cfg(test)]
mod tests;
