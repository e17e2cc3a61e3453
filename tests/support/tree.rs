//! Trees for tests: a walker that shares no code with the program, random trees, and random edits of them.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "each test uses a part of this")]

use proptest::{collection::vec, prelude::*, sample::Index};
use rustix::{
    fs::{self as sys, AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

// ---- reading a tree ----

/// All that a backup must bring back of one name.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    /// Type bits and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970.
    pub mtime: i128,
    /// Length of a file.
    pub size: u64,
    /// Hash of a file's bytes.
    pub content: Option<blake3::Hash>,
    /// Of a symbolic link.
    pub target: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file, where it has several.
    pub first_name: Option<Vec<u8>>,
    /// Of a device.
    pub rdev: u64,
    /// Where a file's data lie: start and end of each stretch.
    pub data: Vec<(u64, u64)>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = self.content.map(|hash| hash.to_hex()[..12].to_owned());
        write!(f, "{:o} {}:{} {}ns {} bytes", self.mode, self.uid, self.gid, self.mtime, self.size)?;
        write!(f, " content {content:?} target {:?}", self.target.as_deref().map(String::from_utf8_lossy))?;
        write!(f, " rdev {} first {:?}", self.rdev, self.first_name.as_deref().map(String::from_utf8_lossy))?;
        let names = self.xattrs.iter().map(|(name, value)| (String::from_utf8_lossy(name), value));
        write!(f, " xattrs {:?}", names.collect::<Vec<_>>())
    }
}

/// Reads the tree at `root`; its own entry has the empty path.
pub fn read(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut places = vec![(Vec::new(), root.to_path_buf())];
    while let Some((name, place)) = places.pop() {
        let metadata = fs::symlink_metadata(&place).unwrap();
        if metadata.is_dir() {
            for entry in fs::read_dir(&place).unwrap() {
                let entry = entry.unwrap();
                let separator: &[u8] = if name.is_empty() { b"" } else { b"/" };
                places.push(([&name, separator, entry.file_name().as_bytes()].concat(), entry.path()));
            }
        }
        seen.insert(name, look(&place, &metadata));
    }
    name_links(root, &mut seen);
    seen
}

fn look(place: &Path, metadata: &fs::Metadata) -> Seen {
    let is_file = metadata.is_file();
    Seen {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        size: if is_file { metadata.size() } else { 0 },
        content: is_file.then(|| blake3::hash(&fs::read(place).unwrap())),
        target: metadata.is_symlink().then(|| fs::read_link(place).unwrap().into_os_string().into_encoded_bytes()),
        xattrs: xattrs(place),
        first_name: None,
        rdev: metadata.rdev(),
        data: if is_file { data_ranges(place, metadata.size()) } else { Vec::new() },
    }
}

/// Finds names of one file: those that share inode and device.
fn name_links(root: &Path, seen: &mut BTreeMap<Vec<u8>, Seen>) {
    let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    for (name, seen) in seen.iter_mut() {
        let metadata = fs::symlink_metadata(root.join(OsStr::from_bytes(name))).unwrap();
        if !metadata.is_dir() && metadata.nlink() > 1 {
            let first = first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone());
            seen.first_name = Some(first.clone());
        }
    }
}

/// Extended attributes but for the label that some systems give everything.
pub fn xattrs(place: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = sys::llistxattr(place, &mut names[..]) else { return BTreeMap::new() };
    let names = names[..length].split(|&byte| byte == 0);
    let kept = names.filter(|name| !name.is_empty() && *name != b"security.selinux");
    kept.map(|name| {
        let mut value = vec![0; 64 << 10];
        let length = sys::lgetxattr(place, name, &mut value[..]).unwrap();
        value.truncate(length);
        (name.to_vec(), value)
    })
    .collect()
}

fn data_ranges(place: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(place).unwrap();
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = sys::seek(&file, SeekFrom::Data(at)) {
        at = sys::seek(&file, SeekFrom::Hole(start)).unwrap().min(size);
        ranges.push((start, at));
    }
    ranges
}

/// Fails with the first differences between two trees. Where holes lie is not compared.
pub fn assert_same(a: &BTreeMap<Vec<u8>, Seen>, b: &BTreeMap<Vec<u8>, Seen>) {
    let without_data = |seen: &Seen| Seen { data: Vec::new(), ..seen.clone() };
    let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let (left, right) = (a.get(name).map(without_data), b.get(name).map(without_data));
        if left != right {
            differences.push(format!("{:?}\n  left:  {left:?}\n  right: {right:?}", String::from_utf8_lossy(name)));
        }
    }
    let count = differences.len();
    differences.truncate(10);
    assert!(differences.is_empty(), "{count} names differ:\n{}", differences.join("\n"));
}

/// Fails where a file of `b` has data in places where its like in `a` has a hole of a mebibyte or more.
pub fn assert_holes_kept(a: &BTreeMap<Vec<u8>, Seen>, b: &BTreeMap<Vec<u8>, Seen>) {
    let data = |seen: &Seen| seen.data.iter().map(|(start, end)| end - start).sum::<u64>();
    for (name, seen) in a {
        let (before, after) = (data(seen), b.get(name).map_or(0, data));
        let name = String::from_utf8_lossy(name);
        assert!(after < before + (1 << 20), "{name:?}: {before} bytes of data became {after}");
    }
}

// ---- random trees ----

/// A tree yet to be made: what its root holds.
#[derive(Clone, Debug)]
pub struct Tree(pub Vec<Item>);

/// A name in a tree and what it is.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Vec<u8>,
    pub mode: u32,
    pub seconds: i64,
    pub nanoseconds: u32,
    pub xattrs: Vec<(u8, Vec<u8>)>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Directory(Vec<Item>),
    File(Content),
    Symlink(Vec<u8>),
    Fifo,
    /// Another name of one of the files made before.
    HardLink(Index),
}

/// Bytes of a file, by the seed of the stream they are taken from.
#[derive(Clone, Debug)]
pub enum Content {
    Whole {
        seed: u8,
        length: usize,
    },
    /// Data at some places, each of this length, and holes between.
    Sparse {
        seed: u8,
        size: u64,
        data: Vec<(u64, usize)>,
    },
}

/// Random trees of some dozens of entries.
pub fn trees() -> impl Strategy<Value = Tree> {
    let leaf = item(prop_oneof![
        8 => contents().prop_map(What::File),
        2 => link_targets().prop_map(What::Symlink),
        1 => Just(What::Fifo),
        2 => any::<Index>().prop_map(What::HardLink),
    ]);
    let level = leaf.prop_recursive(4, 40, 8, |inner| item(vec(inner, 0..8).prop_map(What::Directory)));
    vec(level, 0..10).prop_map(Tree)
}

/// One random entry that is no directory.
pub fn files() -> impl Strategy<Value = Item> {
    item(contents().prop_map(What::File))
}

fn item(what: impl Strategy<Value = What> + 'static) -> impl Strategy<Value = Item> + Clone + 'static {
    let attributes = prop_oneof![4 => Just(Vec::new()), 1 => vec((0..4u8, vec(any::<u8>(), 0..300)), 1..3)];
    let what = what.boxed();
    let parts = (names(), modes(), -2_000_000_000..4_000_000_000i64, 0..1_000_000_000u32, attributes, what);
    let make =
        |(name, mode, seconds, nanoseconds, xattrs, what)| Item { name, mode, seconds, nanoseconds, xattrs, what };
    parts.prop_map(make).boxed()
}

/// Names: plain, hidden, with every sort of separator's neighbour, of any bytes, and as long as they may be.
pub fn names() -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(any::<u8>().prop_map(|byte| if byte == 0 || byte == b'/' { b'x' } else { byte }), 1..12);
    prop_oneof![
        8 => "[ab]{1,3}".prop_map(String::into_bytes),
        2 => "[a-c.\\-+ ]{1,4}".prop_map(String::into_bytes),
        2 => bytes,
        1 => "\\.[a-z]{1,5}".prop_map(String::into_bytes),
        1 => "[äöüß🦀]{1,6}".prop_map(String::into_bytes),
        1 => any::<u8>().prop_map(|byte| vec![if byte == 0 || byte == b'/' { b'y' } else { byte }; 255]),
    ]
    .prop_filter("no name", |name| name != b"." && name != b"..")
}

fn modes() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0o644), 2 => Just(0o755), 1 => Just(0o4755), 1 => Just(0o1777), 2 => 0..0o10000u32]
}

fn link_targets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"../../../../etc/passwd".to_vec()),
        Just(b"/".to_vec()),
        vec(1..=255u8, 1..40),
        Just(vec![b'l'; 4000])
    ]
}

fn contents() -> impl Strategy<Value = Content> {
    let whole = |lengths: std::ops::Range<usize>| {
        (any::<u8>(), lengths).prop_map(|(seed, length)| Content::Whole { seed, length })
    };
    let places = vec((0..16u64, 1..40_000usize), 0..4);
    let sparse = (any::<u8>(), 0..8_000_000u64, places).prop_map(|(seed, size, places)| {
        let data = places.into_iter().map(|(at, length)| (at * size / 16, length)).collect();
        Content::Sparse { seed, size, data }
    });
    prop_oneof![2 => whole(0..1), 8 => whole(1..3000), 3 => whole(3000..300_000), 1 => whole(300_000..3_000_000), 1 => sparse]
}

/// Bytes of no pattern, the same for the same seed.
pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

// ---- making a tree ----

/// Makes `tree` in the directory `root`, which exists. Names that are taken are passed over.
pub fn make(root: &Path, tree: &Tree) {
    let mut files = Vec::new();
    make_items(root, &tree.0, &mut files);
}

/// Makes `item` in `directory` with its metadata, unless its name is taken.
pub fn make_item(directory: &Path, item: &Item) {
    make_items(directory, std::slice::from_ref(item), &mut Vec::new());
}

fn make_items(directory: &Path, items: &[Item], files: &mut Vec<PathBuf>) {
    for item in items {
        let place = directory.join(OsStr::from_bytes(&item.name));
        if fs::symlink_metadata(&place).is_err() && make_one(&place, item, files) {
            dress(&place, item);
        }
    }
}

/// Whether metadata is to follow.
fn make_one(place: &Path, item: &Item, files: &mut Vec<PathBuf>) -> bool {
    match &item.what {
        What::Directory(items) => {
            fs::create_dir(place).unwrap();
            make_items(place, items, files);
        }
        What::File(content) => {
            write(place, content);
            files.push(place.to_path_buf());
        }
        What::Symlink(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), place).unwrap(),
        What::Fifo => sys::mknodat(CWD, place, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        What::HardLink(_) if files.is_empty() => return false,
        What::HardLink(of) => {
            fs::hard_link(of.get(files), place).unwrap();
            return false;
        }
    }
    true
}

fn write(place: &Path, content: &Content) {
    let file = fs::File::create(place).unwrap();
    match content {
        Content::Whole { seed, length } => file.write_all_at(&noise(*seed, *length), 0).unwrap(),
        Content::Sparse { seed, size, data } => {
            file.set_len(*size).unwrap();
            for &(at, length) in data {
                let length = length.min(usize::try_from(size - at).unwrap());
                file.write_all_at(&noise(*seed, length), at).unwrap();
            }
        }
    }
}

/// Gives attributes, mode and time, as far as the file system and this user can.
fn dress(place: &Path, item: &Item) {
    for (number, value) in &item.xattrs {
        match sys::lsetxattr(place, format!("user.nfz{number}"), value, sys::XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::NOSPC) => {}
            Err(error) => panic!("{}: {error}", place.display()),
        }
    }
    if !matches!(item.what, What::Symlink(_)) {
        // Who is not root must still be able to read the tree and to remove it.
        let more = if rustix::process::geteuid().is_root() { 0 } else { 0o700 };
        fs::set_permissions(place, fs::Permissions::from_mode(item.mode | more)).unwrap();
    }
    touch(place, item.seconds, item.nanoseconds);
}

/// Sets the time of `place`, without following it.
pub fn touch(place: &Path, seconds: i64, nanoseconds: u32) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) },
    };
    sys::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

// ---- random edits ----

/// A change to a tree. What it applies to is chosen when it is applied.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Makes something in a directory.
    Create(Index, Item),
    /// Writes over a part of a file.
    Modify(Index, Index, u8),
    /// Makes a file longer.
    Append(Index, u8),
    /// Makes a file shorter.
    Truncate(Index, Index),
    /// Removes anything, with all below.
    Delete(Index),
    /// Moves a file to another directory and name.
    RenameFile(Index, Index, Vec<u8>),
    /// Gives a directory another name where it is.
    RenameDirectory(Index, Vec<u8>),
    /// Copies a file.
    Copy(Index, Index, Vec<u8>),
    Chmod(Index, u32),
    Touch(Index, i64, u32),
}

/// Some random edits.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<Index>;
    let times = (-2_000_000_000..4_000_000_000i64, 0..1_000_000_000u32);
    let edit = prop_oneof![
        (index(), files()).prop_map(|(to, item)| Edit::Create(to, item)),
        (index(), index(), any::<u8>()).prop_map(|(file, at, seed)| Edit::Modify(file, at, seed)),
        (index(), any::<u8>()).prop_map(|(file, seed)| Edit::Append(file, seed)),
        (index(), index()).prop_map(|(file, at)| Edit::Truncate(file, at)),
        index().prop_map(Edit::Delete),
        (index(), index(), names()).prop_map(|(file, to, name)| Edit::RenameFile(file, to, name)),
        (index(), names()).prop_map(|(directory, name)| Edit::RenameDirectory(directory, name)),
        (index(), index(), names()).prop_map(|(file, to, name)| Edit::Copy(file, to, name)),
        (index(), modes()).prop_map(|(of, mode)| Edit::Chmod(of, mode)),
        (index(), times).prop_map(|(of, (seconds, nanoseconds))| Edit::Touch(of, seconds, nanoseconds)),
    ];
    vec(edit, 0..12)
}

/// Applies `edit` to the tree at `root`. Where there is nothing to apply it to, nothing happens.
pub fn apply(root: &Path, edit: &Edit) {
    let places = places(root);
    let pick = |wanted: fn(&fs::Metadata) -> bool, index: &Index| {
        let fitting: Vec<_> = places.iter().filter(|(_, metadata)| wanted(metadata)).collect();
        (!fitting.is_empty()).then(|| index.get(&fitting).0.clone())
    };
    let file = |index: &Index| pick(fs::Metadata::is_file, index);
    let directory = |index: &Index| pick(fs::Metadata::is_dir, index).unwrap_or_else(|| root.to_path_buf());
    let free = |index: &Index, name: &[u8]| {
        let place = directory(index).join(OsStr::from_bytes(name));
        fs::symlink_metadata(&place).is_err().then_some(place)
    };
    let of_file = |index: &Index, change: &dyn Fn(&Path)| file(index).iter().for_each(|place| change(place));
    let both = |from: Option<PathBuf>, to: Option<PathBuf>, change: &dyn Fn(&Path, &Path)| {
        from.zip(to).iter().for_each(|(from, to)| change(from, to));
    };
    match edit {
        Edit::Create(to, item) => make_item(&directory(to), item),
        Edit::Modify(of, at, seed) => of_file(of, &|place| overwrite(place, at, *seed)),
        Edit::Append(of, seed) => of_file(of, &|place| append(place, *seed)),
        Edit::Truncate(of, at) => of_file(of, &|place| truncate(place, at)),
        Edit::Delete(of) => pick(|_| true, of).iter().for_each(|place| delete(place)),
        Edit::RenameFile(of, to, name) => both(file(of), free(to, name), &|from, to| fs::rename(from, to).unwrap()),
        Edit::RenameDirectory(of, name) => {
            let from = pick(fs::Metadata::is_dir, of);
            let to = from.as_ref().map(|from| from.with_file_name(OsStr::from_bytes(name)));
            let to = to.filter(|to| fs::symlink_metadata(to).is_err());
            both(from, to, &|from, to| fs::rename(from, to).unwrap());
        }
        Edit::Copy(of, to, name) => both(file(of), free(to, name), &|from, to| {
            fs::copy(from, to).unwrap();
        }),
        Edit::Chmod(of, mode) => pick(|metadata| !metadata.is_symlink(), of).iter().for_each(|place| {
            let more = if rustix::process::geteuid().is_root() { 0 } else { 0o700 };
            fs::set_permissions(place, fs::Permissions::from_mode(mode | more)).unwrap();
        }),
        Edit::Touch(of, seconds, nanoseconds) => {
            pick(|_| true, of).iter().for_each(|place| touch(place, *seconds, *nanoseconds));
        }
    }
}

/// All places below `root`, sorted, with what they are.
fn places(root: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut places = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            }
            places.push((entry.path(), metadata));
        }
    }
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places
}

fn overwrite(place: &Path, at: &Index, seed: u8) {
    let file = fs::OpenOptions::new().write(true).open(place).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    if length > 0 {
        let at = at.index(length);
        file.write_all_at(&noise(seed, 2000.min(length - at)), at as u64).unwrap();
    }
}

fn append(place: &Path, seed: u8) {
    let file = fs::OpenOptions::new().write(true).open(place).unwrap();
    file.write_all_at(&noise(seed, 5000), file.metadata().unwrap().len()).unwrap();
}

fn truncate(place: &Path, at: &Index) {
    let file = fs::OpenOptions::new().write(true).open(place).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    if length > 0 {
        file.set_len(at.index(length) as u64).unwrap();
    }
}

fn delete(place: &Path) {
    if fs::symlink_metadata(place).unwrap().is_dir() {
        fs::remove_dir_all(place).unwrap();
    } else {
        fs::remove_file(place).unwrap();
    }
}
