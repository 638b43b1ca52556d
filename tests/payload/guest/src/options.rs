// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the multiboot loader said: the words of the command line, and how much RAM there is.

use crate::check;
use crate::mem::{read8, read32};

const MAX: usize = 512;
const FLAG_MEMORY: u32 = 1 << 0;
const FLAG_CMDLINE: u32 = 1 << 2;

/// A copy of the command line: the loader's own may lie where the arena is.
pub struct Options {
    bytes: [u8; MAX],
    length: usize,
    memory_end: u64,
}

impl Options {
    /// Copies the command line out of the multiboot information structure at `info`.
    pub fn from_multiboot(info: u32) -> Options {
        let mut options = Options {
            bytes: [0; MAX],
            length: 0,
            memory_end: 0,
        };
        let info = u64::from(info);
        if info != 0 && read32(info) & FLAG_MEMORY != 0 {
            options.memory_end = (u64::from(read32(info + 8)) + 1024) * 1024;
        }
        if info == 0 || read32(info) & FLAG_CMDLINE == 0 {
            return options;
        }
        let text = u64::from(read32(info + 16));
        for (index, slot) in options.bytes.iter_mut().enumerate() {
            *slot = read8(text + index as u64);
            if *slot == 0 {
                break;
            }
            options.length = index + 1;
        }
        options
    }

    /// End of the RAM that begins at 1 MiB.
    pub fn memory_end(&self) -> u64 {
        self.memory_end
    }

    /// The words, in order. What is not text counts as nothing.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        core::str::from_utf8(&self.bytes[..self.length])
            .unwrap_or("")
            .split_ascii_whitespace()
    }

    pub fn has(&self, word: &str) -> bool {
        self.words().any(|have| have == word)
    }

    /// Reports words that are neither in `known` nor meant for someone else (a file name, `name=value`).
    pub fn reject_unknown(&self, known: impl Fn(&str) -> bool) {
        for word in self.words() {
            let foreign = word.bytes().any(|byte| matches!(byte, b'/' | b'.' | b'='));
            if !foreign && !known(word) {
                check::unknown_word(word);
            }
        }
    }
}
