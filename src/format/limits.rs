//! Limits on everything that comes from outside, in one place (`spec/1-objects.md`, `spec/2-keys.md`).

/// The largest object that is read, in bytes: sealed chunks, segments and roots alike.
pub const OBJECT_MAX: u64 = 16 << 20;
/// The largest plaintext of an object, in bytes.
pub const PLAIN_MAX: usize = 12 << 20;
/// The largest key slot, in bytes.
pub const SLOT_MAX: u64 = 1024;
/// The most key slots that are looked at.
pub const SLOTS_MAX: usize = 16;
/// The most epochs that a repository can have.
pub const EPOCHS_MAX: usize = 1024;
/// The largest keyring, in bytes: a header, the secrets of all epochs but the newest, a tag.
pub const KEYRING_MAX: u64 = 48 + 32 * (EPOCHS_MAX as u64 - 1) + 16;
/// The most keyrings that are looked at.
pub const KEYRINGS_MAX: usize = 16;
/// The largest `nfz-repository`, in bytes.
pub const REPOSITORY_FILE_MAX: u64 = 4096;
/// The most names taken from one directory of a store.
pub const LISTED_MAX: usize = 1 << 20;
/// The longest file name that is looked at in a listing, in bytes; longer ones are foreign.
pub const LISTED_NAME_MAX: usize = 255;
/// The longest path of an entry, in bytes.
pub const PATH_MAX: usize = 65_535;
/// The longest component of a path, in bytes.
pub const COMPONENT_MAX: usize = 1_024;
/// The most bytes of extended attributes that one entry keeps.
pub const XATTRS_MAX: usize = 1 << 20;
/// The most entries of one segment.
pub const SEGMENT_ENTRIES_MAX: usize = 65_536;
/// The most chunks, and the most extents, of one part of a file.
pub const PART_MAX: usize = 16_384;
/// The most snapshots that a snapshot names as those it follows.
pub const FOLLOWS_MAX: usize = 64;
/// The most ids of one record of what was removed or set aside.
pub const RECORDED_MAX: usize = 65_536;
/// The most packs that a snapshot names as worth rewriting.
pub const SPARSE_PACKS_MAX: usize = 256;
