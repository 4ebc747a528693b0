//! The allocator, for this program and for the C library in it that speaks to Kafka.
//!
//! Records are allocated on one thread and freed on another, and what is fetched comes in pieces of megabytes. The C library's own
//! allocator gives those back to the system at once and pays for fresh pages the next time: a fifth of the processor's CPU
//! (docs/performance.md).
#![allow(unsafe_code)]

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts: what has been free for a fifth of a second goes back to the system, by a thread of its own, so that
/// an idle program is small; and two arenas, because each keeps something for itself.
// SAFETY: the name and the type are those that jemalloc declares (`const char *malloc_conf`).
#[unsafe(export_name = "malloc_conf")]
static CONFIGURATION: Option<&'static std::ffi::c_char> = {
    const TEXT: &std::ffi::CStr = c"background_thread:true,dirty_decay_ms:200,muzzy_decay_ms:0,narenas:2";
    // SAFETY: it points to a string that ends with a zero and lives for ever.
    Some(unsafe { &*TEXT.as_ptr() })
};
