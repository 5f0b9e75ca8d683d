//! The head of a service's state: what a successor must know to be the same before it opens
//! anything else. Written once, when everything beside it is there; never changed.

use crate::error::StartError;
use crate::limits::{DICTIONARY_BYTES, SEGMENT_BYTES, SLAB_BYTES};
use crate::pool;
use crate::sys::map::checksum;

/// Version of everything in the state directory. Raise it with any change of what the files mean.
pub const VERSION: u64 = 1;

/// First word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"uswap st");

/// Words after magic and version, and before the checksum.
const FIELDS: usize = 13;

/// Words of the file.
const WORDS: usize = FIELDS + 3;

/// What the files of a service are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Slots of the device; 0 for a target without a table.
    pub slots: u64,
    /// Bytes of arena.
    pub pool_bytes: u64,
    /// Chunks of request buffers and staging.
    pub chunks: u64,
    /// Queues of the device.
    pub queues: u16,
    /// Tags of a queue.
    pub depth: u16,
    /// Codec of new pages, as `store` numbers it. For people: a successor may have another.
    pub codec: u64,
    /// The spill.
    pub spill: Option<SpillIdentity>,
}

/// Which file or device the spill is, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillIdentity {
    /// Bytes used.
    pub bytes: u64,
    /// Device of the file, or number of the block device.
    pub device: u64,
    /// Its inode there; 0 for a block device.
    pub inode: u64,
}

/// Why a state cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not the head of a state, or not all of it.
    Damaged,
    /// Of a version that this program does not know.
    Version(u64),
    /// Made by a program with other sizes of slabs, segments or dictionaries.
    Build,
    /// This is another than the settings say: what, there, here.
    Differs(&'static str, u64, u64),
}

impl Format {
    /// The bytes of the file.
    pub fn pack(&self) -> Vec<u8> {
        let spill = self.spill.unwrap_or(SpillIdentity { bytes: 0, device: 0, inode: 0 });
        let mut words = vec![MAGIC, VERSION];
        words.extend(build());
        words.extend([self.slots, self.pool_bytes, self.chunks]);
        words.extend([self.queues.into(), self.depth.into(), self.codec]);
        words.extend([spill.bytes, spill.device, spill.inode]);
        words.push(checksum(words.iter().copied()));
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The format in the bytes of a file, whatever they are.
    pub fn unpack(bytes: &[u8]) -> Result<Self, Unfit> {
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).take(WORDS).collect();
        let [magic, version, rest @ ..] = words.as_slice() else { return Err(Unfit::Damaged) };
        if *magic != MAGIC {
            return Err(Unfit::Damaged);
        }
        if *version != VERSION {
            return Err(Unfit::Version(*version));
        }
        let fields: &[u64; FIELDS + 1] = rest.try_into().map_err(|_| Unfit::Damaged)?;
        if bytes.len() != WORDS * 8
            || checksum(words[..WORDS - 1].iter().copied()) != fields[FIELDS]
        {
            return Err(Unfit::Damaged);
        }
        let [a, b, c, d, slots, pool_bytes, chunks, queues, depth, codec, bytes, device, inode, _] =
            *fields;
        if [a, b, c, d] != build() {
            return Err(Unfit::Build);
        }
        let short = |word: u64| u16::try_from(word).map_err(|_| Unfit::Damaged);
        let (queues, depth) = (short(queues)?, short(depth)?);
        let spill = (bytes > 0).then_some(SpillIdentity { bytes, device, inode });
        Ok(Self { slots, pool_bytes, chunks, queues, depth, codec, spill })
    }

    /// Whether a state of this format can be served by whoever would make one of format `own`.
    pub fn suits(&self, own: &Self) -> Result<(), Unfit> {
        let of =
            |spill: Option<SpillIdentity>| spill.map_or([0; 3], |s| [s.bytes, s.device, s.inode]);
        let ([bytes, device, inode], own_spill) = (of(self.spill), of(own.spill));
        let pairs = [
            ("--size in pages", self.slots, own.slots),
            ("--pool in bytes", self.pool_bytes, own.pool_bytes),
            ("--queues", self.queues.into(), own.queues.into()),
            ("--depth", self.depth.into(), own.depth.into()),
            ("--staging and buffers in chunks", self.chunks, own.chunks),
            ("--spill-size in bytes", bytes, own_spill[0]),
            ("device of --spill", device, own_spill[1]),
            ("inode of --spill", inode, own_spill[2]),
        ];
        match pairs.into_iter().find(|(_, there, here)| there != here) {
            None => Ok(()),
            Some((what, there, here)) => Err(Unfit::Differs(what, there, here)),
        }
    }
}

/// What a build has in it and the files depend on: sizes, and how slabs are divided.
fn build() -> [u64; 4] {
    [SLAB_BYTES as u64, SEGMENT_BYTES as u64, DICTIONARY_BYTES as u64, pool::division()]
}

impl Unfit {
    /// For a person, about the service of this name.
    pub fn explain(&self, name: &str) -> StartError {
        let stop = format!("stop it (`swapoff` its device, `uswap down {name}`) and start it anew");
        let (what, remedy) = match self {
            Self::Damaged => ("is damaged, or was never finished".to_owned(), stop),
            Self::Version(version) => (
                format!("has format {version}, and this program knows {VERSION}"),
                format!("keep the program that runs it, or {stop}"),
            ),
            Self::Build => (
                "has slabs, segments or dictionaries of other sizes".to_owned(),
                format!("keep the program that runs it, or {stop}"),
            ),
            Self::Differs(what, there, here) => (
                format!("was made with {what} {there}, and {here} is asked for"),
                format!("give the settings that it runs with, or {stop}"),
            ),
        };
        StartError::failure(format!("the state of {name} {what}"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: Format = Format {
        slots: 1 << 20,
        pool_bytes: 1 << 30,
        chunks: 40,
        queues: 2,
        depth: 64,
        codec: 0,
        spill: Some(SpillIdentity { bytes: 1 << 32, device: 5, inode: 77 }),
    };

    proptest! {
        #[test]
        fn any_bytes_are_refused_and_no_flip_passes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0..WORDS * 64,
            cut in 0..WORDS * 8,
        ) {
            prop_assert!(Format::unpack(&bytes).is_err());
            let mut good = FORMAT.pack();
            prop_assert!(Format::unpack(&good[..cut]).is_err());
            good[at / 8] ^= 1 << (at % 8);
            prop_assert!(Format::unpack(&good).is_err());
        }
    }

    #[test]
    fn a_format_comes_back_and_suits_itself_only() {
        assert_eq!(FORMAT.pack().len(), WORDS * 8);
        assert_eq!(Format::unpack(&FORMAT.pack()), Ok(FORMAT));
        assert_eq!(FORMAT.suits(&FORMAT), Ok(()));
        let others = [
            Format { slots: 1, ..FORMAT },
            Format { pool_bytes: 1, ..FORMAT },
            Format { chunks: 41, ..FORMAT },
            Format { queues: 1, ..FORMAT },
            Format { depth: 63, ..FORMAT },
            Format { spill: None, ..FORMAT },
        ];
        for other in others {
            assert!(matches!(FORMAT.suits(&other), Err(Unfit::Differs(..))), "{other:?}");
        }
        assert_eq!(FORMAT.suits(&Format { codec: 2, ..FORMAT }), Ok(()));
    }

    /// If this fails the files mean something else than before: raise [`VERSION`].
    #[test]
    fn slabs_are_divided_as_this_version_has_it() {
        assert_eq!((VERSION, pool::division()), (1, 854_638_972_551_308_751));
    }

    #[test]
    fn another_version_is_named_with_a_remedy() {
        let mut bytes = FORMAT.pack();
        bytes[8..16].copy_from_slice(&9u64.to_le_bytes());
        let unfit = Format::unpack(&bytes).expect_err("another version");
        assert_eq!(unfit, Unfit::Version(9));
        let text = unfit.explain("main").to_string();
        assert!(
            text.contains("has format 9, and this program knows 1; keep the program"),
            "{text}"
        );
        let text = Unfit::Differs("--depth", 64, 32).explain("main").to_string();
        assert!(text.contains("with --depth 64, and 32 is asked for; give the settings"), "{text}");
    }
}
