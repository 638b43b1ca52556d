// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks a block device (or file) with pseudo-random data, past the page cache.
//!
//! - `write`: fills the first MEBIBYTES in sequence, 1 MiB a request
//! - `verify`: reads them in sequence and compares with what `write` of the same seed wrote
//! - `random`: rewrites every 4 KiB block once and reads every block once, in a shuffled order, each content depending
//!   on its place; then reads all in sequence
//! - `sum`: only reads
//!
//! Each prints `BLKCHECK ok SUM`, the checksum of the content in sequence, in hexadecimal: equal content, equal sum,
//! on whichever side of the device it is read.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;

use crate::pattern::{Random, Sum};

const MIB: usize = 1 << 20;
const BLOCK: usize = 4096;

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
fn fill(block: &mut [u8], seed: u64, number: usize) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    Random::new(seed.rotate_left(32) ^ number).fill(block);
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

/// Writes each block and reads back an earlier one, in two independent shuffled orders.
fn shuffled(device: &Device, blocks: usize, seed: u64) -> Result<()> {
    let order = shuffle(blocks, seed);
    let mut buffer = Buffer::new(BLOCK);
    let mut random = Random::new(!seed);
    for (done, &number) in order.iter().enumerate() {
        fill(buffer.bytes(), seed, number);
        device.write(buffer.bytes(), number)?;
        let earlier = usize::try_from(random.next() % u64::try_from(done + 1)?)?;
        device.read(buffer.bytes(), order[earlier])?;
        compare(buffer.bytes(), seed, order[earlier])?;
    }
    for &number in &shuffle(blocks, !seed) {
        device.read(buffer.bytes(), number)?;
        compare(buffer.bytes(), seed, number)?;
    }
    device.flush()
}

/// Fisher and Yates's shuffle of 0..count.
fn shuffle(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        let other = usize::try_from(random.next() % bound).unwrap_or(0);
        order.swap(last, other);
    }
    order
}

fn compare(block: &[u8], seed: u64, number: usize) -> Result<()> {
    let mut expected = [0; BLOCK];
    fill(&mut expected, seed, number);
    match block
        .iter()
        .zip(&expected)
        .position(|(found, wanted)| found != wanted)
    {
        Some(at) => bail!(
            "block {number} differs from byte {at} on: {:02x}, not {:02x}",
            block[at],
            expected[at]
        ),
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
    fn shuffle_is_a_permutation_that_depends_on_the_seed() {
        let mut order = shuffle(1000, 7);
        assert_ne!(order, shuffle(1000, 8));
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
