//! An allocator that says how much has been allocated since it was asked to look.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Whether anybody looks. A plain read of it is all that an allocation pays otherwise, so that
/// what is timed takes as long as with the system's allocator.
static LOOKING: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, and scales.
pub struct Scales;

fn note(bytes: isize) {
    if LOOKING.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: all of it is done by the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Scales {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }

    // Without these two, what grows would be copied, and what is zero already be written.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.cast_signed() - layout.size().cast_signed());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Begin to look.
pub fn start() {
    BYTES.store(0, Ordering::Relaxed);
    LOOKING.store(true, Ordering::Relaxed);
}

/// Stop looking, and return the bytes that were allocated meanwhile and are still there.
pub fn stop() -> isize {
    LOOKING.store(false, Ordering::Relaxed);
    BYTES.load(Ordering::Relaxed)
}
