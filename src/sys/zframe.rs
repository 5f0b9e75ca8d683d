//! zstd in two steps: which matches a page has, and how they are coded. `zstd_safe` has no form of
//! either.
//!
//! A frame is read faster if it says "the dictionary's tables" instead of bringing its own, and
//! smaller if it brings them where they fit better. How hard zstd looks for matches and how it
//! codes them hang together in its levels; apart, good matches can be coded in both ways.

use std::fmt;
use std::ptr::NonNull;
use zstd_safe::zstd_sys::{
    ZSTD_CCtx, ZSTD_CCtx_loadDictionary, ZSTD_CCtx_reset, ZSTD_CCtx_setParameter, ZSTD_ErrorCode,
    ZSTD_ResetDirective, ZSTD_Sequence, ZSTD_cParameter, ZSTD_compressSequences, ZSTD_createCCtx,
    ZSTD_format_e, ZSTD_freeCCtx, ZSTD_generateSequences, ZSTD_getErrorCode, ZSTD_sequenceBound,
    ZSTD_sizeof_CCtx,
};

pub use zstd_safe::zstd_sys::ZSTD_cParameter as Parameter;

// What zstd.h calls them while it does not promise them.
const FORMAT: Parameter = ZSTD_cParameter::ZSTD_c_experimentalParam2;
const BLOCK_DELIMITERS: Parameter = ZSTD_cParameter::ZSTD_c_experimentalParam11;
const VALIDATE: Parameter = ZSTD_cParameter::ZSTD_c_experimentalParam12;
const RESOLVE_REPEATS: Parameter = ZSTD_cParameter::ZSTD_c_experimentalParam19;

/// Frames without magic, size, checksum and dictionary's number: the caller knows all of that.
const BARE: [(Parameter, i32); 4] = [
    (FORMAT, ZSTD_format_e::ZSTD_f_zstd1_magicless as i32),
    (ZSTD_cParameter::ZSTD_c_contentSizeFlag, 0),
    (ZSTD_cParameter::ZSTD_c_checksumFlag, 0),
    (ZSTD_cParameter::ZSTD_c_dictIDFlag, 0),
];

fn fine(result: usize) -> Option<usize> {
    // SAFETY: a question about a number.
    let code = unsafe { ZSTD_getErrorCode(result) };
    (code == ZSTD_ErrorCode::ZSTD_error_no_error).then_some(result)
}

/// A compression context of the library.
struct Context(NonNull<ZSTD_CCtx>);

// SAFETY: it owns what it points to, which is tied to no thread.
unsafe impl Send for Context {}

impl Context {
    /// Panics without memory, and for parameters that the library does not know.
    fn new(parameters: &[(Parameter, i32)]) -> Self {
        // SAFETY: makes a new context, or null.
        let context = unsafe { ZSTD_createCCtx() };
        let context = Self(NonNull::new(context).expect("memory for a compressor"));
        for &(parameter, value) in BARE.iter().chain(parameters) {
            // SAFETY: the context is alive.
            let set = unsafe { ZSTD_CCtx_setParameter(context.0.as_ptr(), parameter, value) };
            assert!(fine(set).is_some(), "zstd knows {parameter:?}");
        }
        context
    }

    fn load(&mut self, dictionary: &[u8]) -> bool {
        let session = ZSTD_ResetDirective::ZSTD_reset_session_only;
        // SAFETY: the context is alive. It may be in the middle of a frame, or think so.
        let reset = unsafe { ZSTD_CCtx_reset(self.0.as_ptr(), session) };
        let (bytes, len) = (dictionary.as_ptr().cast(), dictionary.len());
        // SAFETY: the context is alive, and copies the bytes of the slice.
        let loaded = unsafe { ZSTD_CCtx_loadDictionary(self.0.as_ptr(), bytes, len) };
        fine(reset).and(fine(loaded)).is_some()
    }

    fn bytes(&self) -> usize {
        // SAFETY: the context is alive.
        unsafe { ZSTD_sizeof_CCtx(self.0.as_ptr()) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was created by `new` and nobody else has it.
        let _ = unsafe { ZSTD_freeCCtx(self.0.as_ptr()) };
    }
}

/// Finds the matches of inputs of one size.
pub struct Finder {
    /// Remembers where `found` is from one call to the next, and is used for nothing else.
    context: Context,
    found: Box<[ZSTD_Sequence]>,
    /// Longest input.
    bytes: usize,
}

/// What an input repeats of itself and of the dictionary.
#[derive(Debug)]
pub struct Matches<'a> {
    input: &'a [u8],
    found: &'a [ZSTD_Sequence],
}

impl Finder {
    /// For inputs of up to `bytes` and with these parameters besides the defaults. Allocates.
    /// Panics without memory, and for parameters that the library does not know.
    pub fn new(bytes: usize, parameters: &[(Parameter, i32)]) -> Self {
        // SAFETY: a question about a number.
        let most = unsafe { ZSTD_sequenceBound(bytes) };
        let none = ZSTD_Sequence { offset: 0, litLength: 0, matchLength: 0, rep: 0 };
        Self { context: Context::new(parameters), found: vec![none; most].into(), bytes }
    }

    /// Looks for matches in these bytes too from now on; in none besides the input if there are
    /// none. Allocates now and for the first input. False without memory; then it may find nothing.
    pub fn load(&mut self, dictionary: &[u8]) -> bool {
        self.context.load(dictionary)
    }

    /// The matches of `input`. `None` without memory and for what is longer than it was made for.
    /// Allocates a little more than the input, and gives it back.
    pub fn find<'a>(&'a mut self, input: &'a [u8]) -> Option<Matches<'a>> {
        if input.len() > self.bytes {
            return None;
        }
        let (context, bytes) = (self.context.0.as_ptr(), input.as_ptr().cast());
        let (found, most) = (self.found.as_mut_ptr(), self.found.len());
        // SAFETY: the context is alive. The library reads the input, and writes no more matches
        // than there is room for. It keeps the pointer to that room, which stays where it is as
        // long as the context, and writes to it in the next call of this function.
        #[allow(deprecated)]
        let count = unsafe { ZSTD_generateSequences(context, found, most, bytes, input.len()) };
        Some(Matches { input, found: self.found.get(..fine(count)?)? })
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.context.bytes() + size_of_val::<[ZSTD_Sequence]>(&self.found)
    }
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").finish_non_exhaustive()
    }
}

/// Least room for a frame: the library takes room for the longest header for granted, 18 bytes.
const FRAME_ROOM_MIN: usize = 32;

/// Makes frames of inputs and their matches.
pub struct Coder(Context);

impl Coder {
    /// With these parameters besides the defaults. Allocates. Panics without memory, and for
    /// parameters that the library does not know.
    pub fn new(parameters: &[(Parameter, i32)]) -> Self {
        let given = [(BLOCK_DELIMITERS, 1), (VALIDATE, 1), (RESOLVE_REPEATS, 1)];
        Self(Context::new(&[&given, parameters].concat()))
    }

    /// Codes with this dictionary from now on, or with none. Matches must have been found with the
    /// same. Allocates now and for the first frame. False without memory.
    pub fn load(&mut self, dictionary: &[u8]) -> bool {
        self.0.load(dictionary)
    }

    /// Bytes of `output` that the frame takes; `None` if that is too short, or without memory.
    pub fn code(&mut self, matches: &Matches<'_>, output: &mut [u8]) -> Option<usize> {
        let Matches { input, found } = matches;
        if output.len() < FRAME_ROOM_MIN {
            return None;
        }
        let context = self.0.0.as_ptr();
        // SAFETY: the context is alive and the slices are as long as is said. There is room for a
        // header, and the library checks the rest of it, and that the matches lie inside input and
        // dictionary.
        let len = unsafe {
            ZSTD_compressSequences(
                context,
                output.as_mut_ptr().cast(),
                output.len(),
                found.as_ptr(),
                found.len(),
                input.as_ptr().cast(),
                input.len(),
            )
        };
        fine(len).filter(|&len| len <= output.len())
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl fmt::Debug for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zstd_safe::{DCtx, DParameter, FrameFormat};

    const BYTES: usize = 4096;

    fn back(frame: &[u8], dictionary: &[u8]) -> Result<Vec<u8>, usize> {
        let (mut context, mut output) = (DCtx::create(), vec![0; BYTES]);
        context.set_parameter(DParameter::Format(FrameFormat::Magicless)).expect("known");
        let len = context.decompress_using_dict(&mut output[..], frame, dictionary)?;
        output.truncate(len);
        Ok(output)
    }

    fn text(seed: usize) -> Vec<u8> {
        let words = (0..).flat_map(|i| format!("item {} of {seed}; ", i * i % 977).into_bytes());
        words.take(BYTES).collect()
    }

    #[test]
    fn found_and_coded_inputs_come_back_with_and_without_a_dictionary() {
        let strategy = ZSTD_cParameter::ZSTD_c_strategy;
        let mut finder = Finder::new(BYTES, &[(strategy, 7)]);
        let mut coders = [Coder::new(&[(strategy, 7)]), Coder::new(&[(strategy, 1)])];
        let noise = |i: u32| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 23) as u8;
        let noise: Vec<u8> = (0..BYTES as u32).map(noise).collect();
        for dictionary in [vec![], text(1), vec![]] {
            assert!(finder.load(&dictionary));
            assert!(coders.iter_mut().all(|coder| coder.load(&dictionary)));
            for input in [text(2), vec![7; BYTES], noise.clone(), text(1), text(3)] {
                let matches = finder.find(&input).expect("memory");
                for coder in &mut coders {
                    let mut frame = [0; 2 * BYTES];
                    let len = coder.code(&matches, &mut frame).expect("room");
                    assert_eq!(back(&frame[..len], &dictionary), Ok(input.clone()));
                    for short in [0, FRAME_ROOM_MIN - 1, len - 1] {
                        let frame = &mut frame[..short.min(len - 1)];
                        assert_eq!(coder.code(&matches, frame), None, "too short");
                    }
                }
            }
        }
        assert!(finder.find(&[1; 40 * BYTES]).is_none(), "more than it has room for");
        let again = text(9);
        assert!(finder.find(&again).is_some(), "and goes on after that");
    }
}
