// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bytes of one client: what came in and is no whole request yet, and what is to go out.
//!
//! Both are bounded: a line that gets too long ends the connection, and no new request is taken from a client that has not
//! read the answer to its last one.

use super::protocol::MAX_REQUEST;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes taken at a time, so that one client cannot keep the others waiting.
const BITE: usize = 4096;

/// A request got too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What a client sent.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// So many bytes hold no end of line.
    looked: usize,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Something, or nothing for now.
    Some,
    /// The client will send nothing more.
    End,
}

impl Inbox {
    /// Takes what there is, at most a few KiB of it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<Got> {
        let mut bytes = [0; BITE];
        match source.read(&mut bytes) {
            Ok(0) => Ok(Got::End),
            Ok(count) => {
                self.bytes.extend_from_slice(&bytes[..count]);
                Ok(Got::Some)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Got::Some)
            }
            Err(e) => Err(e),
        }
    }

    /// The next line that is not blank, without its end. What follows the last end of line is a line once there is nothing more
    /// to come (`ended`).
    ///
    /// # Errors
    /// It is longer than [`MAX_REQUEST`], or will be.
    pub fn line(&mut self, ended: bool) -> Result<Option<Vec<u8>>, TooLong> {
        loop {
            let end = self.bytes[self.looked..].iter().position(|&b| b == b'\n');
            let Some(end) = end.map(|end| self.looked + end) else {
                self.looked = self.bytes.len();
                if self.looked > MAX_REQUEST {
                    return Err(TooLong);
                }
                if ended && !self.bytes.is_empty() {
                    self.bytes.push(b'\n');
                    continue;
                }
                return Ok(None);
            };
            let rest = self.bytes.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.bytes, rest);
            self.looked = 0;
            line.pop();
            if line.len() > MAX_REQUEST {
                return Err(TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

/// What a client is to get.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Adds text.
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Sends what the client takes; whether it took anything.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, sink: &mut impl Write) -> io::Result<bool> {
        let before = self.sent;
        while !self.is_empty() {
            match sink.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let moved = self.sent != before;
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(inbox: &mut Inbox, mut bytes: &[u8]) {
        while inbox.fill(&mut bytes).unwrap() == Got::Some {}
    }

    #[test]
    fn lines_are_cut_wherever_the_bytes_were() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, b"on");
        assert_eq!(inbox.line(false), Ok(None));
        feed(&mut inbox, b"e\n\n \r\ntwo\nthr");
        assert_eq!(inbox.line(false), Ok(Some(b"one".to_vec())));
        assert_eq!(inbox.line(false), Ok(Some(b"two".to_vec())));
        assert_eq!(inbox.line(false), Ok(None));
        assert_eq!(inbox.line(true), Ok(Some(b"thr".to_vec())));
        assert_eq!(inbox.line(true), Ok(None));
    }

    #[test]
    fn line_of_the_greatest_length_is_taken_and_a_longer_one_is_not() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &vec![b'a'; MAX_REQUEST]);
        assert_eq!(inbox.line(false), Ok(None));
        feed(&mut inbox, b"\n");
        assert_eq!(inbox.line(false).unwrap().unwrap().len(), MAX_REQUEST);
        feed(&mut inbox, &vec![b'a'; MAX_REQUEST + 1]);
        assert_eq!(inbox.line(false), Err(TooLong));
        let mut inbox = Inbox::default();
        feed(
            &mut inbox,
            &[vec![b'a'; MAX_REQUEST + 1], b"\n".to_vec()].concat(),
        );
        assert_eq!(inbox.line(false), Err(TooLong));
    }

    /// Takes a few bytes at a time, then none.
    struct Slow(usize, Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.0).min(3);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0 -= count;
            self.1.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn outbox_goes_on_where_the_client_stopped_reading() {
        let mut outbox = Outbox::default();
        outbox.push("hello world");
        let mut slow = Slow(7, Vec::new());
        assert!(outbox.flush(&mut slow).unwrap());
        assert!(!outbox.flush(&mut slow).unwrap());
        assert!(!outbox.is_empty());
        slow.0 = 100;
        assert!(outbox.flush(&mut slow).unwrap());
        assert!(outbox.is_empty());
        assert_eq!(slow.1, b"hello world");
    }

    proptest! {
        #[test]
        fn inbox_gives_what_cutting_the_whole_gives(
            bytes in prop::collection::vec(prop::sample::select(b"ab \n".to_vec()), 0..200),
            cuts in prop::collection::vec(1usize..20, 0..30),
        ) {
            let mut inbox = Inbox::default();
            let mut lines = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                feed(&mut inbox, head);
                rest = tail;
                while let Some(line) = inbox.line(false).unwrap() {
                    lines.push(line);
                }
            }
            feed(&mut inbox, rest);
            while let Some(line) = inbox.line(true).unwrap() {
                lines.push(line);
            }
            let expected: Vec<Vec<u8>> = bytes
                .split(|&b| b == b'\n')
                .filter(|line| !line.trim_ascii().is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
