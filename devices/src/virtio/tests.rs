// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What holds for every device: a hostile driver neither panics it nor keeps it busy.

use super::blk::{Blk, Image};
use super::net::Net;
use super::rng::Rng;
use super::share::Share;
use super::testing::{Guest, RawQueue, RecordingNotifier, SHIFT};
use super::*;
use proptest::prelude::*;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

const QUEUE: u64 = 0x4000;

/// Bytes that the descriptors mostly point to.
const ARENA: std::ops::Range<u64> = 0x2_0000..0x2_1000;

/// Every handler of every device, with a frame waiting at the network card.
fn handlers(dir: &tempfile::TempDir) -> Vec<Box<dyn QueueHandler>> {
    let path = dir.path().join("image");
    std::fs::write(&path, vec![0x5a; 64 << 10]).unwrap();
    let (tap, peer) = UnixDatagram::pair().unwrap();
    peer.send(&[7; 400]).unwrap();
    let image = Image::open(&path, false, false).unwrap();
    let devices: [Box<dyn VirtioDevice>; 4] = [
        Box::new(Blk::new(image, "id", 1).unwrap()),
        Box::new(Net::new(tap.into(), [2; 6]).unwrap()),
        Box::new(Rng::new().unwrap()),
        Box::new(Share::new(dir.path(), "tag", true).unwrap()),
    ];
    let all = devices.iter().map(|device| device.activate(0).unwrap());
    all.flatten().collect()
}

fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        8 => ARENA.start + SHIFT..ARENA.end + SHIFT,
        1 => SHIFT..SHIFT + 0x10_1000,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0..64u32, 4 => 0..0x1000u32, 1 => any::<u32>()];
    (address, len, 0..8u16, 0..18u16)
}

/// Words that mean something to one of the devices, so that decoding gets somewhere.
fn arena() -> impl Strategy<Value = Vec<u32>> {
    let word = prop_oneof![0..16u32, 100..130u32, any::<u32>()];
    prop::collection::vec(word, 1024)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn device_with_a_hostile_driver_neither_panics_nor_stays_busy(
        table in prop::collection::vec(descriptor(), 16),
        heads in prop::collection::vec(0..17u16, 1..16),
        arena in arena(),
    ) {
        let dir = tempfile::TempDir::new().unwrap();
        for mut handler in handlers(&dir) {
            let guest = Guest::translated();
            let bytes: Vec<u8> = arena.iter().flat_map(|word| word.to_le_bytes()).collect();
            guest.write(ARENA.start, &bytes);
            let mut queue = RawQueue::new(&guest, QUEUE);
            for (index, (address, len, flags, next)) in (0..).zip(&table) {
                queue.descriptor(index, *address, *len, *flags, *next);
            }
            heads.iter().for_each(|head| queue.offer(*head));
            let notifier = Arc::<RecordingNotifier>::default();
            let mut ring = guest.ring(&queue, 0, &notifier);
            let passes = (0..128).map(|_| handler.process(&mut ring));
            let ends = passes.into_iter().any(|pass| !matches!(pass, Ok(Wait::Nothing)));
            prop_assert!(ends, "{handler:?} is still busy");
        }
    }
}
