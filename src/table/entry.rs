//! What the 64 bits of a slot mean.
//!
//! | bits | object | same-filled | staged |
//! |---|---|---|---|
//! | 0..4 | kind | kind | kind |
//! | 4 | lock | lock | lock |
//! | 5..13 | tick of the last touch | the same | the same |
//! | 13 | that was a read | | |
//! | 14..16 | reads since it was written | | |
//! | 16..50 | location, units of 16 bytes | 48 bits sign-extended, or 32 bits twice | page |
//! | 50..62 | length of the data less one | | 0 |
//! | 62..64 | dictionary | | 0 |
//!
//! The low 16 bits mean the same for every kind, so that a touch can be noted without knowing it.
//! A location is one in the pool's arena, or in the spill for spilled objects. The dictionary of a
//! zstd object is the one that it was made with; that of an lz4 object or a huge page in the pool
//! is the one with which zstd was tried and did not pay, so that it is not tried again.

use super::touch::TOUCH_MASK;
use crate::units::{BufferPage, DictionaryVersion, Location, PAGE_SIZE};

const KIND_MASK: u64 = 0xf;
const EMPTY: u64 = 0;
const SAME_WIDE: u64 = 1;
const SAME_TWICE: u64 = 2;
const LZ4: u64 = 3;
const HUGE: u64 = 4;
const STAGED: u64 = 5;
const SPILL_LZ4: u64 = 6;
const ZSTD: u64 = 7;
const SPILL_ZSTD: u64 = 8;
const SPILL_HUGE: u64 = 9;
const POISONED: u64 = 10;

/// The lock bit of an entry.
pub(super) const LOCK: u64 = 1 << 4;

const PAYLOAD_SHIFT: u32 = 16;
const LENGTH_SHIFT: u32 = PAYLOAD_SHIFT + Location::BITS;
const LENGTH_BITS: u32 = 12;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
const LOCATION_MASK: u64 = (1 << Location::BITS) - 1;
const DICTIONARY_SHIFT: u32 = LENGTH_SHIFT + LENGTH_BITS;

const _: () = assert!(1 << LENGTH_BITS == PAGE_SIZE);
const _: () = assert!(u64::MAX >> DICTIONARY_SHIFT == DictionaryVersion::MAX as u64);
const _: () = assert!(LOCK & KIND_MASK == 0 && LOCK < 1 << PAYLOAD_SHIFT);
const _: () = assert!(TOUCH_MASK | LOCK | KIND_MASK == (1 << PAYLOAD_SHIFT) - 1);
const _: () = assert!(TOUCH_MASK & (LOCK | KIND_MASK) == 0);

/// What a spilled object is, once it is opened: what it was in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpillForm {
    /// An lz4 object.
    Lz4,
    /// A zstd object, made with this dictionary.
    Zstd(DictionaryVersion),
    /// The page itself.
    Huge,
}

/// Where the contents of a slot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing written: reads as zeros.
    Empty,
    /// Every 64-bit word of the page is this one. Only words for which [`Entry::holds_word`] is
    /// true.
    Same(u64),
    /// An lz4 object.
    Lz4 {
        /// Its place in the pool.
        at: Location,
        /// Bytes of compressed data, 1 to 4096, without the object's header.
        len: u16,
        /// Recompression with this dictionary did not pay.
        tried: DictionaryVersion,
    },
    /// A zstd object.
    Zstd {
        /// Its place in the pool.
        at: Location,
        /// As for lz4.
        len: u16,
        /// What it was compressed with, and is decompressed with.
        dictionary: DictionaryVersion,
    },
    /// A page stored uncompressed.
    Huge {
        /// Its place in the pool.
        at: Location,
        /// As for lz4.
        tried: DictionaryVersion,
    },
    /// A page still in the request buffer that it came in, not yet compressed.
    Staged {
        /// Where in the buffers.
        at: BufferPage,
    },
    /// A sealed object in the spill.
    Spilled {
        /// What it is.
        form: SpillForm,
        /// Its place in the spill.
        at: Location,
        /// Bytes of its data, 1 to 4096, without the seal.
        len: u16,
    },
    /// A page that a rebuild found to be lost: reads as an I/O error until it is written again.
    Poisoned,
    /// A word that nobody published: a damaged table, or one of a newer version.
    Unknown,
}

impl Entry {
    /// Whether a same-filled page of this word fits an entry: 48 bits sign-extended (small numbers,
    /// user addresses) or one 32-bit value twice (fill patterns).
    #[inline]
    pub const fn holds_word(word: u64) -> bool {
        is_wide(word) || is_twice(word)
    }

    /// Where in the pool the contents are and how long they are; `None` if they are not there.
    #[inline]
    pub const fn in_pool(self) -> Option<(Location, u16)> {
        match self {
            Self::Lz4 { at, len, .. } | Self::Zstd { at, len, .. } => Some((at, len)),
            Self::Huge { at, .. } => Some((at, PAGE_SIZE as u16)),
            _ => None,
        }
    }

    /// What an entry becomes whose contents, in the pool or in the spill, move to `at` in the
    /// spill; `None` if they are in neither.
    #[inline]
    pub const fn moved_to_spill(self, at: Location) -> Option<Self> {
        let (form, len) = match self {
            Self::Lz4 { len, .. } => (SpillForm::Lz4, len),
            Self::Zstd { len, dictionary, .. } => (SpillForm::Zstd(dictionary), len),
            Self::Huge { .. } => (SpillForm::Huge, PAGE_SIZE as u16),
            Self::Spilled { form, len, .. } => (form, len),
            _ => return None,
        };
        Some(Self::Spilled { form, at, len })
    }

    /// What an entry becomes whose contents move from the spill to `at` in the pool; `None` if they
    /// are not in the spill.
    #[inline]
    pub const fn moved_to_pool(self, at: Location) -> Option<Self> {
        let tried = DictionaryVersion::NONE;
        Some(match self {
            Self::Spilled { form: SpillForm::Lz4, len, .. } => Self::Lz4 { at, len, tried },
            Self::Spilled { form: SpillForm::Zstd(dictionary), len, .. } => {
                Self::Zstd { at, len, dictionary }
            }
            Self::Spilled { form: SpillForm::Huge, .. } => Self::Huge { at, tried },
            _ => return None,
        })
    }

    /// What the contents were compressed with, wherever they are.
    #[inline]
    pub const fn made_with(self) -> DictionaryVersion {
        match self {
            Self::Zstd { dictionary, .. }
            | Self::Spilled { form: SpillForm::Zstd(dictionary), .. } => dictionary,
            _ => DictionaryVersion::NONE,
        }
    }

    /// The entry as a table word, unlocked and never touched. Panics on [`Entry::Unknown`], on a
    /// word that does not fit and on a length out of range: nobody may publish those.
    #[inline]
    pub fn pack(self) -> u64 {
        match self {
            Self::Empty => EMPTY,
            Self::Same(word) if is_wide(word) => SAME_WIDE | word << PAYLOAD_SHIFT,
            Self::Same(word) => {
                assert!(is_twice(word), "word {word:#x} does not fit an entry");
                SAME_TWICE | (word & u64::from(u32::MAX)) << PAYLOAD_SHIFT
            }
            Self::Lz4 { at, len, tried } => object(LZ4, at, len, tried),
            Self::Zstd { at, len, dictionary } => object(ZSTD, at, len, dictionary),
            Self::Huge { at, tried } => object(HUGE, at, PAGE_SIZE as u16, tried),
            Self::Staged { at } => STAGED | u64::from(at.0) << PAYLOAD_SHIFT,
            Self::Spilled { form, at, len } => {
                let (kind, version) = match form {
                    SpillForm::Lz4 => (SPILL_LZ4, DictionaryVersion::NONE),
                    SpillForm::Zstd(dictionary) => (SPILL_ZSTD, dictionary),
                    SpillForm::Huge => (SPILL_HUGE, DictionaryVersion::NONE),
                };
                object(kind, at, len, version)
            }
            Self::Poisoned => POISONED,
            Self::Unknown => panic!("an unknown entry cannot be stored"),
        }
    }

    /// The entry in a table word, whatever its lock and touch.
    #[inline]
    pub fn unpack(raw: u64) -> Self {
        let at = || Location::from_units(raw >> PAYLOAD_SHIFT & LOCATION_MASK);
        let len = || (raw >> LENGTH_SHIFT & LENGTH_MASK) as u16 + 1;
        let version = || DictionaryVersion::new((raw >> DICTIONARY_SHIFT) as u8);
        let spilled = |form| Self::Spilled { form, at: at(), len: len() };
        match raw & KIND_MASK {
            EMPTY => Self::Empty,
            SAME_WIDE => Self::Same((raw as i64 >> PAYLOAD_SHIFT) as u64),
            SAME_TWICE => Self::Same((raw >> PAYLOAD_SHIFT & u64::from(u32::MAX)) * TWICE),
            LZ4 => Self::Lz4 { at: at(), len: len(), tried: version() },
            ZSTD => Self::Zstd { at: at(), len: len(), dictionary: version() },
            HUGE => Self::Huge { at: at(), tried: version() },
            STAGED => Self::Staged { at: BufferPage((raw >> PAYLOAD_SHIFT) as u32) },
            SPILL_LZ4 => spilled(SpillForm::Lz4),
            SPILL_ZSTD => spilled(SpillForm::Zstd(version())),
            SPILL_HUGE => spilled(SpillForm::Huge),
            POISONED => Self::Poisoned,
            _ => Self::Unknown,
        }
    }

    /// The entry in a table word, if that is exactly what its publication left, locked or not;
    /// anything else is [`Entry::Unknown`].
    pub(super) fn unpack_exactly(raw: u64) -> Self {
        let entry = Self::unpack(raw);
        let low = LOCK | TOUCH_MASK;
        match entry {
            Self::Unknown => entry,
            // Empty slots have no touch.
            Self::Empty if raw & !LOCK != 0 => Self::Unknown,
            _ if entry.pack() | raw & low != raw => Self::Unknown,
            _ => entry,
        }
    }

    /// The same object at another place in the pool. Entries that name none stay as they are.
    #[must_use]
    pub const fn moved(self, to: Location) -> Self {
        match self {
            Self::Lz4 { len, tried, .. } => Self::Lz4 { at: to, len, tried },
            Self::Zstd { len, dictionary, .. } => Self::Zstd { at: to, len, dictionary },
            Self::Huge { tried, .. } => Self::Huge { at: to, tried },
            other => other,
        }
    }

    /// Place and bytes of data of the object in the pool that this entry names.
    pub const fn object(self) -> Option<(Location, usize)> {
        match self {
            Self::Lz4 { at, len, .. } | Self::Zstd { at, len, .. } => Some((at, len as usize)),
            Self::Huge { at, .. } => Some((at, PAGE_SIZE)),
            _ => None,
        }
    }
}

impl SpillForm {
    /// The form as a number that is written with the object.
    #[inline]
    pub const fn code(self) -> u8 {
        match self {
            Self::Lz4 => SPILL_LZ4 as u8,
            Self::Zstd(dictionary) => SPILL_ZSTD as u8 | dictionary.number() << 4,
            Self::Huge => SPILL_HUGE as u8,
        }
    }
}

/// The word of an object.
#[inline]
fn object(kind: u64, at: Location, len: u16, version: DictionaryVersion) -> u64 {
    let less_one = u64::from(len).wrapping_sub(1);
    assert!(less_one <= LENGTH_MASK, "object length {len} out of range");
    let version = u64::from(version.number()) << DICTIONARY_SHIFT;
    kind | at.units() << PAYLOAD_SHIFT | less_one << LENGTH_SHIFT | version
}

/// Multiplying a 32-bit value by this repeats it.
const TWICE: u64 = 1 << 32 | 1;

#[inline]
const fn is_wide(word: u64) -> bool {
    ((word << PAYLOAD_SHIFT) as i64 >> PAYLOAD_SHIFT) as u64 == word
}

#[inline]
const fn is_twice(word: u64) -> bool {
    word.rotate_left(32) == word
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location() -> impl Strategy<Value = Location> {
        (0..=LOCATION_MASK).prop_map(Location::from_units)
    }

    proptest! {
        #[test]
        fn places_survive_packing(at in location(), len in 1..=4096u16, page: u32, v in 0..4u8) {
            let staged = Entry::Staged { at: BufferPage(page) };
            let version = DictionaryVersion::new(v);
            let packed = [
                Entry::Lz4 { at, len, tried: version },
                Entry::Zstd { at, len, dictionary: version },
                Entry::Huge { at, tried: version },
            ];
            let spilled = [SpillForm::Lz4, SpillForm::Zstd(version), SpillForm::Huge]
                .map(|form| Entry::Spilled { form, at, len });
            for entry in packed.into_iter().chain(spilled).chain([staged, Entry::Poisoned]) {
                prop_assert_eq!(Entry::unpack_exactly(entry.pack() | TOUCH_MASK), entry);
                prop_assert_eq!(Entry::unpack(entry.pack()), entry);
                prop_assert_eq!(Entry::unpack(entry.pack() | LOCK | TOUCH_MASK), entry);
                prop_assert_eq!(entry.pack() & (LOCK | TOUCH_MASK), 0);
                prop_assert_eq!(entry.moved(at), entry);
            }
        }

        #[test]
        fn words_survive_packing(wide in -(1i64 << 47)..1i64 << 47, half: u32) {
            for word in [wide as u64, u64::from(half) * TWICE] {
                prop_assert!(Entry::holds_word(word));
                prop_assert_eq!(Entry::unpack(Entry::Same(word).pack()), Entry::Same(word));
            }
        }

        #[test]
        fn any_word_is_held_exactly_or_not_at_all(word: u64) {
            if Entry::holds_word(word) {
                prop_assert_eq!(Entry::unpack(Entry::Same(word).pack()), Entry::Same(word));
            }
        }

        #[test]
        fn any_bits_unpack(raw: u64) {
            let entry = Entry::unpack(raw);
            prop_assert!(entry == Entry::Unknown || Entry::unpack(entry.pack()) == entry);
            let exact = Entry::unpack_exactly(raw);
            prop_assert!(exact == Entry::Unknown || exact == entry);
            if exact != Entry::Unknown {
                let touch = raw & (LOCK | TOUCH_MASK);
                prop_assert_eq!(entry.pack() | touch, raw);
            }
        }
    }

    #[test]
    fn a_fresh_table_is_empty() {
        assert_eq!(Entry::unpack(0), Entry::Empty);
        assert_eq!(Entry::Empty.pack(), 0);
    }
}
