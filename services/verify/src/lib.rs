//! Recomputes every promise from raw data, sharing no code with the processor.
