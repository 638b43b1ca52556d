// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The file server against messages written by hand.

use super::*;
use crate::virtio::testing::{Guest, RawQueue, RecordingNotifier, drain};
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;

const QUEUE: u64 = 0x4000;
const REQUEST: u64 = 0x2_0000;
const REPLY: u64 = 0x4_0000;

const EACCES: u32 = 13;
const ENOENT: u32 = 2;
const EINVAL: u32 = 22;
const EROFS: u32 = 30;

const ROOT: u32 = 1;

/// A mounted share. `outside` is next to the shared directory.
struct Mount {
    dir: TempDir,
    guest: Guest,
    session: Box<dyn QueueHandler>,
}

impl Mount {
    fn new(readonly: bool) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        fs::create_dir(dir.path().join("shared/sub")).unwrap();
        fs::write(dir.path().join("shared/hello"), "hello, guest").unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("shared/link")).unwrap();
        let share = Share::new(&dir.path().join("shared"), "tag", readonly).unwrap();
        let session = share.activate(0).unwrap().remove(0);
        let mut mount = Self {
            dir,
            guest: Guest::translated(),
            session,
        };
        // Tversion 64 KiB "9P2000.L"
        let version = mount.send(100, &[&0x1_0000u32.to_le_bytes()[..], &name("9P2000.L")]);
        assert_eq!(
            version,
            (
                101,
                [&0x1_0000u32.to_le_bytes()[..], &name("9P2000.L")].concat()
            )
        );
        // Tattach fid afid uname aname n_uname
        let attach = mount.send(
            104,
            &[
                &fid(ROOT),
                &fid(u32::MAX),
                &name("root"),
                &name(""),
                &fid(0),
            ],
        );
        assert_eq!(attach.0, 105);
        assert_eq!(attach.1[0], 0x80, "the root is a directory");
        mount
    }

    /// Sends a message by the queue; type and body of the answer.
    fn send(&mut self, kind: u8, fields: &[&[u8]]) -> (u8, Vec<u8>) {
        let body = fields.concat();
        let len = u32::try_from(7 + body.len()).unwrap();
        self.send_raw(&[&len.to_le_bytes()[..], &[kind, 0x34, 0x12], &body].concat())
    }

    fn send_raw(&mut self, message: &[u8]) -> (u8, Vec<u8>) {
        self.guest.write(REQUEST, message);
        self.guest.write(QUEUE + 0x1000, &[0; 0x100]);
        self.guest.write(QUEUE + 0x2000, &[0; 0x100]);
        let mut queue = RawQueue::new(&self.guest, QUEUE);
        let len = u32::try_from(message.len()).unwrap();
        queue.submit(&[(REQUEST, len, false), (REPLY, 0x1_0000, true)]);
        let notifier = Arc::<RecordingNotifier>::default();
        let mut ring = self.guest.ring(&queue, 0, &notifier);
        assert_eq!(drain(self.session.as_mut(), &mut ring), Wait::Chains);
        let used = queue.used();
        assert_eq!(used.len(), 1);
        let reply = self.guest.read(REPLY, usize::try_from(used[0].1).unwrap());
        assert_eq!(reply[..4], used[0].1.to_le_bytes());
        if message.len() >= 7 {
            assert_eq!(reply[5..7], message[5..7], "the tag comes back");
        }
        (reply[4], reply[7..].to_vec())
    }

    fn walk(&mut self, from: u32, to: u32, names: &[&str]) -> (u8, Vec<u8>) {
        let count = u16::try_from(names.len()).unwrap().to_le_bytes();
        let names: Vec<u8> = names.iter().flat_map(|each| name(each)).collect();
        self.send(110, &[&fid(from), &fid(to), &count, &names])
    }

    fn open(&mut self, file: u32, flags: u32) -> (u8, Vec<u8>) {
        self.send(12, &[&fid(file), &flags.to_le_bytes()])
    }

    fn read(&mut self, file: u32) -> (u8, Vec<u8>) {
        self.send(
            116,
            &[&fid(file), &0u64.to_le_bytes(), &1000u32.to_le_bytes()],
        )
    }
}

fn fid(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn name(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_le_bytes()[..], text.as_bytes()].concat()
}

fn error(errno: u32) -> (u8, Vec<u8>) {
    (7, errno.to_le_bytes().to_vec())
}

#[test]
fn file_is_walked_to_opened_and_read() {
    let mut mount = Mount::new(false);
    let walked = mount.walk(ROOT, 2, &["hello"]);
    assert_eq!((walked.0, &walked.1[..2]), (111, &[1, 0][..]));
    assert_eq!(mount.open(2, 0).0, 13);
    let expected = [&12u32.to_le_bytes()[..], b"hello, guest"].concat();
    assert_eq!(mount.read(2), (117, expected));
    assert_eq!(mount.send(120, &[&fid(2)]), (121, vec![]));
    assert_eq!(mount.read(2).0, 7);
}

#[test]
fn file_is_created_and_written() {
    let mut mount = Mount::new(false);
    mount.walk(ROOT, 2, &["sub"]);
    // Tlcreate fid name flags mode gid: O_RDWR | O_DIRECT, which is not passed on.
    let created = mount.send(
        14,
        &[
            &fid(2),
            &name("new"),
            &0o40002u32.to_le_bytes(),
            &fid(0o644),
            &fid(0),
        ],
    );
    assert_eq!(created.0, 15);
    let data = [&5u32.to_le_bytes()[..], b"bytes"].concat();
    let written = mount.send(118, &[&fid(2), &0u64.to_le_bytes(), &data]);
    assert_eq!(written, (119, 5u32.to_le_bytes().to_vec()));
    assert_eq!(
        fs::read(mount.dir.path().join("shared/sub/new")).unwrap(),
        b"bytes"
    );
}

#[test]
fn names_that_lead_out_are_refused() {
    let mut mount = Mount::new(false);
    for names in [
        &[".."][..],
        &["sub", "..", "..", "outside"],
        &["sub/../../outside"],
        &["/etc"],
        &["."],
        &[""],
    ] {
        assert_eq!(mount.walk(ROOT, 9, names), error(EACCES), "{names:?}");
    }
    let outside = name("../evil");
    let flags = 0u32.to_le_bytes();
    mount.walk(ROOT, 2, &["hello"]);
    let root = fid(ROOT);
    assert_eq!(
        mount.send(14, &[&root, &outside, &flags, &flags, &flags]),
        error(EACCES)
    );
    assert_eq!(mount.send(70, &[&root, &fid(2), &outside]), error(EACCES));
    assert_eq!(
        mount.send(72, &[&root, &outside, &flags, &flags]),
        error(EACCES)
    );
    assert_eq!(
        mount.send(76, &[&root, &name("../outside"), &flags]),
        error(EACCES)
    );
    let rename = [&root[..], &name("hello"), &root, &outside].concat();
    assert_eq!(mount.send(74, &[&rename]), error(EACCES));
    let rename = [&root[..], &name("../outside"), &root, &name("x")].concat();
    assert_eq!(mount.send(74, &[&rename]), error(EACCES));
    assert!(!mount.dir.path().join("evil").exists());
    assert!(mount.dir.path().join("outside").exists());
}

#[test]
fn symbolic_link_is_not_followed() {
    let mut mount = Mount::new(false);
    let walked = mount.walk(ROOT, 2, &["link"]);
    assert_eq!((walked.0, walked.1[2]), (111, 0x02), "the link itself");
    assert_eq!(mount.open(2, 0).0, 7);
    mount.walk(ROOT, 3, &["link", "x"]);
    assert_eq!(mount.open(3, 0).0, 7);
    // Tsymlink fid name target gid
    let made = mount.send(16, &[&fid(ROOT), &name("mine"), &name("/etc"), &fid(0)]);
    assert_eq!(made, error(EACCES));
    // Tmknod dfid name mode major minor gid
    let node = [fid(0o020_666), fid(1), fid(3), fid(0)].concat();
    assert_eq!(
        mount.send(18, &[&fid(ROOT), &name("null"), &node]),
        error(EACCES)
    );
}

#[test]
fn readonly_share_lets_nothing_change() {
    let mut mount = Mount::new(true);
    mount.walk(ROOT, 2, &["hello"]);
    for flags in [1, 2, 3, 0o1000, 0o100] {
        assert_eq!(mount.open(2, flags), error(EROFS), "{flags:o}");
    }
    let zero = [0; 64];
    for kind in [14, 16, 18, 20, 26, 32, 70, 72, 74, 76, 118, 122, 99] {
        assert_eq!(mount.send(kind, &[&zero]), error(EROFS), "message {kind}");
    }
    assert_eq!(mount.open(2, 0).0, 13);
    assert_eq!(mount.read(2).0, 117);
    assert_eq!(
        fs::read(mount.dir.path().join("shared/hello")).unwrap(),
        b"hello, guest"
    );
}

#[test]
fn opening_a_fifo_does_not_block() {
    let mut mount = Mount::new(false);
    let fifo = mount.dir.path().join("shared/fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, 0o644.into(), 0).unwrap();
    mount.walk(ROOT, 2, &["fifo"]);
    assert_eq!(mount.open(2, 0).0, 13);
    assert_eq!(mount.read(2).0, 7);
}

#[test]
fn guest_cannot_hold_more_files_than_its_budget() {
    let mut filter = Filter::new(false, 2);
    let walk = |to: u32| {
        [
            &17u32.to_le_bytes()[..],
            &[110, 0, 0],
            &fid(ROOT),
            &fid(to),
            &[0, 0],
        ]
        .concat()
    };
    let walked = [9, 0, 0, 0, 111, 0, 0, 0, 0];
    let failed = [11, 0, 0, 0, 7, 0, 0, 2, 0, 0, 0];
    assert_eq!(filter.judge(&mut walk(5)), Verdict::Pass);
    filter.record(&walk(5), &failed);
    for file in [5, 6] {
        assert_eq!(filter.judge(&mut walk(file)), Verdict::Pass);
        filter.record(&walk(file), &walked);
    }
    let emfile = rustix::io::Errno::from_raw_os_error(24);
    assert_eq!(filter.judge(&mut walk(7)), Verdict::Refuse(emfile));
    assert_eq!(filter.judge(&mut walk(6)), Verdict::Pass);
    let clunk = [11, 0, 0, 0, 120, 0, 0, 6, 0, 0, 0];
    filter.record(&clunk, &[7, 0, 0, 0, 121, 0, 0]);
    assert_eq!(filter.judge(&mut walk(7)), Verdict::Pass);
}

#[test]
fn remove_is_not_done_but_gives_the_file_back() {
    for (readonly, errno) in [(false, 95), (true, EROFS)] {
        let mut mount = Mount::new(readonly);
        for _ in 0..2 {
            assert_eq!(mount.walk(ROOT, 2, &["hello"]).0, 111);
            // Tremove fid, and Tstatfs of what is no file any more.
            assert_eq!(mount.send(122, &[&fid(2)]), error(errno));
            assert_eq!(mount.send(8, &[&fid(2)]), error(9));
        }
        assert!(mount.dir.path().join("shared/hello").exists());
    }
}

#[test]
fn message_that_is_cut_or_lies_about_its_size_is_answered_with_an_error() {
    let mut mount = Mount::new(false);
    assert_eq!(mount.send_raw(&[]), error(EINVAL));
    assert_eq!(mount.send_raw(&[7, 0, 0]), error(EINVAL));
    assert_eq!(mount.send_raw(&[200, 0, 0, 0, 110, 1, 0]), error(EINVAL));
    assert_eq!(mount.send(110, &[&fid(ROOT)]), error(EINVAL));
    assert_eq!(
        mount.send(110, &[&fid(ROOT), &fid(2), &[17, 0]]),
        error(EINVAL)
    );
    let walk = mount.send(110, &[&fid(ROOT), &fid(2), &[1, 0], &[200, 0], b"short"]);
    assert_eq!(walk, error(EINVAL));
    assert_eq!(mount.send(99, &[]).0, 7);
    assert_eq!(mount.walk(ROOT, 2, &["missing"]), error(ENOENT));
}

#[test]
fn second_session_may_use_longer_messages_than_the_first() {
    let mut mount = Mount::new(false);
    for size in [8192u32, 0x1_0000] {
        let version = mount.send(100, &[&size.to_le_bytes()[..], &name("9P2000.L")]);
        assert_eq!(version.1[..4], size.to_le_bytes());
    }
    assert_eq!(
        mount.walk(ROOT, 2, &[]).0,
        7,
        "files of the session before are gone"
    );
}

#[test]
fn directory_is_listed() {
    let mut mount = Mount::new(true);
    mount.walk(ROOT, 2, &[]);
    mount.open(2, 0o200_000);
    // Treaddir fid offset count
    let listed = mount.send(40, &[&fid(2), &0u64.to_le_bytes(), &4000u32.to_le_bytes()]);
    assert_eq!(listed.0, 41);
    let text = String::from_utf8_lossy(&listed.1);
    for entry in ["hello", "sub", "link"] {
        assert!(text.contains(entry), "{entry}");
    }
}

#[test]
fn share_of_nothing_or_under_no_tag_is_refused() {
    let missing = Share::new(Path::new("no-such-directory"), "tag", false);
    assert!(matches!(missing, Err(VirtioError::ShareOpen { .. })));
    let file = Share::new(Path::new("Cargo.toml"), "tag", false);
    assert!(matches!(file, Err(VirtioError::ShareOpen { .. })));
    for tag in [String::new(), "x".repeat(256)] {
        let refused = Share::new(Path::new("."), &tag, false);
        assert!(matches!(refused, Err(VirtioError::BadTag { .. })));
    }
}

#[test]
fn configuration_holds_the_tag() {
    let share = Share::new(Path::new("."), "rootfs", false).unwrap();
    assert_eq!(share.config(), b"\x06\0rootfs");
    assert_eq!(share.features(), 1);
}
