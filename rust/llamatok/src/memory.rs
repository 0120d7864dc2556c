//! Memory in large pages.
//!
//! The system hands out memory page by page, when each is first touched, and that may take longer than to
//! write it: on a virtual machine, to fill 12 MB took 7.5 ms in pages of 4 KB, 1.6 ms in pages of 2 MB, and 1 ms
//! when it had been filled before.

use std::mem::MaybeUninit;

use memmap2::MmapMut;

/// The size of a large page, where the system has such.
pub const LARGE_PAGE: usize = 2 << 20;

/// Asks the system for large pages in memory that is about to be written. Where it has none, nothing changes.
pub fn prefer_large_pages<T>(memory: &mut [MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        // A multiple of the small pages of all processors, which advice has to begin with.
        const PAGE: usize = 64 << 10;
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

/// How much memory is best had in large pages, for `bytes` that begin where a large page does: all of it if
/// that takes at most an eighth more, else the large pages that are filled. None where the system is not asked for
/// them.
pub fn large_page_bytes(bytes: usize) -> usize {
    if cfg!(not(target_os = "linux")) {
        return 0;
    }
    let filled = bytes / LARGE_PAGE * LARGE_PAGE;
    match filled.checked_add(LARGE_PAGE) {
        Some(all) if all - bytes <= bytes / 8 => all,
        _ => filled,
    }
}

/// Zeroed memory, and where the `bytes` in it begin that were asked for: where a large page may, if they fill
/// one. `None` where the system gives no memory.
pub(crate) fn map_zeroed(bytes: usize) -> Option<(MmapMut, usize)> {
    // What is asked for in vain is never touched.
    let slack = if bytes >= LARGE_PAGE { LARGE_PAGE } else { 0 };
    let memory = MmapMut::map_anon(bytes.checked_add(slack)?).ok()?;
    #[cfg(target_os = "linux")]
    // Fewer misses of the TLB, too; where the system has no large pages, nothing is lost.
    let _ = memory.advise(memmap2::Advice::HugePage);
    let start = if slack > 0 { memory.as_ptr().align_offset(LARGE_PAGE).min(slack) } else { 0 };
    Some((memory, start))
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
    fn large_pages_waste_an_eighth_at_most() {
        for (bytes, pages) in [(0, 0), (1 << 20, 0), (15 << 17, 1), (1 << 21, 1), (3 << 20, 1), (15 << 18, 2)]
        {
            assert_eq!(large_page_bytes(bytes), pages * LARGE_PAGE, "{bytes}");
        }
        for bytes in (0..40 * LARGE_PAGE).step_by(12_345).chain([usize::MAX]) {
            assert!(large_page_bytes(bytes).saturating_sub(bytes) <= bytes / 8);
            assert!(bytes - large_page_bytes(bytes).min(bytes) < LARGE_PAGE);
        }
    }
}
