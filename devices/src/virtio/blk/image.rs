// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disk images, raw and qcow2, by the `imago` library.
//!
//! The format is told by qcow2's magic. Because a guest can write that magic to a raw image, a qcow2 image is not allowed to
//! name other files: neither a backing file nor an external data file is ever opened, an image that wants one is refused.
//!
//! An image that gets shorter while the guest runs answers every request with an error, instead of zeroes, until it has its
//! length back.
//!
//! Lock rule: data moves between image and guest memory under an [`ImageAccess`], which is taken before the section of the DMA
//! space opens. Discards, zeroes and the writing out of cached metadata exclude it. So they make other requests wait, but
//! never a section, and no invalidation waits for them.

use crate::virtio::VirtioError;
use crate::virtio::chain::Buffers;
use imago::file::File as Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Pieces of memory that one system call takes (the kernel's UIO_MAXIOV is 1024).
const MAX_PIECES: usize = 512;

/// An open disk image.
pub struct Image {
    access: RwLock<FormatAccess<Storage>>,
    /// The same open file, to see whether it got shorter; its length at the start. Block devices have no length to watch.
    file: File,
    least_len: Option<u64>,
    /// Its format keeps metadata in memory, which a flush has to write out.
    keeps_metadata: bool,
    capacity: u64,
    readonly: bool,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("file", &self.file)
            .field("capacity", &self.capacity)
            .field("readonly", &self.readonly)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Opens the image at `path`, a file or a block device. `direct` bypasses the host's page cache.
    ///
    /// # Errors
    /// The image cannot be opened so, is used by another process, is damaged, names other files or holds less than a sector.
    pub fn open(path: &Path, readonly: bool, direct: bool) -> Result<Self, VirtioError> {
        let failed = |source| VirtioError::ImageOpen {
            path: path.to_owned(),
            source,
        };
        let qcow2 = is_qcow2(path).map_err(failed)?;
        let file = open_file(path, readonly, direct).map_err(failed)?;
        lock(&file, readonly).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => VirtioError::ImageInUse {
                path: path.to_owned(),
            },
            _ => failed(source),
        })?;
        let metadata = file.metadata().map_err(failed)?;
        let watched = file.try_clone().map_err(failed)?;
        let options = StorageOpenOptions::new()
            .write(!readonly)
            .direct(direct)
            .filename(path);
        let storage = Storage::from_open_file(file, options).map_err(failed)?;
        let access = open_format(storage, qcow2, readonly).map_err(failed)?;
        let capacity = access.size();
        if capacity < 512 {
            return Err(VirtioError::ImageTooSmall {
                path: path.to_owned(),
                len: capacity,
            });
        }
        if !capacity.is_multiple_of(512) {
            tracing::warn!(image = %path.display(), capacity, "the image's last part of a sector is out of reach");
        }
        Ok(Self {
            access: RwLock::new(access),
            file: watched,
            least_len: metadata.is_file().then_some(metadata.len()),
            keeps_metadata: qcow2,
            capacity,
            readonly,
        })
    }

    /// Bytes that the guest sees.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// The right to move data, for one request. Waits for whoever has the image to itself, so no section must be open.
    pub(super) fn access(&self) -> ImageAccess<'_> {
        ImageAccess {
            image: self,
            access: self.access.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Makes everything written before survive a crash of the host.
    ///
    /// # Errors
    /// The host's, or the image got shorter.
    pub fn flush(&self) -> io::Result<()> {
        self.check_len()?;
        if self.keeps_metadata {
            self.exclusive().flush()?;
        }
        self.access().access.sync()
    }

    /// Gives `len` bytes at `offset` back to the host; what they read afterwards is not said.
    ///
    /// # Errors
    /// The host's, of kind `Unsupported` where it cannot, or the image got shorter.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_len()?;
        self.exclusive().discard_to_any(offset, len)
    }

    /// Makes `len` bytes at `offset` read as zeroes, without storing them where the format can do that.
    ///
    /// # Errors
    /// The host's, or the image got shorter.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_len()?;
        let access = self.exclusive();
        match access.write_zeroes(offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                store_zeroes(&access, offset, len)
            }
            result => result,
        }
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, FormatAccess<Storage>> {
        self.access.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request holds an [`ImageAccess`] now.
    #[cfg(test)]
    pub(super) fn is_accessed(&self) -> bool {
        self.access.try_write().is_err()
    }

    fn check_len(&self) -> io::Result<()> {
        let Some(least) = self.least_len else {
            return Ok(());
        };
        let len = self.file.metadata()?.len();
        if len < least {
            return Err(io::Error::other(format!(
                "the image was {least} bytes long and now is {len}"
            )));
        }
        Ok(())
    }
}

/// An image, held while one request moves its data.
pub(super) struct ImageAccess<'i> {
    image: &'i Image,
    access: RwLockReadGuard<'i, FormatAccess<Storage>>,
}

impl ImageAccess<'_> {
    /// Fills `buffers` from `offset` (bytes) on.
    ///
    /// # Errors
    /// The host's, or the image got shorter.
    pub(super) fn read(&self, mut offset: u64, mut buffers: Buffers<'_>) -> io::Result<()> {
        self.image.check_len()?;
        while !buffers.is_empty() {
            let part = buffers.take_slices(MAX_PIECES);
            let slices: Vec<_> = part.slices().collect();
            let (vector, _guard) = IoVectorMut::from_volatile_slice(slices);
            self.access.readv(vector, offset)?;
            offset += part.len() as u64;
        }
        self.image.check_len()
    }

    /// Writes `buffers` at `offset` (bytes).
    ///
    /// # Errors
    /// The host's, or the image got shorter.
    pub(super) fn write(&self, mut offset: u64, mut buffers: Buffers<'_>) -> io::Result<()> {
        self.image.check_len()?;
        while !buffers.is_empty() {
            let part = buffers.take_slices(MAX_PIECES);
            let slices: Vec<_> = part.slices().collect();
            let (vector, _guard) = IoVector::from_volatile_slice(slices);
            self.access.writev(vector, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

/// For a format or a host that has no other way (qcow2 version 2, for one).
fn store_zeroes(access: &FormatAccess<Storage>, mut offset: u64, len: u64) -> io::Result<()> {
    let zeroes = vec![0; 64 << 10];
    let end = offset + len;
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let part = &zeroes[..left.min(zeroes.len())];
        access.write(part, offset)?;
        offset += part.len() as u64;
    }
    Ok(())
}

fn is_qcow2(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::other("neither a file nor a block device"));
    }
    let mut magic = [0; QCOW2_MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(magic == QCOW2_MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_file(path: &Path, readonly: bool, direct: bool) -> io::Result<File> {
    let flags = if direct {
        OFlags::DIRECT
    } else {
        OFlags::empty()
    };
    OpenOptions::new()
        .read(true)
        .write(!readonly)
        .custom_flags(i32::try_from(flags.bits()).map_err(io::Error::other)?)
        .open(path)
}

/// Many may read an image, or one may write to it. File systems without locks are taken as they are.
fn lock(file: &File, readonly: bool) -> io::Result<()> {
    let operation = if readonly {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(file, operation) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

fn open_format(storage: Storage, qcow2: bool, readonly: bool) -> io::Result<FormatAccess<Storage>> {
    let gate = DenyImplicitOpenGate::default();
    if qcow2 {
        let image = Qcow2::<Storage>::builder(storage)
            .write(!readonly)
            .open(gate)?;
        Ok(FormatAccess::new(image))
    } else {
        let image = Raw::builder(storage).write(!readonly).open(gate)?;
        Ok(FormatAccess::new(image))
    }
}
