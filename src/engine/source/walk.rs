//! The walk: a tree in path order, one look at each entry.

use super::{
    directory::Directory,
    found::{Found, Place, last_component},
    names::Names,
    open_at,
};
use crate::{
    engine::{
        filter::{CACHE_SIGNATURE, CACHE_TAG, Filter},
        problem::Problem,
        stat::{Kind, Stat},
    },
    format::path::TreePath,
};
use rustix::{
    fs::{self, AtFlags, OFlags},
    io::Errno,
};
use std::{collections::HashMap, io, os::fd::OwnedFd, sync::Arc};

/// Hands out the entries of a source in path order. Holds the names of one directory for each level of the tree.
pub struct Walk<P> {
    filter: Filter,
    problems: P,
    /// The source, until it has been handed out.
    start: Option<Arc<Directory>>,
    source_device: u64,
    /// A directory that was handed out and not yet entered.
    pending: Option<(TreePath, Place)>,
    levels: Vec<Level>,
    devices: Devices,
}

/// A directory that is being walked.
struct Level {
    directory: Arc<Directory>,
    path: TreePath,
    names: Names,
}

impl<P: FnMut(Problem)> Walk<P> {
    pub(super) fn new(root: Arc<Directory>, filter: Filter, problems: P) -> Self {
        let source_device = root.device();
        let (levels, devices) = (Vec::new(), Devices::default());
        Self { filter, problems, start: Some(root), source_device, pending: None, levels, devices }
    }

    fn source_itself(&mut self, root: Arc<Directory>) -> Option<Found> {
        let path = TreePath::root();
        let stat = root.handle().and_then(|fd| Stat::new(&fs::fstat(&fd)?));
        match stat {
            Ok(stat) => Some(self.hand_out(path, Place::Root(root), stat)),
            Err(error) => {
                (self.problems)(Problem::new(&path, "look at it", error));
                None
            }
        }
    }

    fn hand_out(&mut self, path: TreePath, place: Place, stat: Stat) -> Found {
        if stat.kind == Kind::Directory {
            self.pending = Some((path.clone(), place.clone()));
        }
        let link_group = self.devices.link_group(&path, &stat);
        Found { path, stat, link_group, place }
    }

    /// Enters the directory that was handed out last, if it was one.
    fn enter(&mut self) {
        let Some((path, place)) = self.pending.take() else { return };
        match self.open_level(&path, place) {
            Ok(level) => self.levels.extend(level),
            Err(error) => (self.problems)(Problem::new(&path, "read the directory", error)),
        }
    }

    fn open_level(&self, path: &TreePath, place: Place) -> io::Result<Option<Level>> {
        let directory = match place {
            Place::Root(root) => {
                let names = Names::read(&open_at(&*root.handle()?, b".", OFlags::DIRECTORY)?)?;
                return self.level(path, root, names).map(Some);
            }
            Place::In(parent) => parent.child(last_component(path))?,
        };
        // Asked of the open directory: opening may have mounted something there.
        if self.filter.stays_on_one_file_system() && directory.device() != self.source_device {
            return Ok(None);
        }
        let names = Names::read(&*directory.handle()?)?;
        self.level(path, directory, names).map(Some)
    }

    fn level(&self, path: &TreePath, directory: Arc<Directory>, mut names: Names) -> io::Result<Level> {
        let tags = self.tags(&directory, &names)?;
        if !tags.is_empty() {
            names.retain(|name| tags.contains(&name));
        }
        Ok(Level { directory, path: path.clone(), names })
    }

    /// The tags that the directory with these names bears.
    fn tags(&self, directory: &Arc<Directory>, names: &Names) -> io::Result<Vec<&[u8]>> {
        let mut tags: Vec<&[u8]> = self.filter.tags().iter().map(Vec::as_slice).collect();
        tags.retain(|tag| names.contains(tag));
        if self.filter.looks_for_caches() && names.contains(CACHE_TAG) && is_cache_tag(&*directory.handle()?) {
            tags.push(CACHE_TAG);
        }
        Ok(tags)
    }

    /// Looks at the next name of the innermost directory.
    fn look(&mut self) -> Step {
        let Some(level) = self.levels.last_mut() else { return Step::End };
        level.look(&self.filter, &mut self.problems)
    }
}

impl Level {
    /// Looks at its next name.
    fn look(&mut self, filter: &Filter, problems: &mut impl FnMut(Problem)) -> Step {
        let Some(name) = self.names.next() else { return Step::Up };
        let directory = match self.directory.handle() {
            Ok(directory) => directory,
            Err(error) => {
                problems(Problem::new(&self.path, "read the directory to its end", error));
                return Step::Up;
            }
        };
        let path = match self.path.join(name) {
            Ok(path) => path,
            Err(error) => {
                problems(Problem::new(&self.path, "keep a name in it", error));
                return Step::Next;
            }
        };
        let stat = match fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Step::Next,
            other => other.map_err(io::Error::from).and_then(|stat| Stat::new(&stat)),
        };
        match stat {
            Ok(stat) if leaves_out(filter, &path, &stat) => Step::Next,
            Ok(stat) => Step::Found(path, Place::In(Arc::clone(&self.directory)), stat),
            Err(error) => {
                problems(Problem::new(&path, "look at it", error));
                Step::Next
            }
        }
    }
}

fn leaves_out(filter: &Filter, path: &TreePath, stat: &Stat) -> bool {
    filter.excludes(path, stat.kind == Kind::Directory) || (stat.kind == Kind::File && filter.is_too_large(stat.size))
}

enum Step {
    Found(TreePath, Place, Stat),
    Next,
    Up,
    End,
}

impl<P: FnMut(Problem)> Iterator for Walk<P> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if let Some(root) = self.start.take() {
            return self.source_itself(root);
        }
        self.enter();
        loop {
            match self.look() {
                Step::Found(path, place, stat) => return Some(self.hand_out(path, place, stat)),
                Step::Next => {}
                Step::Up => drop(self.levels.pop()),
                Step::End => return None,
            }
        }
    }
}

fn is_cache_tag(directory: &OwnedFd) -> bool {
    let Ok(fd) = open_at(directory, CACHE_TAG, OFlags::empty()) else { return false };
    let is_file = fs::fstat(&fd).and_then(|stat| Stat::new(&stat).map_err(|_| Errno::INVAL));
    let mut start = [0; CACHE_SIGNATURE.len()];
    is_file.is_ok_and(|stat| stat.kind == Kind::File)
        && rustix::io::pread(&fd, &mut start, 0) == Ok(start.len())
        && start == *CACHE_SIGNATURE
}

/// Where each file system was met first. Device numbers change from one boot to the next, that place does not.
#[derive(Default)]
struct Devices {
    first_seen: HashMap<u64, TreePath>,
}

impl Devices {
    /// A number that all names of one file share and that is the same in every walk; 0 for what has one name.
    fn link_group(&mut self, path: &TreePath, stat: &Stat) -> u64 {
        let place = self.first_seen.entry(stat.device).or_insert_with(|| path.clone());
        if stat.nlink < 2 || stat.kind == Kind::Directory {
            return 0;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(place.as_bytes()).update(&[0]).update(&stat.inode.to_le_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number).max(1)
    }
}
