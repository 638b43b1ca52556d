// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tap interfaces (include/uapi/linux/if_tun.h).

use crate::error::Error;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

/// Bytes of the virtio-net header before each frame, in both directions (struct virtio_net_hdr_v1).
pub const HEADER_SIZE: i32 = 12;

mod number {
    use vmm_sys_util::ioctl_iow_nr;

    const TUN: u32 = b'T' as u32;
    ioctl_iow_nr!(TUNSETIFF, TUN, 202, libc::c_int);
    ioctl_iow_nr!(TUNSETVNETHDRSZ, TUN, 216, libc::c_int);
}
use number::{TUNSETIFF, TUNSETVNETHDRSZ};

const ADVICE: &str =
    "create it with `ip tuntap add NAME mode tap user $USER`, or run with CAP_NET_ADMIN";

/// Opens the tap interface `name`: non-blocking, a frame a read or write, each with a header of [`HEADER_SIZE`] bytes. The
/// kernel makes an interface that is not there, for as long as the file is open, for callers that may.
///
/// # Errors
/// There is no tap driver, the interface belongs to somebody else, or is no tap.
pub fn open(name: &str) -> Result<File, Error> {
    let refused = |what: &str, source: io::Error| Error::Host {
        what: format!("{what} the tap interface {name}"),
        source,
        advice: ADVICE,
    };
    let request = request(name)?;
    let file = rustix::fs::open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map(File::from)
    .map_err(|e| refused("open /dev/net/tun for", e.into()))?;
    attach(&file, request).map_err(|e| refused("attach to", e))?;
    set_header_size(&file).map_err(|e| refused("set the header size of", e))?;
    Ok(file)
}

fn request(name: &str) -> Result<libc::ifreq, Error> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= ifr_name.len() {
        return Err(Error::Option {
            option: "net",
            problem: format!("tap={name}: an interface's name has 1 to 15 bytes"),
        });
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    Ok(libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(flags)
                .map_err(|_| Error::Bug("tap flags beyond 16 bits".into()))?,
        },
    })
}

#[expect(unsafe_code, reason = "an ioctl")]
fn attach(file: &File, mut request: libc::ifreq) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    let result = unsafe { ioctl_with_mut_ref(file, TUNSETIFF(), &mut request) };
    check(result)
}

#[expect(unsafe_code, reason = "an ioctl")]
fn set_header_size(file: &File) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    let result = unsafe { ioctl_with_ref(file, TUNSETVNETHDRSZ(), &HEADER_SIZE) };
    check(result)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_name_and_flags() {
        let request = request("tap0").unwrap();
        let name: Vec<u8> = request
            .ifr_name
            .iter()
            .map(|c| c.to_ne_bytes()[0])
            .collect();
        assert_eq!(&name[..5], b"tap0\0");
        // IFF_TAP 2, IFF_NO_PI 0x1000, IFF_VNET_HDR 0x4000.
        let bytes = flags_of(&request);
        assert_eq!(bytes, 0x5002);
    }

    #[expect(unsafe_code, reason = "a union")]
    fn flags_of(request: &libc::ifreq) -> i16 {
        // SAFETY: `request` filled this member.
        unsafe { request.ifr_ifru.ifru_flags }
    }

    #[test]
    fn ioctl_numbers_are_those_of_the_header() {
        assert_eq!(TUNSETIFF(), 0x4004_54ca);
        assert_eq!(TUNSETVNETHDRSZ(), 0x4004_54d8);
    }

    #[test]
    fn name_that_does_not_fit_is_refused() {
        assert_eq!(open("").unwrap_err().status(), 2);
        assert_eq!(open("sixteen-bytes-xx").unwrap_err().status(), 2);
    }
}
