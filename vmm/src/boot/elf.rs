// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The load segments of ELF files, 32 and 64 bits wide, little-endian (System V ABI, chapter 5).
//!
//! linux-loader knows 64-bit files only and leaves what a segment has beyond its file part as it is; both matter here:
//! multiboot images are 32 bits wide, and after a guest reset RAM is not zero.

use super::{BootError, Image};
use std::os::unix::fs::FileExt;

/// A segment to be loaded; every number is checked: the file part lies in the file, and the sums do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset in the file.
    pub offset: u64,
    /// Physical address.
    pub address: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory, at least [`Self::file_size`].
    pub memory_size: u64,
}

/// Entry point and load segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    /// Entry point.
    pub entry: u64,
    /// The machine that the file is for.
    pub machine: u16,
    /// Segments of type PT_LOAD, in the file's order.
    pub segments: Vec<Segment>,
}

/// Where the fields of a class lie: (offset, bytes).
struct Layout {
    entry: (usize, usize),
    table: (usize, usize),
    entry_size: usize,
    count: usize,
    header: usize,
    program: Program,
}

struct Program {
    size: usize,
    offset: (usize, usize),
    address: (usize, usize),
    file_size: (usize, usize),
    memory_size: (usize, usize),
}

const ELF32: Layout = Layout {
    entry: (24, 4),
    table: (28, 4),
    entry_size: 42,
    count: 44,
    header: 52,
    program: Program {
        size: 32,
        offset: (4, 4),
        address: (12, 4),
        file_size: (16, 4),
        memory_size: (20, 4),
    },
};

const ELF64: Layout = Layout {
    entry: (24, 8),
    table: (32, 8),
    entry_size: 54,
    count: 56,
    header: 64,
    program: Program {
        size: 56,
        offset: (8, 8),
        address: (24, 8),
        file_size: (32, 8),
        memory_size: (40, 8),
    },
};

const PT_LOAD: u64 = 1;

/// Reads the headers of `image`, which is known to begin with the ELF magic.
pub(super) fn headers(image: &Image) -> Result<Headers, BootError> {
    let mut ident = [0; 6];
    read(image, 0, &mut ident)?;
    let layout = if ident[4] == 1 { &ELF32 } else { &ELF64 };
    if ident[5] != 1 {
        return Err(image.error("it is a big-endian ELF file"));
    }
    let mut header = vec![0; layout.header];
    read(image, 0, &mut header)?;
    let count = field(&header, (layout.count, 2));
    let entry_size = field(&header, (layout.entry_size, 2));
    if count == 0 || entry_size != layout.program.size as u64 {
        return Err(image.error("its ELF header names no program headers"));
    }
    let table = field(&header, layout.table);
    let mut segments = Vec::new();
    for index in 0..count {
        let at = table
            .checked_add(index * entry_size)
            .ok_or_else(|| image.error("its ELF program headers lie nowhere"))?;
        let mut program = vec![0; layout.program.size];
        read(image, at, &mut program)?;
        if field(&program, (0, 4)) == PT_LOAD {
            segments.push(segment(image, &layout.program, &program)?);
        }
    }
    Ok(Headers {
        entry: field(&header, layout.entry),
        machine: u16::from_le_bytes([header[18], header[19]]),
        segments,
    })
}

fn segment(image: &Image, layout: &Program, bytes: &[u8]) -> Result<Segment, BootError> {
    let segment = Segment {
        offset: field(bytes, layout.offset),
        address: field(bytes, layout.address),
        file_size: field(bytes, layout.file_size),
        memory_size: field(bytes, layout.memory_size),
    };
    let file_end = segment.offset.checked_add(segment.file_size);
    if segment.file_size != 0 && file_end.is_none_or(|end| end > image.size) {
        return Err(image.error(format!(
            "it is truncated: an ELF segment of {} bytes at offset {} passes the end of the file, {}",
            segment.file_size, segment.offset, image.size
        )));
    }
    if segment.file_size > segment.memory_size
        || segment.address.checked_add(segment.memory_size).is_none()
    {
        return Err(image.error("an ELF segment has impossible sizes"));
    }
    Ok(segment)
}

fn field(bytes: &[u8], (offset, size): (usize, usize)) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[offset..offset + size]);
    u64::from_le_bytes(word)
}

fn read(image: &Image, at: u64, bytes: &mut [u8]) -> Result<(), BootError> {
    image.file.read_exact_at(bytes, at).map_err(|e| {
        image.error(format!(
            "it is truncated or unreadable at offset {at}: {e} (file of {} bytes)",
            image.size
        ))
    })
}
