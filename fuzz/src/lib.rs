//! Throws mutated bytes at everything that reads bytes from outside, and holds each answer to four promises: no panic, memory and
//! time bounded by the length of the input, and what the target itself asserts. Stable Rust, no instrumentation: what guides the
//! search are the answers (`docs/fuzzing.md`).

pub mod engine;
pub mod memory;
pub mod mutate;
pub mod targets;
