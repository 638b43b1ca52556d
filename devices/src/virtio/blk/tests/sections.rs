// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What holds up others: no section waits for a queue that has the image to itself, and no stop for more than one request.

use super::*;
use iommu::dma::{DmaSpace, Translate};
use iommu::fault::Fault;
use iommu::request::{Perms, Request as DmaRequest, Translation};
use vm_memory::GuestAddress;

/// Translates one to one, and fails the test if that happens for a request that has not taken the image yet.
#[derive(Debug)]
struct ImageFirst(Arc<Disk>);

impl Translate for ImageFirst {
    fn translate(&self, request: &DmaRequest) -> Result<Translation, Fault> {
        assert!(self.0.image.is_accessed(), "a section came first");
        Ok(Translation {
            gpa: GuestAddress(request.address.0),
            len: 0x1000 - request.address.0 % 0x1000,
            perms: Perms::READ_WRITE,
        })
    }
}

#[test]
fn section_of_a_read_or_write_opens_after_the_image_was_taken() {
    let file = image_file(256);
    let image = Image::open(file.path(), false, false).unwrap();
    let blk = Blk::new(image, "", 1).unwrap();
    let mut guest = Guest::identity();
    let requester = Arc::clone(guest.space.requester());
    let order = Arc::new(ImageFirst(Arc::clone(&blk.disk)));
    guest.space = DmaSpace::translated(guest.ram.clone(), requester, None, order);
    let mut rig = Rig {
        guest,
        file,
        handler: blk.activate(0).unwrap().remove(0),
    };
    assert_eq!(rig.request(IN, 9, &[(DATA, 512, true)]), (0, 513));
    assert_eq!(rig.guest.read(DATA, 512), [9; 512]);
    assert_eq!(rig.request(OUT, 8, &[(DATA, 512, false)]), (0, 1));
    assert_eq!(rig.on_disk(8, 512), [9; 512]);
    assert!(!blk.disk.image.is_accessed());
}

#[test]
fn one_pass_works_off_one_request() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    rig.guest.write(HEADER, &FLUSH.to_le_bytes());
    let notifier = Arc::<RecordingNotifier>::default();
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    for _ in 0..2 {
        queue.submit(&[(HEADER, 16, false), (STATUS, 1, true)]);
    }
    let mut ring = rig.guest.ring(&queue, 0, &notifier);
    for done in [1, 2] {
        assert_eq!(rig.handler.process(&mut ring).unwrap(), Wait::Nothing);
        assert_eq!(queue.used().len(), done);
    }
}

#[test]
fn flush_of_a_raw_image_does_not_wait_for_a_read() {
    let file = image_file(1);
    let image = Image::open(file.path(), false, false).unwrap();
    let (flushed, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let reading = image.access();
        scope.spawn(|| flushed.send(image.flush()).unwrap());
        let answer = done.recv_timeout(std::time::Duration::from_secs(60));
        drop(reading);
        answer.unwrap().unwrap();
    });
}
