// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The entropy device against raw requests.

use super::*;
use crate::virtio::testing::{Guest, RawQueue, RecordingNotifier, drain};
use std::sync::Arc;

fn bytes_for(len: u32) -> (u32, Vec<u8>) {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, 0x4000);
    queue.submit(&[(0x2_0000, len, true)]);
    let notifier = Arc::<RecordingNotifier>::default();
    let mut ring = guest.ring(&queue, 0, &notifier);
    let mut handler = Rng::new().unwrap().activate(0).unwrap().remove(0);
    assert_eq!(drain(handler.as_mut(), &mut ring), Wait::Chains);
    let used = queue.used();
    assert_eq!(used.len(), 1);
    (used[0].1, guest.read(0x2_0000, 0x2000))
}

#[test]
fn request_is_filled_with_bytes_that_differ() {
    let (len, first) = bytes_for(64);
    let (_, second) = bytes_for(64);
    assert_eq!(len, 64);
    assert_ne!(first[..64], second[..64]);
    assert!(first[64..].iter().all(|byte| *byte == 0));
}

#[test]
fn long_request_is_filled_in_part() {
    let (len, bytes) = bytes_for(0x2000);
    assert_eq!(len, 4096);
    assert!(bytes[4096..].iter().all(|byte| *byte == 0));
}
