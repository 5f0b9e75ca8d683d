//! Keys.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use zeroize::Zeroizing;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_differ() {
        let [a, b] = [random_key().expect("kernel"), random_key().expect("kernel")];
        assert_ne!(*a, *b);
        assert_ne!(*a, [0; 32]);
    }
}
