//! What of processes is in RAM and could be swapped: present pages of private mappings without a
//! file.
//!
//! Looked up in /proc/PID/pagemap, which tells what is present without touching it, and read
//! through /proc/PID/mem, without stopping the process. Only pages that were present are read, so
//! nothing is brought back from swap, but for one that leaves between the look and the read.

use crate::units::{PAGE_SIZE, Page};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Bits of a /proc/PID/pagemap entry (Linux Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FILE_OR_SHARED: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
/// Pagemap entries read at once: 64 KiB.
const PAGEMAP_BATCH: usize = 8192;

/// One present page of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Process.
    pub pid: u32,
    /// Virtual address.
    pub address: u64,
    /// Nobody else has it. The kernel's shared zero page, which is never swapped, is not exclusive.
    pub exclusive: bool,
}

/// Address ranges of private mappings without a file, from the text of /proc/PID/maps.
fn anonymous_ranges(maps: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (begin, end) = words.next()?.split_once('-')?;
        let mode = words.next()?;
        // Reserved address space, of which some programs have terabytes, has no pages.
        let private = mode.ends_with('p') && !mode.starts_with("---");
        let file = words.nth(2)? != "0";
        let name = words.next().unwrap_or("");
        // The rest in brackets ([vdso], [vvar], [vsyscall]) belongs to the kernel.
        let memory =
            name.is_empty() || ["[heap]", "[stack]"].contains(&name) || name.starts_with("[anon:");
        let hex = |word| u64::from_str_radix(word, 16).ok();
        (private && !file && memory).then_some((hex(begin)?, hex(end)?))
    };
    maps.lines().filter_map(range).collect()
}

/// What a pagemap entry says of an anonymous page: nothing unless it is in RAM, else whether one
/// process alone has it.
fn present(entry: u64) -> Option<bool> {
    (entry & PRESENT != 0 && entry & FILE_OR_SHARED == 0).then_some(entry & EXCLUSIVE != 0)
}

fn of_process(pid: u32, file: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("/proc/{pid}/{file}: {e}"))
}

/// Shows `visit` every such page of a process, in address order. Needs CAP_SYS_PTRACE for processes
/// of others. Errors name the file.
pub fn for_each(pid: u32, mut visit: impl FnMut(Place)) -> io::Result<()> {
    let maps = fs::read(format!("/proc/{pid}/maps"));
    let maps = maps.map_err(|e| of_process(pid, "maps", &e))?;
    // Files can have names that are no text; they are not what is looked for.
    let maps = String::from_utf8_lossy(&maps);
    let pagemap = File::open(format!("/proc/{pid}/pagemap"));
    let pagemap = pagemap.map_err(|e| of_process(pid, "pagemap", &e))?;
    let mut buffer = vec![0u8; PAGEMAP_BATCH * 8];
    for (begin, end) in anonymous_ranges(&maps) {
        let (mut page, last) = (begin / PAGE_SIZE as u64, end / PAGE_SIZE as u64);
        while page < last {
            let count = (last - page).min(PAGEMAP_BATCH as u64) as usize;
            let read = pagemap.read_at(&mut buffer[..count * 8], page * 8);
            let read = read.map_err(|e| of_process(pid, "pagemap", &e))?;
            if read < 8 {
                break; // the mapping went away
            }
            for entry in buffer[..read / 8 * 8].chunks_exact(8) {
                let entry = u64::from_ne_bytes(std::array::from_fn(|i| entry[i]));
                if let Some(exclusive) = present(entry) {
                    visit(Place { pid, address: page * PAGE_SIZE as u64, exclusive });
                }
                page += 1;
            }
        }
    }
    Ok(())
}

/// Reads pages, and keeps the process of the last one open.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<(u32, File)>,
}

impl Reader {
    /// Reads the page at `place`; whether there is one that could be swapped: it may have gone
    /// meanwhile, or be the shared zero page. An error if the process cannot be read.
    pub fn read(&mut self, place: Place, page: &mut Page) -> io::Result<bool> {
        if self.open.as_ref().is_none_or(|(pid, _)| *pid != place.pid) {
            let memory = File::open(format!("/proc/{}/mem", place.pid));
            self.open = Some((place.pid, memory.map_err(|e| of_process(place.pid, "mem", &e))?));
        }
        let Some((_, memory)) = &self.open else { return Ok(false) };
        if memory.read_exact_at(page, place.address).is_err() {
            return Ok(false);
        }
        Ok(place.exclusive || page.iter().any(|byte| *byte != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0001000 r-xp 00000000 fe:01 1234   /usr/bin/cat
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0      [heap]
7f0000000000-7f0000002000 rw-p 00000000 00:00 0
7f0000010000-7f0000012000 rw-s 00000000 00:01 77     /dev/zero (deleted)
7f0000020000-7f0000022000 rw-p 00001000 fe:01 99     /usr/lib/libc.so.6
7f0000024000-7f8000024000 ---p 00000000 00:00 0
7f0000030000-7f0000031000 rw-p 00000000 00:00 0      [anon: glibc: malloc]
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0      [stack]
7ffd00030000-7ffd00034000 r--p 00000000 00:00 0      [vvar]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]
nonsense
";

    #[test]
    fn only_private_memory_without_a_file_counts() {
        let begins: Vec<u64> = anonymous_ranges(MAPS).into_iter().map(|(begin, _)| begin).collect();
        assert_eq!(
            begins,
            [0x55d0_c100_0000, 0x7f00_0000_0000, 0x7f00_0003_0000, 0x7ffd_0000_0000]
        );
        assert_eq!(anonymous_ranges(MAPS)[1], (0x7f00_0000_0000, 0x7f00_0000_2000));
    }

    #[test]
    fn swapped_file_and_shared_pages_do_not_count() {
        assert_eq!(present(PRESENT | EXCLUSIVE | 0x1234), Some(true));
        assert_eq!(present(PRESENT), Some(false));
        assert_eq!(present(PRESENT | FILE_OR_SHARED), None);
        assert_eq!(present(1 << 62), None);
        assert_eq!(present(0), None);
    }

    #[test]
    fn this_process_holds_the_pages_it_wrote() {
        let mark = vec![0xA5u8; 1 << 20];
        let begin = mark.as_ptr() as u64;
        let mut found = Vec::new();
        for_each(std::process::id(), |place| {
            found.extend(Some(place).filter(|p| p.address >= begin && p.address - begin < 1 << 20));
        })
        .expect("own memory");
        assert!(found.len() >= 255, "{} of 256 pages found", found.len());
        let mut page = [0; PAGE_SIZE];
        assert!(Reader::default().read(found[3], &mut page).expect("own memory"));
        assert_eq!(page, [0xA5; PAGE_SIZE]);
    }
}
