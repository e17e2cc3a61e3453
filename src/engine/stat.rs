//! What the file system tells of one name, alike for sources and targets.

use crate::format::manifest::{Node, Time};
use rustix::fs::{FileType, major, minor};
use std::io;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A device of fixed-size units, such as a disk.
    DiskDevice,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// `st_mode & 0o7777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// When the content was last changed.
    pub mtime: Time,
    /// When content or metadata were last changed.
    pub ctime: Time,
    /// Number of the inode on its device.
    pub inode: u64,
    /// Number of the file system.
    pub device: u64,
    /// How many names it has.
    pub nlink: u64,
    /// What it occupies, in units of 512 bytes.
    pub blocks: u64,
    /// Which device a device node stands for.
    pub rdev: u64,
}

impl Stat {
    /// Takes over what the system said, whose numbers have other widths on other machines.
    #[allow(clippy::unnecessary_cast, reason = "necessary on some")]
    pub(super) fn new(stat: &rustix::fs::Stat) -> io::Result<Self> {
        Ok(Self {
            kind: Kind::new(FileType::from_raw_mode(stat.st_mode))?,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            nlink: stat.st_nlink as u64,
            blocks: stat.st_blocks as u64,
            rdev: stat.st_rdev as u64,
        })
    }

    /// The manifest's word for it; `None` for files and symbolic links, which have content.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        let (major, minor) = (major(self.rdev), minor(self.rdev));
        match self.kind {
            Kind::Directory => Some(Node::Directory),
            Kind::Fifo => Some(Node::Fifo),
            Kind::Socket => Some(Node::Socket),
            Kind::CharacterDevice => Some(Node::CharacterDevice { major, minor }),
            Kind::DiskDevice => Some(Node::DiskDevice { major, minor }),
            Kind::File | Kind::Symlink => None,
        }
    }

    /// Whether `other` shows the same content: nothing was written, and no name or right changed, between the two.
    #[must_use]
    pub fn is_unchanged(&self, other: &Stat) -> bool {
        let identity = |stat: &Stat| (stat.kind, stat.device, stat.inode, stat.size, stat.mtime, stat.ctime);
        identity(self) == identity(other)
    }
}

impl Kind {
    fn new(kind: FileType) -> io::Result<Self> {
        Ok(match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::DiskDevice,
            FileType::Unknown => return Err(io::Error::other("it is of a kind that this program does not know")),
        })
    }
}

/// No file system may bring a time into a manifest that its reader refuses.
fn time(seconds: i64, nanoseconds: u64) -> Time {
    Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0).min(999_999_999) }
}
