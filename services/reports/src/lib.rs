//! The daily report as files, and where they are kept.

pub mod changes;
pub mod file;
pub mod manifest;
pub mod narrative;
pub mod render;
pub mod storage;

pub use changes::Revised;
pub use file::File;
pub use manifest::Manifest;
pub use render::{RenderContext, figures_sha256, render};
pub use storage::{Storage, StorageError, StorageOptions};
