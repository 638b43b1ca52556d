// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A shared directory: 9P2000.L over virtio (virtio 1.2 section 5.13), served by the `p9` library.
//!
//! The guest mounts it as `mount -t 9p -o trans=virtio,version=9p2000.L TAG DIR`, or boots from it with
//! `root=TAG rootfstype=9p rootflags=trans=virtio,version=9p2000.L`.
//!
//! What keeps the guest inside the directory: the library opens every path component relative to the one before and without
//! following symbolic links, and makes neither symbolic links nor device nodes; a filter in front of it refuses names that
//! are not single components (`..` and anything with a slash), for which the library relies on a jail. Device nodes that
//! already lie in the directory can be opened with the rights of this process, so share no directory that holds some.
//!
//! Files are made and opened as the user that runs the machine; their owners show unchanged. Not supported: symbolic links and
//! device nodes made by the guest, extended attributes, locks between guest and host, names that are not UTF-8.
//!
//! A request is copied out of guest memory, answered with no section open, and the answer copied in.

mod filter;

use super::ring::{Ring, RingError};
use super::{QueueHandler, VirtioDevice, VirtioError, Wait, feature};
use filter::{Filter, Verdict};
use p9::{Config, Server};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `VIRTIO_9P_MOUNT_TAG`: the configuration space holds the mount tag.
const MOUNT_TAG: u32 = 0;

/// Bytes that a mount tag can have.
pub const MAX_TAG: usize = 255;

/// Bytes in the longest message, offered to the driver: 128 KiB of data and the longest header.
const MAX_MESSAGE: u32 = (128 << 10) + 24;

/// Bytes in one chain: a message for each direction, rounded up to pages at both ends.
const MAX_CHAIN: usize = 2 * (MAX_MESSAGE as usize + 8192);

/// A shared directory.
#[derive(Debug)]
pub struct Share {
    root: PathBuf,
    readonly: bool,
    config: Vec<u8>,
}

impl Share {
    /// Shares `dir` under the mount tag `tag`.
    ///
    /// # Errors
    /// `dir` is no directory that can be read, or the tag does not fit.
    pub fn new(dir: &Path, tag: &str, readonly: bool) -> Result<Self, VirtioError> {
        let failed = |source| VirtioError::ShareOpen {
            path: dir.to_owned(),
            source,
        };
        if tag.is_empty() || tag.len() > MAX_TAG {
            return Err(VirtioError::BadTag {
                tag: tag.to_owned(),
                max: MAX_TAG,
            });
        }
        // The server does not follow a symbolic link at the end of the path, so resolve it here.
        let root = dir.canonicalize().map_err(failed)?;
        std::fs::read_dir(&root).map_err(failed)?;
        let share = Self {
            root,
            readonly,
            config: config(tag),
        };
        share.server().map_err(failed)?;
        Ok(share)
    }

    fn server(&self) -> io::Result<Server> {
        new_server(&self.root)
    }
}

fn new_server(root: &Path) -> io::Result<Server> {
    Server::with_config(Config {
        root: root.into(),
        msize: MAX_MESSAGE,
        ..Config::default()
    })
}

/// `struct virtio_9p_config`: the tag's length and the tag.
fn config(tag: &str) -> Vec<u8> {
    let len = u16::try_from(tag.len()).unwrap_or(0);
    [&len.to_le_bytes(), tag.as_bytes()].concat()
}

impl VirtioDevice for Share {
    fn id(&self) -> u16 {
        9
    }

    fn name(&self) -> &'static str {
        "9p"
    }

    fn class(&self) -> u32 {
        0x00_ff_00
    }

    fn features(&self) -> u64 {
        feature(MOUNT_TAG)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[128]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&self, _features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>> {
        Ok(vec![Box::new(Session {
            root: self.root.clone(),
            server: self.server()?,
            filter: Filter::new(self.readonly, file_budget()),
        })])
    }
}

/// How many files the guest may hold: a file takes two descriptors, and at least half of this process's are not for it.
fn file_budget() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    usize::try_from(limit.unwrap_or(u64::MAX) / 4)
        .unwrap_or(usize::MAX)
        .clamp(64, 1 << 16)
}

/// The server's side of one driver, from its start to its reset.
struct Session {
    root: PathBuf,
    server: Server,
    filter: Filter,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("root", &self.root)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn answer(&mut self, mut request: Vec<u8>) -> Vec<u8> {
        let errno = match self.filter.judge(&mut request) {
            Verdict::Refuse(errno) => errno,
            Verdict::NewSession => match new_server(&self.root) {
                // The library never raises the message size again, so each session gets a server of its own.
                Ok(server) => {
                    self.server = server;
                    self.filter.forget_files();
                    return self.pass_on(&request);
                }
                Err(error) => errno_of(&error),
            },
            Verdict::Pass => return self.pass_on(&request),
            Verdict::Release(errno) => {
                self.pass_on(&request);
                errno
            }
        };
        filter::error_reply(&request, errno)
    }

    fn pass_on(&mut self, request: &[u8]) -> Vec<u8> {
        let mut reply = Vec::new();
        match self.server.handle_message(&mut &*request, &mut reply) {
            Ok(()) => {
                self.filter.record(request, &reply);
                reply
            }
            Err(error) => filter::error_reply(request, errno_of(&error)),
        }
    }
}

fn errno_of(error: &io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::INVAL)
}

impl QueueHandler for Session {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        ring.set_max_bytes(MAX_CHAIN);
        let request = ring.batch(|batch| {
            let Some(mut chain) = batch.pop()? else {
                return Ok(None);
            };
            let mut request = vec![0; chain.readable.len()];
            chain.readable.read(&mut request)?;
            batch.rewind(1);
            Ok(Some(request))
        })?;
        let Some(request) = request else {
            return Ok(Wait::Chains);
        };
        let reply = self.answer(request);
        ring.serve(|chain| {
            chain.writable.write(&reply)?;
            Ok(u32::try_from(reply.len()).unwrap_or(0))
        })?;
        Ok(Wait::Nothing)
    }
}

#[cfg(test)]
mod tests;
