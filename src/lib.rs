//! nfz: encrypted, deduplicating backups over nothing but SFTP.

pub mod cli;
pub mod clock;
pub mod engine;
pub mod format;
pub mod repository;
pub mod store;
