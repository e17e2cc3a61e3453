//! nfz: encrypted, deduplicating backups over nothing but SFTP.

pub mod format;
pub mod store;
