//! The checksum of a batch: order-dependent, cheap, and the same in the model that predicts it.

/// Folds values into 64 bits; the order matters.
#[derive(Clone, Copy, Debug)]
pub struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Fold(0x9e37_79b9_7f4a_7c15)
    }
}

impl Fold {
    /// The checksum of these values alone.
    pub fn of(values: impl IntoIterator<Item = u64>) -> u64 {
        let mut fold = Fold::default();
        values.into_iter().for_each(|value| fold.add(value));
        fold.finish()
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }

    /// Adds the length and every byte.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// The checksum of everything added so far.
    pub fn finish(self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Bytes that a workload moves: fixed, without runs of equal bytes, different for each seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_content_change_the_checksum() {
        assert_ne!(Fold::of([1, 2]), Fold::of([2, 1]));
        assert_ne!(Fold::of([0]), Fold::of([0, 0]));
        let of_bytes = |bytes: &[u8]| {
            let mut fold = Fold::default();
            fold.add_bytes(bytes);
            fold.finish()
        };
        assert_ne!(of_bytes(b"a"), of_bytes(b"a\0"));
        assert_eq!(of_bytes(&pattern(1, 100)), of_bytes(&pattern(1, 100)));
        assert_ne!(pattern(1, 100), pattern(2, 100));
    }
}
