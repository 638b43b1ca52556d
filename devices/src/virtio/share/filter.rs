// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is looked at before a message reaches the 9P server (message layouts: 9P2000.L, `include/net/9p/9p.h` in Linux).
//!
//! Names must be single path components, a read-only share lets nothing through that changes a file, and the number of files
//! that the guest holds is bounded. Opening never blocks (a FIFO in the directory) and never uses direct I/O, whose alignment
//! rules the server's buffers do not meet.

use rustix::io::Errno;
use std::collections::HashSet;

const RLERROR: u8 = 7;
const TLOPEN: u8 = 12;
const TLCREATE: u8 = 14;
const TLINK: u8 = 70;
const TMKDIR: u8 = 72;
const TRENAMEAT: u8 = 74;
const TUNLINKAT: u8 = 76;
const TVERSION: u8 = 100;
const TATTACH: u8 = 104;
const RATTACH: u8 = 105;
const TWALK: u8 = 110;
const RWALK: u8 = 111;
const TCLUNK: u8 = 120;
const TREMOVE: u8 = 122;

/// Messages that change nothing, of those the server knows: statfs, readlink, getattr, xattrwalk, readdir, fsync, lock,
/// getlock, version, auth, attach, flush, walk, read, clunk. Open is judged by its flags.
const HARMLESS: [u8; 15] = [
    8, 22, 24, 30, 40, 50, 52, 54, TVERSION, 102, TATTACH, 108, TWALK, 116, TCLUNK,
];

/// `P9_DOTL_*` open flags.
const ACCESS_MODE: u32 = 0o3;
const CREATE: u32 = 0o100;
const TRUNC: u32 = 0o1000;
const NONBLOCK: u32 = 0o4000;
const DIRECT: u32 = 0o40000;

/// `P9_MAXWELEM`: names in one walk.
const MAX_WALK: u16 = 16;

const HEADER_LEN: usize = 7;
const NO_TAG: [u8; 2] = [0xff; 2];

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server shall answer.
    Pass,
    /// The server shall answer, and forget everything before.
    NewSession,
    /// Nothing is removed, but the guest gives the file back: the server shall have a clunk of it, and the answer is this error.
    Release(Errno),
    /// The answer is this error.
    Refuse(Errno),
}

/// The state of a session that the server does not tell.
#[derive(Debug)]
pub struct Filter {
    readonly: bool,
    max_fids: usize,
    fids: HashSet<u32>,
}

impl Filter {
    /// `max_fids` is the number of files that the guest may hold.
    pub fn new(readonly: bool, max_fids: usize) -> Self {
        Self {
            readonly,
            max_fids,
            fids: HashSet::new(),
        }
    }

    /// Judges `message` and makes its open flags harmless.
    pub fn judge(&self, message: &mut [u8]) -> Verdict {
        match self.check(message) {
            Err(errno) => Verdict::Refuse(errno),
            Ok(()) if message.get(4) == Some(&TVERSION) => Verdict::NewSession,
            // A remove gives its file back even if it fails, which the server does not do.
            Ok(()) if message.get(4) == Some(&TREMOVE) => {
                message[4] = TCLUNK;
                Verdict::Release(if self.readonly {
                    Errno::ROFS
                } else {
                    Errno::OPNOTSUPP
                })
            }
            Ok(()) => Verdict::Pass,
        }
    }

    fn check(&self, message: &mut [u8]) -> Result<(), Errno> {
        let mut fields = Fields { message, at: 0 };
        let size = fields.u32()?;
        let kind = fields.u8()?;
        fields.u16()?;
        if size as usize != fields.message.len() {
            return Err(Errno::INVAL);
        }
        if self.readonly && kind != TLOPEN && kind != TREMOVE && !HARMLESS.contains(&kind) {
            return Err(Errno::ROFS);
        }
        match kind {
            TLOPEN => {
                fields.u32()?;
                let flags = fields.patch_flags(NONBLOCK)?;
                if self.readonly && flags & (ACCESS_MODE | CREATE | TRUNC) != 0 {
                    return Err(Errno::ROFS);
                }
            }
            TLCREATE => {
                fields.u32()?;
                fields.name()?;
                fields.patch_flags(0)?;
            }
            TMKDIR | TUNLINKAT => {
                fields.u32()?;
                fields.name()?;
            }
            TLINK => {
                fields.u32()?;
                fields.u32()?;
                fields.name()?;
            }
            TRENAMEAT => {
                fields.u32()?;
                fields.name()?;
                fields.u32()?;
                fields.name()?;
            }
            TREMOVE => {
                fields.u32()?;
            }
            TATTACH => self.check_fid(fields.u32()?)?,
            TWALK => {
                fields.u32()?;
                self.check_fid(fields.u32()?)?;
                let count = fields.u16()?;
                if count > MAX_WALK {
                    return Err(Errno::INVAL);
                }
                (0..count).try_for_each(|_| fields.name())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_fid(&self, fid: u32) -> Result<(), Errno> {
        if self.fids.len() >= self.max_fids && !self.fids.contains(&fid) {
            return Err(Errno::MFILE);
        }
        Ok(())
    }

    /// The server holds no file any more.
    pub fn forget_files(&mut self) {
        self.fids.clear();
    }

    /// Notes which files the guest holds after the server answered `request` by `reply`.
    pub fn record(&mut self, request: &[u8], reply: &[u8]) {
        let fid = |at: usize| {
            let bytes = request.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        match (request.get(4), reply.get(4)) {
            (Some(&TATTACH), Some(&RATTACH)) => self.fids.extend(fid(HEADER_LEN)),
            // A walk that ends early makes no new file: compare the numbers of names and of answers.
            (Some(&TWALK), Some(&RWALK)) if request.get(15..17) == reply.get(7..9) => {
                self.fids.extend(fid(HEADER_LEN + 4));
            }
            (Some(&TCLUNK), _) => {
                if let Some(fid) = fid(HEADER_LEN) {
                    self.fids.remove(&fid);
                }
            }
            _ => {}
        }
    }
}

/// The Rlerror message that answers `request`.
pub fn error_reply(request: &[u8], errno: Errno) -> Vec<u8> {
    let tag = request.get(5..HEADER_LEN).unwrap_or(&NO_TAG);
    let code = errno.raw_os_error().unsigned_abs();
    let len: u32 = 11;
    [&len.to_le_bytes()[..], &[RLERROR], tag, &code.to_le_bytes()].concat()
}

/// The fields of a message, front to back.
struct Fields<'m> {
    message: &'m mut [u8],
    at: usize,
}

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let end = self.at + N;
        let field = self.message.get(self.at..end).ok_or(Errno::INVAL)?;
        self.at = end;
        field.try_into().map_err(|_| Errno::INVAL)
    }

    fn u8(&mut self) -> Result<u8, Errno> {
        self.bytes().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Errno> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// A name that is one path component and stays below its directory.
    fn name(&mut self) -> Result<(), Errno> {
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let name = self.message.get(self.at..end).ok_or(Errno::INVAL)?;
        self.at = end;
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            return Err(Errno::ACCESS);
        }
        Ok(())
    }

    /// Sets `add` in the open flags and clears direct I/O; answers the flags as they are now.
    fn patch_flags(&mut self, add: u32) -> Result<u32, Errno> {
        let at = self.at;
        let flags = (self.u32()? | add) & !DIRECT;
        self.message[at..at + 4].copy_from_slice(&flags.to_le_bytes());
        Ok(flags)
    }
}
