//! Limits on everything that comes from outside, in one place (`spec/1-objects.md`, `spec/2-keys.md`).

/// The largest object that is read, in bytes: sealed chunks, segments and roots alike.
pub const OBJECT_MAX: u64 = 16 << 20;
/// The largest plaintext of an object, in bytes.
pub const PLAIN_MAX: usize = 12 << 20;
/// The largest key slot, in bytes.
pub const SLOT_MAX: u64 = 1024;
/// The most key slots that are looked at.
pub const SLOTS_MAX: usize = 16;
/// The largest `nfz-repository`, in bytes.
pub const REPOSITORY_FILE_MAX: u64 = 4096;
/// The most names taken from one directory of a store.
pub const LISTED_MAX: usize = 1 << 20;
/// The longest file name that is looked at in a listing, in bytes; longer ones are foreign.
pub const LISTED_NAME_MAX: usize = 255;
