// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks a block device (or file) with pseudo-random data, past the page cache.
//!
//! - `write`: fills the first MEBIBYTES in sequence, 1 MiB a request
//! - `verify`: reads them in sequence and compares with what `write` of the same seed wrote
//! - `random`: writes every 4 KiB block once in a shuffled order, in requests of one to eight neighbours, and after each
//!   reads back an earlier request; then reads all in sequence and compares
//! - `sum`: only reads
//!
//! Each prints `BLKCHECK ok SUM`, the checksum of the content in sequence, in hexadecimal: equal content, equal sum,
//! on whichever side of the device it is read.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;

use crate::pattern::{Random, Sum};

const MIB: usize = 1 << 20;
const BLOCK: usize = 4096;

/// The longest request of `random`, in blocks.
const MOST_BLOCKS: usize = 8;

/// Runs `blkcheck ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let (action, path, size, seed) = match *args {
        [action, path, size] => (action, path, size, "1"),
        [action, path, size, seed] => (action, path, size, seed),
        _ => bail!("blkcheck takes an action, a device, a size in MiB and perhaps a seed"),
    };
    let blocks = size.parse::<usize>().context("the size")? * (MIB / BLOCK);
    let seed = seed.parse::<u64>().context("the seed")?;
    let device = Device::open(path, action == "write" || action == "random")?;
    let sum = match action {
        "write" => {
            write(&device, blocks, seed)?;
            read(&device, blocks, Some(seed))?
        }
        "verify" => read(&device, blocks, Some(seed))?,
        "random" => {
            shuffled(&device, blocks, seed)?;
            read(&device, blocks, Some(seed))?
        }
        "sum" => read(&device, blocks, None)?,
        _ => bail!("blkcheck knows no '{action}'"),
    };
    println!("BLKCHECK ok {sum:016x}");
    Ok(())
}

/// What block `number` holds.
fn content(seed: u64, number: usize) -> Random {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    Random::new(seed.rotate_left(32) ^ number)
}

fn fill(block: &mut [u8], seed: u64, number: usize) {
    content(seed, number).fill(block);
}

fn write(device: &Device, blocks: usize, seed: u64) -> Result<()> {
    let mut buffer = Buffer::new(MIB);
    for first in (0..blocks).step_by(MIB / BLOCK) {
        for (index, block) in buffer.bytes().chunks_mut(BLOCK).enumerate() {
            fill(block, seed, first + index);
        }
        device.write(buffer.bytes(), first)?;
    }
    device.flush()
}

/// Reads in sequence; compares if a seed is given.
fn read(device: &Device, blocks: usize, seed: Option<u64>) -> Result<u64> {
    let mut buffer = Buffer::new(MIB);
    let mut sum = Sum::new();
    for first in (0..blocks).step_by(MIB / BLOCK) {
        device.read(buffer.bytes(), first)?;
        for (index, block) in buffer.bytes().chunks(BLOCK).enumerate() {
            if let Some(seed) = seed {
                compare(block, seed, first + index)?;
            }
        }
        sum.add(buffer.bytes());
    }
    Ok(sum.value())
}

/// Writes each extent and reads back an earlier one.
fn shuffled(device: &Device, blocks: usize, seed: u64) -> Result<()> {
    let order = shuffle(extents(blocks, seed), seed);
    let mut buffer = Buffer::new(MOST_BLOCKS * BLOCK);
    let mut random = Random::new(!seed);
    for (done, extent) in order.iter().enumerate() {
        let data = &mut buffer.bytes()[..extent.len() * BLOCK];
        for (block, number) in data.chunks_mut(BLOCK).zip(extent.clone()) {
            fill(block, seed, number);
        }
        device.write(data, extent.start)?;
        let earlier = &order[usize::try_from(random.next() % u64::try_from(done + 1)?)?];
        let data = &mut buffer.bytes()[..earlier.len() * BLOCK];
        device.read(data, earlier.start)?;
        for (block, number) in data.chunks(BLOCK).zip(earlier.clone()) {
            compare(block, seed, number)?;
        }
    }
    device.flush()
}

/// Cuts 0..blocks into pieces of one to [`MOST_BLOCKS`] blocks.
fn extents(blocks: usize, seed: u64) -> Vec<Range<usize>> {
    let mut random = Random::new(seed.rotate_left(8));
    let mut extents = Vec::new();
    let mut start = 0;
    while start < blocks {
        let size = usize::try_from(random.next() >> 61).unwrap_or(0) + 1;
        let end = (start + size).min(blocks);
        extents.push(start..end);
        start = end;
    }
    extents
}

/// Fisher and Yates's shuffle.
fn shuffle<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut random = Random::new(seed);
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        let other = usize::try_from(random.next() % bound).unwrap_or(0);
        items.swap(last, other);
    }
    items
}

fn compare(block: &[u8], seed: u64, number: usize) -> Result<()> {
    let mut expected = content(seed, number);
    let (words, _) = block.as_chunks::<8>();
    let wrong = words
        .iter()
        .position(|word| u64::from_le_bytes(*word) != expected.next());
    match wrong {
        Some(at) => bail!("block {number} differs from byte {} on", 8 * at),
        None => Ok(()),
    }
}

/// Memory at a page boundary, as direct I/O wants it.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    size: usize,
}

impl Buffer {
    fn new(size: usize) -> Self {
        let memory = vec![0; size + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Self {
            memory,
            start,
            size,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.size]
    }
}

struct Device {
    file: File,
    path: String,
}

impl Device {
    /// Opens with `O_DIRECT`; where a file system has none (9p, say), without.
    fn open(path: &str, write: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let file = options.clone().custom_flags(direct).open(path);
        let file = match file {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                options.open(path)
            }
            opened => opened,
        };
        Ok(Self {
            file: file.with_context(|| format!("opening {path}"))?,
            path: path.to_owned(),
        })
    }

    fn write(&self, data: &[u8], block: usize) -> Result<()> {
        let result = self.file.write_all_at(data, Self::offset(block));
        result.with_context(|| {
            format!(
                "writing {} bytes at block {block} of {}",
                data.len(),
                self.path
            )
        })
    }

    fn read(&self, data: &mut [u8], block: usize) -> Result<()> {
        let size = data.len();
        let result = self.file.read_exact_at(data, Self::offset(block));
        result.with_context(|| format!("reading {size} bytes at block {block} of {}", self.path))
    }

    fn flush(&self) -> Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("flushing {}", self.path))
    }

    fn offset(block: usize) -> u64 {
        u64::try_from(block * BLOCK).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_cover_every_block_once_in_sizes_of_one_to_eight() {
        let extents = extents(1000, 7);
        let mut sizes: Vec<usize> = extents.iter().map(ExactSizeIterator::len).collect();
        sizes.sort_unstable();
        sizes.dedup();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(extents.into_iter().flatten().eq(0..1000));
    }

    #[test]
    fn shuffle_is_a_permutation_that_depends_on_the_seed() {
        let shuffle = |seed| super::shuffle((0..1000).collect::<Vec<_>>(), seed);
        let mut order = shuffle(7);
        assert_ne!(order, shuffle(8));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn read_after_a_changed_byte_names_the_block() {
        let path = std::env::temp_dir().join(format!("blkcheck-{}", std::process::id()));
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let device = Device::open(path.to_str().unwrap(), true).unwrap();
        shuffled(&device, 256, 3).unwrap();
        let sum = read(&device, 256, Some(3)).unwrap();
        assert_eq!(read(&device, 256, None).unwrap(), sum);
        let plain = OpenOptions::new().write(true).open(&path).unwrap();
        plain.write_all_at(&[0xAA; 512], 17 * 4096).unwrap();
        let error = read(&device, 256, Some(3)).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.starts_with("block 17 "), "{error}");
    }
}
