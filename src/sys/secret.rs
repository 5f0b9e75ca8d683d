//! Keys.

use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use zeroize::{Zeroize, Zeroizing};

/// A key of 32 random bytes from the kernel, wiped when dropped. Blocks only while the machine has
/// not gathered randomness yet, early at boot. It is as safe from the swap as all memory of this
/// process: locked, and never dumped, once the process is protected.
pub fn random_key() -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let mut have = 0;
    while have < key.len() {
        have += getrandom(&mut key[have..], GetRandomFlags::empty())?;
    }
    Ok(key)
}

/// Something made from a key, of bytes and nothing else, wiped when dropped. Copies that were made
/// on its way here are not: they are on the stack, which is locked and never dumped.
pub struct Wiped<T>(Box<T>);

impl<T> fmt::Debug for Wiped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiped").finish_non_exhaustive()
    }
}

impl<T> Wiped<T> {
    /// Takes it over. Allocates.
    pub fn new(value: T) -> Self {
        const { assert!(!std::mem::needs_drop::<T>(), "it is wiped before it could be dropped") };
        Self(Box::new(value))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Makes all bytes zero. Nobody may use the value as what it was from here on.
fn wipe<T>(value: &mut T) {
    let start = std::ptr::from_mut(value).cast::<MaybeUninit<u8>>();
    // SAFETY: the bytes of a value that is borrowed for this time; uninitialised ones may be among
    // them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, size_of::<T>()) };
    bytes.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_value_leaves_nothing() {
        let mut secret = Wiped::new([0x5a5a_5a5a_u32; 100]);
        assert_eq!(secret[99], 0x5a5a_5a5a);
        wipe(&mut *secret.0);
        assert_eq!(*secret, [0; 100]);
    }

    #[test]
    fn two_keys_differ() {
        let [a, b] = [random_key().expect("kernel"), random_key().expect("kernel")];
        assert_ne!(*a, *b);
        assert_ne!(*a, [0; 32]);
    }
}
