//! Memory in large pages.
//!
//! The system hands out memory page by page, when each is first touched. That takes longer than to write a
//! small page (4 KB): of 12 MB, 6 ms to 1. Large ones cost next to nothing by the byte.

use std::mem::MaybeUninit;

/// The size of a large page, where the system has such.
pub const LARGE_PAGE: usize = 2 << 20;

/// Asks the system for large pages in memory that is about to be written to its end. Where it has none,
/// nothing changes.
pub fn prefer_large_pages<T>(memory: &mut [MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = memory.as_ptr() as usize;
        let (first, end) = (start.next_multiple_of(PAGE), (start + size_of_val(memory)) / PAGE * PAGE);
        if first < end {
            // SAFETY: the advice concerns the memory of the slice only, and changes no byte of it.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// How much memory is best had in large pages, for `bytes` that begin where a large page does: none where
/// the system is not asked for them, and no page of which less than half is used.
pub fn large_page_bytes(bytes: usize) -> usize {
    let pages = bytes / LARGE_PAGE + usize::from(bytes % LARGE_PAGE >= LARGE_PAGE / 2);
    if cfg!(target_os = "linux") {
        pages * LARGE_PAGE
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_as_before() {
        for bytes in [0, 1, 4095, 4096, LARGE_PAGE, 3 * LARGE_PAGE + 4097] {
            let mut memory = vec![MaybeUninit::new(7u8); bytes];
            prefer_large_pages(&mut memory);
            // SAFETY: all of it has been written.
            assert!(memory.iter().all(|byte| unsafe { byte.assume_init() } == 7));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_page_is_for_half_a_page_and_more() {
        for (bytes, expected) in [(0, 0), (1 << 19, 0), (1 << 20, 1), ((3 << 20) - 1, 1), (3 << 20, 2)] {
            assert_eq!(large_page_bytes(bytes), expected * LARGE_PAGE);
        }
    }
}
