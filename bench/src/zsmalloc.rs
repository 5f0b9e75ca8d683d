//! What zsmalloc would report as `mem_used_total`: classes of 16 bytes, zspages of up to 8 pages
//! with the least tail, classes of equal shape merged, 8 bytes for the handle, objects beyond 3264
//! bytes stored as whole pages (Linux mm/zsmalloc.c, drivers/block/zram).

use uswap::units::PAGE_SIZE;

const CLASS_STEP: usize = 16;
const CLASS_MIN: usize = 32;
const CHAIN_MAX: usize = 8;
const HANDLE_BYTES: usize = 8;
const WHOLE_BEYOND: usize = 3264;

/// Pages of a zspage and objects in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    pages: usize,
    objects: usize,
}

fn shape(bytes: usize) -> Shape {
    let used = |pages: usize| {
        let objects = pages * PAGE_SIZE / bytes;
        objects * bytes * 100 / (pages * PAGE_SIZE)
    };
    // The shortest of the best.
    let pages = (1..=CHAIN_MAX).rev().max_by_key(|pages| used(*pages)).expect("some");
    Shape { pages, objects: pages * PAGE_SIZE / bytes }
}

/// Bytes in zspages for objects of these lengths, each stored once and none freed.
pub fn bytes(lens: impl IntoIterator<Item = usize>) -> usize {
    let classes: Vec<Shape> = (CLASS_MIN..=PAGE_SIZE).step_by(CLASS_STEP).map(shape).collect();
    let mut counts = vec![0; classes.len()];
    for len in lens {
        let need = if len > WHOLE_BEYOND { PAGE_SIZE } else { len + HANDLE_BYTES };
        let mut class = need.saturating_sub(CLASS_MIN).div_ceil(CLASS_STEP);
        // The largest class of the same shape takes its place.
        while classes.get(class + 1) == Some(&classes[class]) {
            class += 1;
        }
        counts[class] += 1;
    }
    let zspages = |(shape, count): (&Shape, usize)| count.div_ceil(shape.objects) * shape.pages;
    classes.iter().zip(counts).map(zspages).sum::<usize>() * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_take_a_page_and_small_objects_share() {
        assert_eq!(bytes([4096, 3300, 3265]), 3 * PAGE_SIZE);
        assert_eq!(bytes([24; 128]), PAGE_SIZE);
        assert_eq!(bytes([24; 129]), 2 * PAGE_SIZE);
        assert_eq!(bytes([2040; 2]), PAGE_SIZE);
        assert_eq!(bytes([]), 0);
    }
}
