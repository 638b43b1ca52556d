// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The escape key of the console: Ctrl-A, then X quits, C sends a break, Ctrl-A sends itself.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What typed bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A byte for the guest.
    Byte(u8),
    /// A break condition for the guest.
    Break,
    /// End the run.
    Quit,
}

/// Tells escapes from bytes, however the input is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escape {
    escaped: bool,
}

impl Escape {
    /// Takes one typed byte. An escape that means nothing reaches the guest as typed, byte for byte.
    pub fn feed(&mut self, byte: u8) -> Vec<Key> {
        if !self.escaped {
            self.escaped = byte == ESCAPE;
            return if self.escaped {
                Vec::new()
            } else {
                vec![Key::Byte(byte)]
            };
        }
        self.escaped = false;
        match byte {
            b'x' | b'X' => vec![Key::Quit],
            b'c' | b'C' => vec![Key::Break],
            ESCAPE => vec![Key::Byte(ESCAPE)],
            other => vec![Key::Byte(ESCAPE), Key::Byte(other)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        bytes.iter().flat_map(|&byte| escape.feed(byte)).collect()
    }

    #[test]
    fn bytes_pass_and_escapes_are_told() {
        assert_eq!(keys(b"ax"), [Key::Byte(b'a'), Key::Byte(b'x')]);
        assert_eq!(keys(b"\x01x"), [Key::Quit]);
        assert_eq!(keys(b"\x01X"), [Key::Quit]);
        assert_eq!(keys(b"\x01cb"), [Key::Break, Key::Byte(b'b')]);
        assert_eq!(keys(b"\x01\x01x"), [Key::Byte(1), Key::Byte(b'x')]);
        assert_eq!(keys(b"\x01q"), [Key::Byte(1), Key::Byte(b'q')]);
    }
}
