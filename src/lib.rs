//! nfz: encrypted, deduplicating backups over nothing but SFTP.

pub mod engine;
pub mod format;
pub mod store;
