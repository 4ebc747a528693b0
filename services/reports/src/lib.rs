//! The daily report as files, and where they are kept.
