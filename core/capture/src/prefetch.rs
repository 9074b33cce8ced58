//! Tells the processor what will be read soon, so that its lines of memory are on the way while
//! other work is done. Nothing but time depends on it.
#![allow(unsafe_code)]

/// Bytes in a line of memory.
const LINE_BYTES: usize = 64;

/// Asks for the first `lines_max` lines of `value`, fewer when it is shorter. Does not wait, and
/// does not read: what comes is at hand when it is read.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T, lines_max: usize) {
    let begin = std::ptr::from_ref(value).cast::<u8>();
    let lines = size_of_val(value).div_ceil(LINE_BYTES).min(lines_max);
    for line in 0..lines {
        prefetch_line(begin.wrapping_add(line * LINE_BYTES));
    }
}

/// Asks for the line of memory with the byte at `address`.
#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: PREFETCHT0 is in each processor of this architecture (SSE). It is a hint: it does not
    // fault, whatever the address (AMD64 Architecture Programmer's Manual, volume 3, PREFETCHlevel),
    // and what it loads is seen by nobody but the cache.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

/// Other processors find out by themselves.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_address: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_may_be_asked_for() {
        for address in [0, 1, usize::MAX] {
            prefetch_line(std::ptr::without_provenance(address));
        }
    }

    #[test]
    fn values_of_any_size_may_be_asked_for() {
        let bytes = [7; 300];
        for len in [0, 1, 64, 65, 300] {
            prefetch(&bytes[..len], usize::MAX);
        }
        prefetch("", 4);
        prefetch(&(), 4);
        assert_eq!(bytes, [7; 300]);
    }
}
