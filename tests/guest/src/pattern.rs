// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pseudo-random data and checksums that are the same on both sides of a transfer.

/// Marsaglia's xorshift64*: full period over non-zero states, quick enough under emulation.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        // Zero is the one state that the generator cannot leave.
        Self((seed ^ 0x9E37_79B9_7F4A_7C15).max(1))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Fills `buffer` with the sequence.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// FNV-1a over little-endian 64-bit words, then over the bytes that are left: every byte and its place count.
#[derive(Debug, Clone)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    /// Takes in more data; all but the last piece must be a multiple of 8 bytes.
    pub fn add(&mut self, data: &[u8]) {
        let (words, rest) = data.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        // The multiplication never carries a high bit down, so a word's top byte would hardly count.
        self.0 ^= self.0 >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_with_one_seed_repeats_and_with_another_differs() {
        let sequence = |seed| {
            let mut buffer = [0; 64];
            Random::new(seed).fill(&mut buffer);
            buffer
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }

    #[test]
    fn sum_changes_with_any_single_bit_and_with_order() {
        let sum = |data: &[u8]| {
            let mut sum = Sum::new();
            sum.add(data);
            sum.value()
        };
        let data: Vec<u8> = (0..67).collect();
        for bit in 0..data.len() * 8 {
            let mut other = data.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&data), sum(&other), "bit {bit}");
        }
        let mut swapped = data.clone();
        swapped.swap(0, 8);
        assert_ne!(sum(&data), sum(&swapped));
    }
}
