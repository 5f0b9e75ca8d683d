//! When and how a slot was last used, in its entry: the policy's [`Touch`].
//!
//! Times are ticks of the store's coarse clock (`Store::tick`), 8 bits that wrap. So that a page
//! left alone for a whole turn does not look young again, whoever goes over the table
//! [pins](Touch::pinned) all stamps often enough.

pub use uswap_policy::Touch;

/// Where in an entry a touch begins.
const SHIFT: u32 = 5;

/// The bits of an entry that hold a touch.
pub(super) const TOUCH_MASK: u64 = ((1 << Touch::BITS) - 1) << SHIFT;

/// The bits in an entry.
#[inline]
pub(super) const fn pack(touch: Touch) -> u64 {
    (touch.to_bits() as u64) << SHIFT
}

/// The touch in an entry, whatever its kind.
#[inline]
pub(super) const fn unpack(raw: u64) -> Touch {
    Touch::from_bits((raw >> SHIFT) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_touch_survives_packing(bits in 0..1_u16 << Touch::BITS) {
            let touch = Touch::from_bits(bits);
            prop_assert_eq!(pack(touch) & !TOUCH_MASK, 0);
            prop_assert_eq!(unpack(pack(touch) | !TOUCH_MASK), touch);
        }
    }
}
