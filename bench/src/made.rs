//! Pages that are the same on every machine and in every run, for counts that are compared with
//! stored ones. Real pages are captured (`corpus`); these only have their shape.

use uswap::units::{PAGE_SIZE, Page};

/// Bytes of a record; a page holds whole records only.
const RECORD: usize = 32;

/// Marsaglia's xorshift64*.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Page `seed` of a heap: records of a header that many share, a pointer into the same few
/// megabytes, a small number, and eight bytes of noise in some. lz4 makes 0.54 of it.
pub fn heap_page(seed: u64) -> Page {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut page = [0; PAGE_SIZE];
    for record in page.chunks_exact_mut(RECORD) {
        let bits = random.next();
        let kind = bits % 4;
        let pointer = 0x7f3a_5c00_0000 | (bits >> 44) << 4;
        let noise = if bits >> 8 & 7 < 3 { random.next() } else { 0 };
        let words = [0x5555_0001_0000 + kind * 0x140, pointer, bits >> 16 & 0xff, noise];
        for (bytes, word) in record.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_differ_and_compress_like_a_heap() {
        assert_ne!(heap_page(1), heap_page(2));
        assert_eq!(heap_page(7), heap_page(7));
        let raw = 64 * PAGE_SIZE;
        let packed: usize =
            (0..64).map(|seed| lz4_flex::block::compress(&heap_page(seed)).len()).sum();
        assert!((raw / 2..raw * 3 / 5).contains(&packed), "{packed} of {raw} bytes");
    }
}
