//! Sealing: nobody reads pages off the disk, and nothing that comes back from it is believed.

use crate::units::{Location, SlotIndex};
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce, Tag};
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

/// The key, and what is done with it. Wiped when dropped. Sealing and opening neither allocate nor
/// block; about 1 us for 1.4 KiB on a CPU with AES instructions.
pub struct Seal {
    cipher: Box<Aes256Gcm>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

impl Seal {
    /// With this key, which the caller wipes. It must be in locked memory, as the result will be.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let key: &Key<Aes256Gcm> = key.into();
        Self { cipher: Box::new(Aes256Gcm::new(key)) }
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
        let (text, tag) = sealed.split_at_mut(data.len());
        let both = InOutBuf::new(data, text).expect("as long as each other");
        let made = self.cipher.encrypt_inout_detached(&nonce(place), about, both);
        // The only error there is: more than 64 GiB.
        tag.copy_from_slice(&made.expect("an object is short"));
    }

    #[inline]
    pub(super) fn open_with<'a>(
        &self,
        place: Place,
        about: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Broken> {
        let at = sealed.len().checked_sub(TAG_BYTES).ok_or(Broken)?;
        let (text, tag) = sealed.split_at_mut(at);
        let tag = <&Tag>::try_from(&*tag).map_err(|_| Broken)?;
        let opened = self.cipher.decrypt_inout_detached(&nonce(place), about, text.into(), tag);
        opened.map_err(|_| Broken)?;
        Ok(text)
    }
}

fn nonce(place: Place) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&place.sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&place.unit.to_le_bytes());
    bytes.into()
}
