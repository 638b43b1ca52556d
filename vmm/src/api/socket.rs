// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The socket in the file system: made for its owner alone, never taken from a machine that serves it, gone afterwards.

use crate::error::Error;
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Clients that may wait to be taken in.
const BACKLOG: i32 = 16;

/// A listening socket and its name.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the name, so that somebody else's is left alone.
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket `path`, with mode 0600. A socket that nobody serves any more is replaced.
    ///
    /// # Errors
    /// Something is there already, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let refused = |source| Error::File {
            action: "serve",
            what: "control socket",
            path: path.to_path_buf(),
            source,
        };
        // Two machines that start at once must not remove each other's. A lock of the folder leaves nothing behind.
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let locked = File::open(folder).map_err(refused)?;
        flock(&locked, FlockOperation::LockExclusive).map_err(|e| refused(e.into()))?;
        remove_stale(path).map_err(refused)?;
        let listener = listen(path).map_err(|e| refused(e.into()))?;
        let file = fs::symlink_metadata(path).map_err(refused)?;
        Ok(Self {
            listener,
            path: path.to_path_buf(),
            file: (file.dev(), file.ino()),
        })
    }

    /// The listening end, which does not block.
    #[must_use]
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!("the control socket {path} stays behind: {error}");
        }
    }
}

/// A listening socket that does not block. Linux gives the name the mode that the socket has before it is bound, so there is no
/// moment in which others could connect.
fn listen(path: &Path) -> rustix::io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Makes room for a new socket, if only one is there that nobody serves.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !there.file_type().is_socket() {
        let why = "there is a file of this name that is no socket: choose another name";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => {
            let why = "another machine serves it: choose another name, or end that machine";
            Err(io::Error::new(ErrorKind::AddrInUse, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_for_its_owner_alone_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn socket_that_is_served_is_refused_and_one_that_is_not_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert_eq!(error.status(), 2);
        assert!(
            error.to_string().contains("another machine serves it"),
            "{error}"
        );
        UnixStream::connect(&path).unwrap();
        drop(first);

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = Socket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(second);
    }

    #[test]
    fn name_that_is_somebody_elses_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "precious").unwrap();
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let socket = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "new").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn folder_that_is_not_there_is_named() {
        let error = Socket::bind(Path::new("/nonexistent/s")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/s"), "{error}");
    }
}
