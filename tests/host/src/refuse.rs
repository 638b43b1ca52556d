// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `refuse REQUEST ERRNO FIRST LAST COMMAND…`: runs a command for which one ioctl fails, from its FIRST to its LAST call on, as if
//! the kernel had refused it.
//!
//! A seccomp filter has the kernel ask this program about each call of the request; it answers with the error or lets the call
//! go on. Nothing else of the command is touched.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};
use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use rustix::event::{PollFd, PollFlags, poll};

/// The calls of one request that fail.
struct Refusal {
    request: u32,
    errno: i32,
    calls: RangeInclusive<u64>,
}

/// Runs it; the command's exit status.
pub fn run(args: &[&str]) -> Result<u8> {
    let [request, errno, first, last, program, ref args @ ..] = *args else {
        bail!("refuse takes a request, an errno, two numbers and a command")
    };
    let refusal = Refusal {
        request: u32::from_str_radix(request.trim_start_matches("0x"), 16)?,
        errno: errno.parse()?,
        calls: first.parse()?..=last.parse()?,
    };
    let mut command = Command::new(program);
    command.args(args);
    let (sender, listener) = mpsc::channel();
    let request = refusal.request;
    // The filter is its thread's and what that thread starts; this one, which answers, has none.
    let child = thread::spawn(move || -> Result<ExitStatus> {
        sender.send(listen(request).context("installing the filter")?)?;
        Ok(command.status()?)
    });
    if let Ok(listener) = listener.recv() {
        answer(&listener, &refusal)?;
    }
    let status = child
        .join()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    Ok(u8::try_from(code.unwrap_or(1))?)
}

/// Has the kernel ask about every call of `request` that this thread and its children make.
fn listen(request: u32) -> io::Result<OwnedFd> {
    let rule = |code: u32, k: u32, no: u8| sock_filter {
        // Lossless: codes of instructions have 16 bits.
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: no,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let ioctl = u32::try_from(libc::SYS_ioctl).unwrap_or(0);
    // The number of the call, then the lower half of its second argument, in struct seccomp_data.
    let mut rules = [
        rule(load, 0, 0),
        rule(equal, ioctl, 3),
        rule(load, 24, 0),
        rule(equal, request, 1),
        rule(answer, libc::SECCOMP_RET_USER_NOTIF, 0),
        rule(answer, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = sock_fprog {
        len: u16::try_from(rules.len()).unwrap_or(0),
        filter: rules.as_mut_ptr(),
    };
    rustix::thread::set_no_new_privs(true)?;
    #[expect(unsafe_code, reason = "no library makes listening filters")]
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "the kernel returns a number")]
    // SAFETY: the kernel has just made this file, and nobody else has been told of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fd)
}

/// Answers until nobody is left who could ask.
fn answer(listener: &OwnedFd, refusal: &Refusal) -> Result<()> {
    let mut call = 0;
    loop {
        let mut events = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !events[0].revents().contains(PollFlags::IN) {
            break;
        }
        let Some(id) = receive(listener) else {
            continue;
        };
        call += 1;
        let refused = refusal.calls.contains(&call);
        send(
            listener,
            seccomp_notif_resp {
                id,
                val: 0,
                error: if refused { -refusal.errno } else { 0 },
                flags: if refused {
                    0
                } else {
                    u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE)?
                },
            },
        );
    }
    Ok(())
}

/// The next question's name; `None` when it was withdrawn.
fn receive(listener: &OwnedFd) -> Option<u64> {
    #[expect(unsafe_code, reason = "the kernel wants it zeroed")]
    // SAFETY: all of it is numbers, for which zero is a value.
    let mut question: seccomp_notif = unsafe { std::mem::zeroed() };
    let fd = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes this request")]
    // SAFETY: the request writes one such structure, which is borrowed for the call.
    let result = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut question) };
    (result == 0).then_some(question.id)
}

/// Answers a question; one whose asker is gone needs no answer.
fn send(listener: &OwnedFd, mut answer: seccomp_notif_resp) {
    let fd = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes this request")]
    // SAFETY: the request reads one such structure, which is borrowed for the call.
    let _ = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
}
