//! Training of zstd dictionaries: the one call of the C library that `zstd_safe` has no form of
//! with these parameters. Its own call tries many of them and takes five times the memory.

use zstd_safe::zstd_sys::{
    ZDICT_fastCover_params_t, ZDICT_isError, ZDICT_params_t, ZDICT_trainFromBuffer_fastCover,
};

/// What segments a dictionary is put together from.
#[derive(Clone, Copy, Debug)]
pub struct Cover {
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Bytes of a match that counts, 6 or 8.
    pub match_bytes: u32,
    /// Training takes 6 bytes for each of 2 to this power places.
    pub table_bits: u32,
    /// Level of zstd whose statistics go into the dictionary.
    pub level: i32,
}

/// Fills `dictionary` from samples that lie in a row, with the size of each, and returns how much
/// of it that took. `None` if there is too little to learn from. Takes a tenth of a millisecond for
/// each KiB of samples, and memory as [`Cover::table_bits`] says, which it gives back. Panics
/// unless the sizes sum up to the samples.
pub fn train(
    dictionary: &mut [u8],
    samples: &[u8],
    sizes: &[usize],
    cover: Cover,
) -> Option<usize> {
    assert_eq!(sizes.iter().sum::<usize>(), samples.len(), "sizes of samples");
    let parameters = ZDICT_fastCover_params_t {
        k: cover.segment_bytes,
        d: cover.match_bytes,
        f: cover.table_bits,
        steps: 0,
        nbThreads: 0,
        splitPoint: 1.0,
        accel: 1,
        shrinkDict: 0,
        shrinkDictMaxRegression: 0,
        zParams: ZDICT_params_t { compressionLevel: cover.level, notificationLevel: 0, dictID: 0 },
    };
    let count = u32::try_from(sizes.len()).ok()?;
    // SAFETY: the buffers are live borrows of the lengths given, and the sizes sum up to the
    // samples' length, so that the library reads and writes inside them; it keeps no pointer.
    let result = unsafe {
        ZDICT_trainFromBuffer_fastCover(
            dictionary.as_mut_ptr().cast(),
            dictionary.len(),
            samples.as_ptr().cast(),
            sizes.as_ptr(),
            count,
            parameters,
        )
    };
    // SAFETY: a question about a number.
    let failed = unsafe { ZDICT_isError(result) } != 0;
    (!failed && result <= dictionary.len()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVER: Cover = Cover { segment_bytes: 200, match_bytes: 8, table_bits: 16, level: 3 };

    #[test]
    fn too_little_is_refused_and_enough_is_not() {
        let mut dictionary = vec![0; 4096];
        assert_eq!(train(&mut dictionary, &[], &[], COVER), None);
        assert_eq!(train(&mut dictionary, b"ab", &[1, 1], COVER), None);
        let text = |i: usize| format!("record {} of kind {} with words", i * 7919, i % 13);
        let samples: String = (0..40_000).map(text).collect();
        let sizes: Vec<usize> = samples.as_bytes().chunks(4096).map(<[u8]>::len).collect();
        let len = train(&mut dictionary, samples.as_bytes(), &sizes, COVER).expect("learns");
        assert!((256..=4096).contains(&len));
    }

    #[test]
    #[should_panic(expected = "sizes of samples")]
    fn sizes_beyond_the_samples_are_refused() {
        train(&mut [0; 4096], &[0; 100], &[100, 1], COVER);
    }
}
