// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `refuse REQUEST ERRNO FIRST LAST COMMAND…`: runs a command for which one ioctl fails, from its FIRST to its LAST call on, as if
//! the kernel had refused it. `refuse by FILE REQUEST,… COMMAND…`: each of these ioctls fails as long as FILE says so, by a line
//! with the request and an errno.
//!
//! A seccomp filter has the kernel ask this program about each call of the request; it answers with the error or lets the call
//! go on. Nothing else of the command is touched.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};
use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use rustix::event::{PollFd, PollFlags, poll};

/// Which calls fail.
enum Refusal {
    /// Some calls of one request.
    Calls(i32, RangeInclusive<u64>),
    /// Those that a file names.
    Listed(PathBuf),
}

impl Refusal {
    /// The error of the `number`th call of all, which is one of `request`.
    fn of(&self, number: u64, request: u32) -> Option<i32> {
        match self {
            Self::Calls(errno, calls) => calls.contains(&number).then_some(*errno),
            Self::Listed(file) => listed(&fs::read_to_string(file).unwrap_or_default(), request),
        }
    }
}

/// What a list says of a request.
fn listed(list: &str, request: u32) -> Option<i32> {
    list.lines().find_map(|line| {
        let (name, errno) = line.split_once(' ')?;
        (hexadecimal(name).ok()? == request).then_some(errno.trim().parse().ok()?)
    })
}

fn hexadecimal(digits: &str) -> Result<u32> {
    Ok(u32::from_str_radix(digits.trim_start_matches("0x"), 16)?)
}

/// Runs it; the command's exit status.
pub fn run(args: &[&str]) -> Result<u8> {
    let (refusal, requests, program, args) = match *args {
        ["by", file, requests, program, ref args @ ..] => {
            let requests = requests.split(',').map(hexadecimal);
            let requests = requests.collect::<Result<Vec<_>>>()?;
            (Refusal::Listed(file.into()), requests, program, args)
        }
        [request, errno, first, last, program, ref args @ ..] => {
            let calls = first.parse()?..=last.parse()?;
            let refusal = Refusal::Calls(errno.parse()?, calls);
            (refusal, vec![hexadecimal(request)?], program, args)
        }
        _ => bail!("refuse takes a request, an errno, two numbers and a command"),
    };
    let mut command = Command::new(program);
    command.args(args);
    let (sender, listener) = mpsc::channel();
    // The filter is its thread's and what that thread starts; this one, which answers, has none.
    let child = thread::spawn(move || -> Result<ExitStatus> {
        sender.send(listen(&requests).context("installing the filter")?)?;
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

/// Has the kernel ask about every call of these requests that this thread and its children make.
fn listen(requests: &[u32]) -> io::Result<OwnedFd> {
    let rule = |code: u32, k: u32, [yes, no]: [u8; 2]| sock_filter {
        // Lossless: codes of instructions have 16 bits.
        code: u16::try_from(code).unwrap_or(0),
        jt: yes,
        jf: no,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let ioctl = u32::try_from(libc::SYS_ioctl).unwrap_or(0);
    // The number of the call, then the lower half of its second argument, in struct seccomp_data. Each of the requests leads to
    // the last rule, what is none of them to the one before.
    let count = u8::try_from(requests.len()).map_err(io::Error::other)?;
    let mut rules = vec![
        rule(load, 0, [0, 0]),
        rule(equal, ioctl, [0, count + 1]),
        rule(load, 24, [0, 0]),
    ];
    for (request, left) in requests.iter().zip((0..count).rev()) {
        rules.push(rule(equal, *request, [left + 1, 0]));
    }
    rules.push(rule(answer, libc::SECCOMP_RET_ALLOW, [0, 0]));
    rules.push(rule(answer, libc::SECCOMP_RET_USER_NOTIF, [0, 0]));
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
        let Some((id, request)) = receive(listener) else {
            continue;
        };
        call += 1;
        let refused = refusal.of(call, request);
        let goes_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE)?;
        send(
            listener,
            seccomp_notif_resp {
                id,
                val: 0,
                error: -refused.unwrap_or(0),
                flags: refused.map_or(goes_on, |_| 0),
            },
        );
    }
    Ok(())
}

/// The next question's name, and the request that it is about; `None` when it was withdrawn.
fn receive(listener: &OwnedFd) -> Option<(u64, u32)> {
    #[expect(unsafe_code, reason = "the kernel wants it zeroed")]
    // SAFETY: all of it is numbers, for which zero is a value.
    let mut question: seccomp_notif = unsafe { std::mem::zeroed() };
    let fd = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes this request")]
    // SAFETY: the request writes one such structure, which is borrowed for the call.
    let result = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut question) };
    let [_, request, ..] = question.data.args;
    // The filter has compared only this half.
    let request = u32::try_from(request & u64::from(u32::MAX)).unwrap_or(0);
    (result == 0).then_some((question.id, request))
}

/// Answers a question; one whose asker is gone needs no answer.
fn send(listener: &OwnedFd, mut answer: seccomp_notif_resp) {
    let fd = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes this request")]
    // SAFETY: the request reads one such structure, which is borrowed for the call.
    let _ = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_finds_the_error_of_that_request_alone() {
        let list = "0x3b77 16\n3b89 12\n";
        assert_eq!(listed(list, 0x3b77), Some(16));
        assert_eq!(listed(list, 0x3b89), Some(12));
        assert_eq!(listed(list, 0x3b8d), None);
        assert_eq!(listed("", 0x3b77), None);
        assert_eq!(listed("0x3b77 busy", 0x3b77), None);
    }
}
