//! Links and special files.

use super::{Outcome, OwnershipPolicy, Target, TargetError, apply::Thing, pending::Pending};
use crate::format::{
    manifest::{Entry, Node},
    path::TreePath,
};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, makedev},
    io::Errno,
};
use std::os::fd::OwnedFd;

impl Target {
    /// Makes the symbolic link, pipe, socket name or device that `entry` is, with its metadata. Devices take root's
    /// rights: others get an error of kind [`Denied`](super::TargetErrorKind::Denied). Without `replace` what has the
    /// name already is kept and this is an error.
    ///
    /// # Errors
    /// [`TargetError`]; also for a file or a directory, which are made otherwise.
    pub fn make_special(&self, entry: &Entry, policy: &OwnershipPolicy, replace: bool) -> Result<Outcome, TargetError> {
        let make = |directory: &OwnedFd, name: &str| make_node(directory, name, &entry.node);
        let (pending, ()) = Pending::make(self, &entry.path, verb(&entry.node), make)?;
        let thing = Thing::open(&pending.directory, pending.temporary.as_bytes());
        let thing = thing.map_err(|error| TargetError::with("open", &entry.path, error))?;
        let outcome = thing.apply(&entry.path, &entry.metadata, policy, &self.names);
        pending.place(replace)?;
        Ok(outcome)
    }

    /// Makes `path` another name of `existing`, which is not followed if it is a symbolic link.
    ///
    /// # Errors
    /// [`TargetError`], as for [`make_special`](Self::make_special).
    pub fn hard_link(&self, existing: &TreePath, path: &TreePath, replace: bool) -> Result<(), TargetError> {
        let found = self.place(existing);
        let (from, from_name) = found.map_err(|error| TargetError::new("find", existing, error))?;
        let make = |directory: &OwnedFd, name: &str| fs::linkat(&from, from_name, directory, name, AtFlags::empty());
        let (pending, ()) = Pending::make(self, path, "make the hard link", make)?;
        pending.place(replace)
    }
}

fn make_node(directory: &OwnedFd, name: &str, node: &Node) -> Result<(), Errno> {
    let node_of = |kind, device| fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device);
    match node {
        Node::Symlink { target } => fs::symlinkat(target.as_slice(), directory, name),
        Node::Fifo => node_of(FileType::Fifo, 0),
        Node::Socket => node_of(FileType::Socket, 0),
        Node::CharacterDevice { major, minor } => node_of(FileType::CharacterDevice, makedev(*major, *minor)),
        Node::DiskDevice { major, minor } => node_of(FileType::BlockDevice, makedev(*major, *minor)),
        Node::Directory | Node::File(_) => Err(Errno::INVAL),
    }
}

fn verb(node: &Node) -> &'static str {
    match node {
        Node::Symlink { .. } => "make the symbolic link",
        Node::Fifo => "make the named pipe",
        Node::Socket => "make the socket name",
        _ => "make the device",
    }
}
