// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The block device against raw requests on raw and qcow2 images.

mod sections;

use super::*;
use crate::virtio::testing::{Guest, Part, RawQueue, RecordingNotifier, drain};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

const QUEUE: u64 = 0x4000;
const HEADER: u64 = 0x2_0000;
const STATUS: u64 = 0x2_1000;
const DATA: u64 = 0x3_0000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// An image of `sectors` sectors in which every byte tells its sector.
fn image_file(sectors: u64) -> NamedTempFile {
    // Next to the test binary, because the file system of /tmp may not have direct I/O.
    let binary = std::env::current_exe().unwrap();
    let mut file = NamedTempFile::new_in(binary.parent().unwrap()).unwrap();
    for sector in 0..sectors {
        let byte = u8::try_from(sector % 251).unwrap();
        file.write_all(&[byte; 512]).unwrap();
    }
    file
}

struct Rig {
    guest: Guest,
    file: NamedTempFile,
    handler: Box<dyn QueueHandler>,
}

impl Rig {
    fn new(guest: Guest, readonly: bool, direct: bool) -> Self {
        let file = image_file(256);
        let image = Image::open(file.path(), readonly, direct).unwrap();
        let blk = Blk::new(image, "serial-of-the-disk-that-is-long", 1).unwrap();
        Self {
            guest,
            file,
            handler: blk.activate(0).unwrap().remove(0),
        }
    }

    /// Sends one request; its status byte and the number of bytes that the device says it wrote.
    fn request(&mut self, kind: u32, sector: u64, data: &[Part]) -> (u8, u32) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.guest.write(HEADER, &header);
        self.guest.write(STATUS, &[0xee]);
        self.guest.write(QUEUE + 0x1000, &[0; 0x100]);
        self.guest.write(QUEUE + 0x2000, &[0; 0x100]);
        let mut queue = RawQueue::new(&self.guest, QUEUE);
        let parts = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
        queue.submit(&parts);
        let notifier = Arc::<RecordingNotifier>::default();
        let mut ring = self.guest.ring(&queue, 0, &notifier);
        assert_eq!(drain(self.handler.as_mut(), &mut ring), Wait::Chains);
        let used = queue.used();
        assert_eq!(used.len(), 1);
        (self.guest.read(STATUS, 1)[0], used[0].1)
    }

    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        let bytes: Vec<u8> = ranges
            .iter()
            .flat_map(|(sector, count, flags)| {
                [
                    &sector.to_le_bytes()[..],
                    &count.to_le_bytes(),
                    &flags.to_le_bytes(),
                ]
                .concat()
            })
            .collect();
        self.guest.write(DATA, &bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.request(kind, 0, &[(DATA, len, false)]).0
    }

    fn on_disk(&self, sector: u64, len: usize) -> Vec<u8> {
        let mut file = fs::File::open(self.file.path()).unwrap();
        file.seek(SeekFrom::Start(sector * 512)).unwrap();
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).unwrap();
        bytes
    }
}

#[test]
fn write_then_read_moves_the_bytes_through_the_image() {
    for guest in [Guest::identity(), Guest::translated()] {
        let mut rig = Rig::new(guest, false, false);
        let sent: Vec<u8> = (0..0x3000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        rig.guest.write(DATA + 0x600, &sent);
        assert_eq!(
            rig.request(OUT, 7, &[(DATA + 0x600, 0x3000, false)]),
            (0, 1)
        );
        assert_eq!(rig.on_disk(7, 0x3000), sent);
        assert_eq!(rig.on_disk(6, 512), [6; 512]);
        let back = [(0x8_0e00, 0x2000, true), (0x9_0000, 0x1000, true)];
        assert_eq!(rig.request(IN, 7, &back), (0, 0x3001));
        assert_eq!(rig.guest.read(0x8_0e00, 0x2000), sent[..0x2000]);
        assert_eq!(rig.guest.read(0x9_0000, 0x1000), sent[0x2000..]);
        assert_eq!(rig.request(FLUSH, 0, &[]), (0, 1));
    }
}

#[test]
fn direct_io_serves_memory_of_any_alignment() {
    let mut rig = Rig::new(Guest::translated(), false, true);
    rig.guest.write(DATA + 3, &[0x77; 1536]);
    assert_eq!(rig.request(OUT, 9, &[(DATA + 3, 1536, false)]), (0, 1));
    assert_eq!(rig.on_disk(8, 512), [8; 512]);
    assert_eq!(rig.on_disk(9, 1536), [0x77; 1536]);
    assert_eq!(rig.on_disk(12, 512), [12; 512]);
    assert_eq!(rig.request(IN, 8, &[(0x8_0001, 1024, true)]), (0, 1025));
    assert_eq!(rig.guest.read(0x8_0001, 512), [8; 512]);
    assert_eq!(rig.guest.read(0x8_0001 + 512, 512), [0x77; 512]);
}

#[test]
fn read_beyond_the_end_is_an_error_and_touches_nothing() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    for sector in [255, 256, u64::MAX, u64::MAX / 512] {
        assert_eq!(rig.request(IN, sector, &[(DATA, 1024, true)]).0, 1);
    }
    assert_eq!(rig.guest.read(DATA, 1024), [0; 1024]);
}

#[test]
fn length_that_is_no_multiple_of_a_sector_is_an_error() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.request(IN, 0, &[(DATA, 511, true)]).0, 1);
    assert_eq!(rig.request(OUT, 0, &[(DATA, 513, false)]).0, 1);
}

#[test]
fn readonly_disk_refuses_every_kind_of_write() {
    let mut rig = Rig::new(Guest::translated(), true, false);
    assert_eq!(rig.request(OUT, 0, &[(DATA, 512, false)]).0, 1);
    assert_eq!(rig.ranges(DISCARD, &[(0, 8, 0)]), 1);
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(0, 8, 0)]), 1);
    assert_eq!(rig.on_disk(1, 512), [1; 512]);
    assert_eq!(rig.request(IN, 1, &[(DATA, 512, true)]).0, 0);
    assert_eq!(rig.request(FLUSH, 0, &[]).0, 0);
}

#[test]
fn write_zeroes_clears_exactly_its_ranges() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(3, 30, 1), (100, 1, 0)]), 0);
    assert_eq!(rig.on_disk(2, 512), [2; 512]);
    assert_eq!(rig.on_disk(3, 30 * 512), [0; 30 * 512]);
    assert_eq!(rig.on_disk(33, 512), [33; 512]);
    assert_eq!(rig.on_disk(100, 512), [0; 512]);
    assert_eq!(rig.on_disk(101, 512), [101; 512]);
}

#[test]
fn discard_leaves_what_is_outside_alone() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.ranges(DISCARD, &[(16, 64, 0)]), 0);
    assert_eq!(rig.on_disk(15, 512), [15; 512]);
    assert_eq!(rig.on_disk(80, 512), [80; 512]);
    assert_eq!(rig.file.as_file().metadata().unwrap().len(), 256 * 512);
}

#[test]
fn ranges_that_are_impossible_are_refused() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.ranges(DISCARD, &[(0, 8, 1)]), 2, "unmap flag");
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(0, 8, 2)]), 2, "unknown flag");
    assert_eq!(rig.ranges(WRITE_ZEROES, &[(250, 8, 0)]), 1, "past the end");
    assert_eq!(rig.ranges(DISCARD, &[(u64::MAX, 8, 0)]), 1, "overflow");
    assert_eq!(rig.ranges(DISCARD, &[(0, 1, 0); 17]), 1, "too many");
    assert_eq!(rig.request(DISCARD, 0, &[(DATA, 15, false)]).0, 1, "cut");
    assert_eq!(rig.on_disk(0, 512), [0; 512]);
    assert_eq!(rig.on_disk(1, 512), [1; 512]);
}

#[test]
fn get_id_yields_the_first_20_bytes_of_the_serial() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.request(GET_ID, 0, &[(DATA, 20, true)]), (0, 21));
    assert_eq!(rig.guest.read(DATA, 21), b"serial-of-the-disk-t\0");
}

#[test]
fn unknown_request_is_unsupported() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    assert_eq!(rig.request(0x1234, 0, &[(DATA, 512, true)]).0, 2);
}

#[test]
fn request_without_status_byte_stops_the_queue() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    queue.submit(&[(HEADER, 16, false)]);
    let notifier = Arc::default();
    let mut ring = rig.guest.ring(&queue, 0, &notifier);
    let failed = rig.handler.process(&mut ring);
    assert!(matches!(failed, Err(RingError::ShortBuffer { .. })));
}

#[test]
fn buffer_that_the_unit_blocks_stops_the_queue_before_any_byte_moves() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    rig.guest.unit.block(DATA + 0x1000);
    rig.guest.write(HEADER, &[0; 16]);
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    queue.submit(&[(HEADER, 16, false), (DATA, 0x2000, true), (STATUS, 1, true)]);
    let notifier = Arc::default();
    let mut ring = rig.guest.ring(&queue, 0, &notifier);
    let failed = rig.handler.process(&mut ring);
    assert!(matches!(failed, Err(RingError::Buffer(_))));
    assert_eq!(rig.guest.read(DATA, 0x1000), [0; 0x1000]);
    assert!(queue.used().is_empty());
}

#[test]
fn image_that_was_truncated_answers_with_errors_until_it_is_back() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    rig.file.as_file().set_len(1024).unwrap();
    assert_eq!(rig.request(IN, 0, &[(DATA, 512, true)]).0, 1);
    assert_eq!(rig.request(OUT, 0, &[(DATA, 512, false)]).0, 1);
    assert_eq!(rig.request(FLUSH, 0, &[]).0, 1);
    assert_eq!(rig.ranges(DISCARD, &[(0, 1, 0)]), 1);
    assert_eq!(rig.file.as_file().metadata().unwrap().len(), 1024);
    rig.file.as_file().set_len(256 * 512).unwrap();
    assert_eq!(rig.request(IN, 1, &[(DATA, 512, true)]).0, 0);
    assert_eq!(rig.guest.read(DATA, 512), [1; 512]);
}

#[test]
fn image_that_was_deleted_goes_on_working() {
    let mut rig = Rig::new(Guest::translated(), false, false);
    fs::remove_file(rig.file.path()).unwrap();
    rig.guest.write(DATA, &[0x33; 512]);
    assert_eq!(rig.request(OUT, 4, &[(DATA, 512, false)]).0, 0);
    assert_eq!(rig.request(IN, 4, &[(0x8_0000, 512, true)]).0, 0);
    assert_eq!(rig.guest.read(0x8_0000, 512), [0x33; 512]);
}

#[test]
fn image_in_use_is_refused_to_a_second_writer_but_shared_by_readers() {
    let file = image_file(8);
    let first = Image::open(file.path(), false, false).unwrap();
    let second = Image::open(file.path(), true, false);
    assert!(matches!(second, Err(VirtioError::ImageInUse { .. })));
    drop(first);
    let _reader = Image::open(file.path(), true, false).unwrap();
    Image::open(file.path(), true, false).unwrap();
}

#[test]
fn image_that_cannot_be_used_is_refused_by_name() {
    let missing = Image::open(Path::new("no-such-image"), false, false).unwrap_err();
    assert_eq!(missing.to_string(), "cannot open disk image no-such-image");
    let folder = Image::open(Path::new("."), true, false);
    assert!(matches!(folder, Err(VirtioError::ImageOpen { .. })));
    let empty = NamedTempFile::new().unwrap();
    let empty = Image::open(empty.path(), false, false);
    assert!(matches!(
        empty,
        Err(VirtioError::ImageTooSmall { len: 0, .. })
    ));
}

#[test]
fn configuration_tells_capacity_limits_and_queues() {
    let file = image_file(256);
    let blk = Blk::new(Image::open(file.path(), false, false).unwrap(), "", 3).unwrap();
    let config = blk.config();
    assert_eq!(config.len(), 60);
    assert_eq!(config[..8], [0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(config[8..16], [0, 0, 4, 0, 126, 0, 0, 0]);
    assert_eq!(config[20..24], [0, 2, 0, 0]);
    assert_eq!(config[34..36], [3, 0]);
    assert_eq!(blk.queue_sizes(), [256; 3]);
    // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, MQ, DISCARD, WRITE_ZEROES.
    assert_eq!(
        blk.features(),
        0x2 | 0x4 | 0x40 | 0x200 | 0x1000 | 0x2000 | 0x4000
    );
}

#[test]
fn readonly_disk_with_one_queue_offers_neither_discard_nor_queues() {
    let file = image_file(1);
    let blk = Blk::new(Image::open(file.path(), true, false).unwrap(), "", 1).unwrap();
    assert_eq!(blk.features(), 0x2 | 0x4 | 0x40 | 0x200 | 0x20);
    let none = Blk::new(Image::open(file.path(), true, false).unwrap(), "", 0);
    assert!(matches!(
        none,
        Err(VirtioError::BadQueueCount { queues: 0, .. })
    ));
}

mod qcow2 {
    use super::*;

    /// A version 2 image of 1 MiB with 64 KiB clusters: header, level 1 table, level 2 table, refcounts; cluster 0 of the
    /// disk lies at 0x50000, everything else is unallocated. `backing` is written behind the header.
    fn qcow2_file(backing: &[u8]) -> NamedTempFile {
        let mut bytes = vec![0; 0x6_0000];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"QFI\xfb");
        put(4, &2u32.to_be_bytes());
        if !backing.is_empty() {
            put(8, &0x100u64.to_be_bytes());
            put(16, &u32::try_from(backing.len()).unwrap().to_be_bytes());
            put(0x100, backing);
        }
        put(20, &16u32.to_be_bytes()); // cluster bits
        put(24, &0x10_0000u64.to_be_bytes()); // size
        put(36, &1u32.to_be_bytes()); // level 1 entries
        put(40, &0x3_0000u64.to_be_bytes()); // level 1 table
        put(48, &0x1_0000u64.to_be_bytes()); // refcount table
        put(56, &1u32.to_be_bytes()); // its clusters
        put(0x1_0000, &0x2_0000u64.to_be_bytes());
        for cluster in 0..6 {
            put(0x2_0000 + 2 * cluster, &1u16.to_be_bytes());
        }
        put(0x3_0000, &0x8000_0000_0004_0000u64.to_be_bytes());
        put(0x4_0000, &0x8000_0000_0005_0000u64.to_be_bytes());
        put(0x5_0000, &[0x42; 512]);
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn qcow2_image_reads_its_clusters_and_keeps_what_is_written() {
        let file = qcow2_file(b"");
        let image = Image::open(file.path(), false, false).unwrap();
        assert_eq!(image.capacity(), 0x10_0000);
        let blk = Blk::new(image, "", 1).unwrap();
        let mut rig = Rig {
            guest: Guest::translated(),
            file,
            handler: blk.activate(0).unwrap().remove(0),
        };
        assert_eq!(rig.request(IN, 0, &[(DATA, 1024, true)]).0, 0);
        assert_eq!(rig.guest.read(DATA, 512), [0x42; 512]);
        assert_eq!(rig.guest.read(DATA + 512, 512), [0; 512]);
        rig.guest.write(DATA, &[0x99; 1024]);
        assert_eq!(rig.request(OUT, 1000, &[(DATA, 1024, false)]).0, 0);
        assert_eq!(rig.request(FLUSH, 0, &[]).0, 0);
        assert_eq!(rig.ranges(WRITE_ZEROES, &[(0, 1, 0)]), 0);
        let Rig {
            guest,
            file,
            handler,
        } = rig;
        drop((handler, blk));
        let image = Image::open(file.path(), true, false).unwrap();
        let blk = Blk::new(image, "", 1).unwrap();
        let mut rig = Rig {
            guest,
            file,
            handler: blk.activate(0).unwrap().remove(0),
        };
        assert_eq!(rig.request(IN, 1000, &[(0x8_0000, 1024, true)]).0, 0);
        assert_eq!(rig.guest.read(0x8_0000, 1024), [0x99; 1024]);
        assert_eq!(rig.request(IN, 0, &[(0x8_0000, 512, true)]).0, 0);
        assert_eq!(rig.guest.read(0x8_0000, 512), [0; 512]);
    }

    #[test]
    fn qcow2_image_that_names_another_file_is_refused() {
        let file = qcow2_file(b"/etc/hostname");
        let refused = Image::open(file.path(), false, false);
        assert!(matches!(refused, Err(VirtioError::ImageOpen { .. })));
    }

    #[test]
    fn qcow2_image_with_a_damaged_header_is_refused() {
        let mut file = qcow2_file(b"");
        file.seek(SeekFrom::Start(20)).unwrap();
        file.write_all(&63u32.to_be_bytes()).unwrap();
        let refused = Image::open(file.path(), false, false);
        assert!(matches!(refused, Err(VirtioError::ImageOpen { .. })));
    }
}
