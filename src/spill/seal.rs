//! Sealing: nobody reads pages off the disk, and nothing that comes back from it is believed.

use crate::chaos::note_seal;
use crate::sys::secret::Wiped;
use crate::units::{Location, SlotIndex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fmt;

/// Bytes that a seal adds to what it seals.
pub const TAG_BYTES: usize = 16;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// What was read is not what was sealed there: damaged, torn, of another write, or another slot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// How the data of an object is to be understood; the store's business, kept and authenticated
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form(pub u8);

/// Which write put something where: unique among everything ever sealed with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Sequence number of the segment's write.
    pub sequence: u64,
    /// Position in the segment, in units of [`Location::UNIT`].
    pub unit: u32,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The slot.
    pub slot: SlotIndex,
    /// How its data is to be understood.
    pub form: Form,
    /// Bytes of data, 1 to 4096.
    pub len: u16,
}

impl Identity {
    const fn bytes(self) -> [u8; 7] {
        let ([a, b, c, d], [x, y]) = (self.slot.0.to_le_bytes(), self.len.to_le_bytes());
        [a, b, c, d, self.form.0, x, y]
    }
}

/// Bytes on the disk of `len` bytes of data, in units of [`Location::UNIT`].
pub(super) const fn sealed_units(len: usize) -> u32 {
    (len + TAG_BYTES).div_ceil(Location::UNIT) as u32
}

/// The key, and what is done with it. Sealing and opening neither allocate nor block; a quarter of
/// a microsecond for 1 KiB on a CPU with wide AES instructions. Wiped when dropped.
pub struct Seal {
    key: Wiped<LessSafeKey>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

impl Seal {
    /// With this key, which the caller wipes. It must be in locked memory, as the result will be.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("as long as such a key is");
        Self { key: Wiped::new(LessSafeKey::new(key)) }
    }

    /// Seals an object's `data` into `sealed`, which is [`TAG_BYTES`] longer.
    #[inline]
    pub fn seal(&self, place: Place, whose: Identity, data: &[u8], sealed: &mut [u8]) {
        self.seal_with(place, &whose.bytes(), data, sealed);
    }

    /// Opens an object in place and returns its data. On an error the bytes are left undefined.
    #[inline]
    pub fn open<'a>(
        &self,
        place: Place,
        whose: Identity,
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Broken> {
        self.open_with(place, &whose.bytes(), sealed)
    }

    #[inline]
    pub(super) fn seal_with(&self, place: Place, about: &[u8], data: &[u8], sealed: &mut [u8]) {
        note_seal(place.sequence, place.unit);
        let (text, tag) = sealed.split_at_mut(data.len());
        text.copy_from_slice(data);
        let made = self.key.seal_in_place_separate_tag(nonce(place), Aad::from(about), text);
        // The only error there is: more than 64 GiB.
        tag.copy_from_slice(made.expect("an object is short").as_ref());
    }

    #[inline]
    pub(super) fn open_with<'a>(
        &self,
        place: Place,
        about: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Broken> {
        let opened = self.key.open_in_place(nonce(place), Aad::from(about), sealed);
        opened.map(|data| &*data).map_err(|_| Broken)
    }
}

fn nonce(place: Place) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&place.sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&place.unit.to_le_bytes());
    // Unique: see `Place`.
    Nonce::assume_unique_for_key(bytes)
}
