//! What is read from a live tree is all of it, and what is written stays inside the target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "support/tree.rs"]
mod tree;

use nfz::{
    engine::{
        filter::{Filter, FilterOptions},
        owners::OwnerNames,
        problem::Problem,
        source::{Found, FoundError, Source, SourceFile},
        stat::Kind,
        target::{OwnershipPolicy, Target, TargetErrorKind},
    },
    format::{
        manifest::{Entry, Extent, Metadata, Node, Time},
        path::TreePath,
    },
};
use proptest::prelude::*;
use rustix::fs::{self as sys, Mode, OFlags};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        },
    },
    path::Path,
};

const POLICY: OwnershipPolicy = OwnershipPolicy { restore_owner: true, numeric: true };

fn path(bytes: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(bytes.as_ref()).unwrap()
}

fn walk_with(source: &Source, filter: Filter) -> (Vec<Found>, Vec<Problem>) {
    let mut problems = Vec::new();
    let found = source.walk(filter, |problem| problems.push(problem)).collect();
    (found, problems)
}

/// The walk of a tree in which nothing goes wrong.
fn walk(root: &Path) -> Vec<Found> {
    let (found, problems) = walk_with(&Source::open(root).unwrap(), Filter::default());
    assert_eq!(problems, []);
    found
}

fn shown(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| found.path.to_string()).collect()
}

fn metadata(mode: u32) -> Metadata {
    let stat = fs::metadata("/proc/self").unwrap();
    let owner = OwnerNames::default().owner(stat.uid(), stat.gid());
    Metadata { mode, owner, mtime: Time { seconds: -5, nanoseconds: 7 }, ..Metadata::default() }
}

/// Copies a tree with nothing but the program's reader and writer.
fn copy(from: &Path, to: &Path) {
    let target = Target::open(to, true).unwrap();
    let mut names = OwnerNames::load();
    let mut directories = Vec::new();
    let mut first_names: HashMap<u64, TreePath> = HashMap::new();
    for found in walk(from) {
        let (metadata, problem) = found.metadata(&mut names);
        assert_eq!(problem, None);
        if let Some(first) = first_names.get(&found.link_group) {
            target.hard_link(first, &found.path, false).unwrap();
            continue;
        }
        if found.link_group != 0 {
            first_names.insert(found.link_group, found.path.clone());
        }
        let outcome = match found.stat.kind {
            Kind::Directory => {
                assert_eq!(target.create_dir(&found.path).unwrap(), !found.path.is_root());
                directories.push((found.path, metadata));
                continue;
            }
            Kind::File => copy_file(&found, &target, &mut names),
            Kind::Symlink => {
                let node = Node::Symlink { target: found.read_link().unwrap() };
                target.make_special(&Entry { path: found.path, metadata, node }, &POLICY, false).unwrap()
            }
            _ => {
                let node = found.stat.node().unwrap();
                target.make_special(&Entry { path: found.path, metadata, node }, &POLICY, false).unwrap()
            }
        };
        assert_eq!(outcome, Default::default());
    }
    for (path, metadata) in directories.into_iter().rev() {
        assert_eq!(target.set_metadata(&path, &metadata, &POLICY).unwrap(), Default::default());
    }
}

fn copy_file(found: &Found, target: &Target, names: &mut OwnerNames) -> nfz::engine::target::Outcome {
    let file = SourceFile::open(found).unwrap();
    let (metadata, problem) = file.metadata(names);
    assert_eq!(problem, None);
    let copy = target.begin_file(&found.path, file.size(), !file.may_have_holes()).unwrap();
    let mut at = 0;
    let mut buffer = vec![0; 100_000];
    for extent in file.extents() {
        let end = at + extent.data;
        while at < end {
            let wanted = buffer.len().min(usize::try_from(end - at).unwrap());
            assert_eq!(file.read_at(&mut buffer[..wanted], at).unwrap(), wanted);
            copy.write_at(at, &buffer[..wanted]).unwrap();
            at += wanted as u64;
        }
        at += extent.hole;
    }
    assert_eq!(at, file.size());
    assert!(!file.changed().unwrap());
    copy.finish(target, &metadata, &POLICY, false).unwrap()
}

/// Whether extents are written the one right way: `spec/5-manifest.md`.
fn are_canonical(extents: &[Extent]) -> bool {
    let last = extents.len().saturating_sub(1);
    extents
        .iter()
        .enumerate()
        .all(|(at, e)| (e.data > 0 || at == 0) && (e.hole > 0 || at == last) && (e.data > 0 || e.hole > 0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_finds_every_name_once_and_in_path_order(tree in tree::trees()) {
        let root = tempfile::tempdir().unwrap();
        tree::make(root.path(), &tree);
        let found: Vec<TreePath> = walk(root.path()).into_iter().map(|found| found.path).collect();
        let mut expected: Vec<TreePath> = tree::read(root.path()).into_keys().map(path).collect();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_walk_tells_what_the_file_system_tells(tree in tree::trees()) {
        let root = tempfile::tempdir().unwrap();
        tree::make(root.path(), &tree);
        let seen = tree::read(root.path());
        let mut groups = HashMap::new();
        let mut names = OwnerNames::load();
        for found in walk(root.path()) {
            let (metadata, problem) = found.metadata(&mut names);
            prop_assert_eq!(problem, None);
            let naive = &seen[found.path.as_bytes()];
            let mtime = i128::from(metadata.mtime.seconds) * 1_000_000_000 + i128::from(metadata.mtime.nanoseconds);
            prop_assert_eq!((metadata.mode, mtime), (naive.mode & 0o7777, naive.mtime));
            prop_assert_eq!((metadata.owner.uid, metadata.owner.gid), (naive.uid, naive.gid));
            let xattrs = metadata.xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone()));
            let xattrs = xattrs.filter(|(name, _)| name != b"security.selinux");
            prop_assert_eq!(xattrs.collect::<std::collections::BTreeMap<_, _>>(), naive.xattrs.clone());
            prop_assert!(metadata.xattrs.is_sorted_by(|a, b| a.name < b.name));
            prop_assert_eq!(found.link_group != 0, naive.first_name.is_some());
            if let Some(first) = &naive.first_name {
                prop_assert_eq!(groups.entry(found.link_group).or_insert(first), &first);
            }
        }
    }

    #[test]
    fn a_tree_copied_through_reader_and_writer_is_the_same(tree in tree::trees(), edits in tree::edits()) {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        tree::make(&from, &tree);
        edits.iter().for_each(|edit| tree::apply(&from, edit));
        copy(&from, &to);
        let (before, after) = (tree::read(&from), tree::read(&to));
        tree::assert_same(&before, &after);
        tree::assert_holes_kept(&before, &after);
    }

    #[test]
    fn extents_are_canonical_and_what_they_leave_out_is_zero(
        size in 0..3_000_000u64,
        data in prop::collection::vec((0..3_000_000u64, 1..70_000usize), 0..12),
    ) {
        let root = tempfile::tempdir().unwrap();
        let content = tree::Content::Sparse {
            seed: 1,
            size,
            data: data.into_iter().filter(|&(at, _)| at < size).collect(),
        };
        let item = tree::Item {
            name: b"f".to_vec(),
            mode: 0o644,
            seconds: 0,
            nanoseconds: 0,
            xattrs: vec![],
            what: tree::What::File(content),
        };
        tree::make(root.path(), &tree::Tree(vec![item]));
        let file = SourceFile::open(&walk(root.path())[1]).unwrap();
        let extents: Vec<Extent> = file.extents().collect();
        prop_assert!(are_canonical(&extents), "{:?}", extents);
        prop_assert_eq!(extents.iter().map(|extent| extent.data + extent.hole).sum::<u64>(), size);
        let mut bytes = fs::read(root.path().join("f")).unwrap();
        let mut at = 0;
        for extent in extents {
            let end = usize::try_from(extent.data).unwrap() + at;
            bytes[at..end].fill(0);
            at = end + usize::try_from(extent.hole).unwrap();
        }
        prop_assert!(bytes.iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_hole_is_found_where_the_file_system_has_holes() {
    let root = tempfile::tempdir().unwrap();
    let raw = fs::File::create(root.path().join("sparse")).unwrap();
    raw.set_len(64 << 20).unwrap();
    raw.write_all_at(b"middle", 32 << 20).unwrap();
    raw.sync_all().unwrap();
    fs::write(root.path().join("dense"), vec![1; 100_000]).unwrap();
    fs::write(root.path().join("empty"), b"").unwrap();
    let found = walk(root.path());
    let open = |name: &str| {
        SourceFile::open(found.iter().find(|found| found.path.as_bytes() == name.as_bytes()).unwrap()).unwrap()
    };
    let dense: Vec<_> = open("dense").extents().collect();
    assert_eq!(dense, [Extent { data: 100_000, hole: 0 }]);
    assert_eq!(open("empty").extents().count(), 0);
    let sparse = open("sparse");
    let extents: Vec<_> = sparse.extents().collect();
    let is_sparse = raw.metadata().unwrap().blocks() * 512 < 64 << 20;
    assert_eq!(extents.iter().map(|extent| extent.hole).sum::<u64>() > 60 << 20, is_sparse, "{extents:?}");
}

#[test]
fn a_file_that_changes_while_it_is_open_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("f");
    fs::write(&place, b"before").unwrap();
    let found = walk(root.path());
    fs::write(&place, b"longer than before").unwrap();
    let file = SourceFile::open(&found[1]).unwrap();
    assert_eq!(file.size(), 18);
    assert!(!file.changed().unwrap());
    fs::write(&place, b"again").unwrap();
    assert!(file.changed().unwrap());
}

#[test]
fn what_is_no_file_any_more_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    for name in ["fifo", "gone", "link"] {
        fs::write(root.path().join(name), b"").unwrap();
    }
    let found = walk(root.path());
    for name in ["fifo", "gone", "link"] {
        fs::remove_file(root.path().join(name)).unwrap();
    }
    sys::mknodat(sys::CWD, root.path().join("fifo"), sys::FileType::Fifo, Mode::RUSR, 0).unwrap();
    symlink("/etc/passwd", root.path().join("link")).unwrap();
    let errors: Vec<_> = found[1..].iter().map(|found| SourceFile::open(found).unwrap_err()).collect();
    assert!(matches!(errors[0], FoundError::ChangedKind(_)), "{:?}", errors[0]);
    assert!(matches!(errors[1], FoundError::Vanished(_)), "{:?}", errors[1]);
    assert!(matches!(errors[2], FoundError::ChangedKind(_)), "{:?}", errors[2]);
}

#[test]
fn a_directory_that_vanishes_during_the_walk_is_a_problem_and_the_walk_goes_on() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b/below", "c"] {
        fs::create_dir_all(root.path().join(name)).unwrap();
    }
    let source = Source::open(root.path()).unwrap();
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for next in source.walk(Filter::default(), |problem| problems.push(problem)) {
        if next.path == path("b") {
            fs::remove_dir_all(root.path().join("b")).unwrap();
            symlink("/etc", root.path().join("b")).unwrap();
        }
        found.push(next);
    }
    assert_eq!(shown(&found), [".", "a", "b", "c"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("b: cannot read the directory: "), "{}", problems[0]);
}

#[test]
fn a_directory_that_may_not_be_read_is_a_problem_unless_rights_do_not_bind() {
    let root = tempfile::tempdir().unwrap();
    let locked = root.path().join("locked");
    fs::create_dir_all(locked.join("x")).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o0)).unwrap();
    let (found, problems) = walk_with(&Source::open(root.path()).unwrap(), Filter::default());
    let can_read = fs::read_dir(&locked).is_ok();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((found.len(), problems.len()), if can_read { (3, 0) } else { (2, 1) });
}

#[test]
fn a_filter_leaves_out_what_it_says_and_a_tagged_directory_keeps_its_tags() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, content: &[u8]| {
        let place = root.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    };
    make("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# more");
    make("cache/deep/x", b"");
    make("fake/CACHEDIR.TAG", b"Signature: none");
    make("fake/x", b"");
    make("tagged/.nobackup", b"");
    make("tagged/x", b"");
    make("out/x", b"");
    make("large", &[0; 101]);
    make("small", &[0; 100]);
    let options = FilterOptions {
        exclude: vec!["/out".to_owned()],
        exclude_if_present: vec![".nobackup".into()],
        exclude_caches: true,
        exclude_larger_than: Some(100),
        one_file_system: true,
        ..FilterOptions::default()
    };
    let source = Source::open(root.path()).unwrap();
    let (found, problems) = walk_with(&source, Filter::new(&options).unwrap());
    assert_eq!(problems, []);
    let expected = [
        ".",
        "cache",
        "cache/CACHEDIR.TAG",
        "fake",
        "fake/CACHEDIR.TAG",
        "fake/x",
        "small",
        "tagged",
        "tagged/.nobackup",
    ];
    assert_eq!(shown(&found), expected.map(str::to_owned));
}

#[test]
fn another_file_system_is_entered_only_where_it_may_be() {
    // `/dev/pts` is mounted on any Linux, and has at least `ptmx` in it.
    let source = Source::open(Path::new("/dev")).unwrap();
    let in_pts = |one_file_system| {
        let options = FilterOptions { one_file_system, exclude: vec!["/shm".to_owned()], ..FilterOptions::default() };
        let (found, _) = walk_with(&source, Filter::new(&options).unwrap());
        found.iter().filter(|found| found.path.starts_with(&path("pts"))).count()
    };
    assert_eq!(in_pts(true), 1);
    assert!(in_pts(false) > 1);
}

/// A directory 2,000 levels deep, each of four bytes: the path of the last is longer than any system call takes.
fn make_deep(root: &Path, depth: usize) {
    let mut at: OwnedFd = fs::File::open(root).unwrap().into();
    for _ in 0..depth {
        sys::mkdirat(&at, "deep", Mode::RWXU).unwrap();
        at = sys::openat(&at, "deep", OFlags::DIRECTORY, Mode::empty()).unwrap();
        drop(sys::openat(&at, "z", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
    }
}

#[test]
fn a_tree_of_two_thousand_levels_is_walked_copied_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    make_deep(&from, 2000);
    let found = walk(&from);
    assert_eq!(found.len(), 4001);
    assert!(found.iter().any(|found| found.path.as_bytes().len() > 4096));
    assert!(found.is_sorted_by(|a, b| a.path < b.path));
    // All are held, the directories of few are open, and each can still be read.
    for found in found.iter().filter(|found| found.stat.kind == Kind::File).step_by(97) {
        assert_eq!(SourceFile::open(found).unwrap().size(), 0);
    }
    drop(found);
    copy(&from, &to);
    assert_eq!(shown(&walk(&from)), shown(&walk(&to)));
    let both = Target::open(root.path(), false).unwrap();
    for name in ["from/deep", "to/deep"] {
        both.remove(&path(name)).unwrap();
    }
    assert_eq!(both.list(&path("from")).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn names_of_255_bytes_are_read_and_written() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let name = [0xff; 255];
    fs::create_dir_all(from.join(OsStr::from_bytes(&name))).unwrap();
    fs::write(from.join(OsStr::from_bytes(&name)).join(OsStr::from_bytes(&name)), b"x").unwrap();
    copy(&from, &to);
    tree::assert_same(&tree::read(&from), &tree::read(&to));
}

// ---- nothing outside the target ----

/// A target beside a directory that nothing may touch.
struct Trap {
    root: tempfile::TempDir,
    before: std::collections::BTreeMap<Vec<u8>, tree::Seen>,
}

impl Trap {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("outside/kept")).unwrap();
        fs::write(root.path().join("outside/file"), b"untouched").unwrap();
        fs::create_dir(root.path().join("target")).unwrap();
        let before = tree::read(&root.path().join("outside"));
        Self { root, before }
    }

    fn target(&self) -> Target {
        Target::open(&self.root.path().join("target"), false).unwrap()
    }

    fn inside(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("target").join(name)
    }

    fn assert_outside_is_untouched(&self) {
        tree::assert_same(&self.before, &tree::read(&self.root.path().join("outside")));
    }
}

/// Tries everything a restore may do at `name` and below it. Whether it works does not matter here.
fn try_everything(target: &Target, name: &str) {
    let metadata = metadata(0o640);
    for name in [name.to_owned(), format!("{name}/file"), format!("{name}/kept"), format!("{name}/new")] {
        let at = path(&name);
        for replace in [false, true] {
            if let Ok(file) = target.begin_file(&at, 4, false) {
                file.write_at(0, b"evil").unwrap();
                let _ = file.finish(target, &metadata, &POLICY, replace);
            }
            let nodes = [Node::Fifo, Node::Symlink { target: b"x".to_vec() }];
            for node in nodes {
                let entry = Entry { path: at.clone(), metadata: metadata.clone(), node };
                let _ = target.make_special(&entry, &POLICY, replace);
            }
            let _ = target.hard_link(&at, &path("linked"), replace);
        }
        let _ = target.create_dir_all(&at.join(b"dir").unwrap());
        let _ = target.set_metadata(&at, &metadata, &POLICY);
        let _ = target.remove_leftovers(&at);
        let _ = target.list(&at);
        let _ = target.existing(&at);
        let _ = target.remove(&at);
    }
}

#[test]
fn a_link_planted_in_the_target_leads_nowhere() {
    for planted in ["link", "dir/link"] {
        let trap = Trap::new();
        fs::create_dir(trap.inside("dir")).unwrap();
        symlink(trap.root.path().join("outside"), trap.inside(planted)).unwrap();
        let below = path(format!("{planted}/new"));
        let target = trap.target();
        assert_eq!(target.begin_file(&below, 0, false).unwrap_err().kind, TargetErrorKind::InTheWay);
        assert_eq!(target.create_dir(&path(planted)).unwrap_err().kind, TargetErrorKind::InTheWay);
        assert_eq!(target.list(&path(planted)).unwrap_err().kind, TargetErrorKind::InTheWay);
        assert_eq!(target.existing(&path(format!("{planted}/file"))).unwrap_err().kind, TargetErrorKind::InTheWay);
        try_everything(&target, planted);
        trap.assert_outside_is_untouched();
    }
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    for is_held_open in [true, false] {
        let trap = Trap::new();
        let target = trap.target();
        target.create_dir_all(&path("a/b")).unwrap();
        let begun = target.begin_file(&path("a/b/begun"), 4, false).unwrap();
        fs::rename(trap.inside("a/b"), trap.inside("a/moved")).unwrap();
        symlink(trap.root.path().join("outside"), trap.inside("a/b")).unwrap();
        begun.write_at(0, b"data").unwrap();
        let _ = begun.finish(&target, &metadata(0o600), &POLICY, true);
        let target = if is_held_open { target } else { trap.target() };
        try_everything(&target, "a/b");
        trap.assert_outside_is_untouched();
    }
}

#[test]
fn a_link_is_removed_and_not_what_it_points_to() {
    let trap = Trap::new();
    fs::create_dir_all(trap.inside("gone/deep")).unwrap();
    symlink(trap.root.path().join("outside"), trap.inside("gone/deep/link")).unwrap();
    symlink(trap.root.path().join("outside/file"), trap.inside("gone/file")).unwrap();
    let target = trap.target();
    target.remove(&path("gone")).unwrap();
    target.remove(&path("gone")).unwrap();
    assert_eq!(target.existing(&path("gone")).unwrap(), None);
    assert!(target.remove(&TreePath::root()).is_err());
    trap.assert_outside_is_untouched();
}

#[test]
fn metadata_of_a_link_is_its_own_and_not_that_of_what_it_points_to() {
    let trap = Trap::new();
    symlink(trap.root.path().join("outside/file"), trap.inside("link")).unwrap();
    let outcome = trap.target().set_metadata(&path("link"), &metadata(0o777), &POLICY).unwrap();
    assert_eq!(outcome, Default::default());
    assert_eq!(fs::symlink_metadata(trap.inside("link")).unwrap().mtime(), -5);
    trap.assert_outside_is_untouched();
}

#[test]
fn nothing_that_exists_is_destroyed_without_replace() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    fs::write(root.path().join("file"), b"old").unwrap();
    symlink("old", root.path().join("link")).unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::write(root.path().join("dir/in"), b"old").unwrap();
    let before = tree::read(root.path());
    for name in ["file", "link", "dir"] {
        let file = target.begin_file(&path(name), 3, false).unwrap();
        file.write_at(0, b"new").unwrap();
        let error = file.finish(&target, &metadata(0o644), &POLICY, false).unwrap_err();
        assert_eq!(error.kind, TargetErrorKind::Exists);
        assert!(error.to_string().contains(name));
        let entry = Entry { path: path(name), metadata: metadata(0o644), node: Node::Fifo };
        assert_eq!(target.make_special(&entry, &POLICY, false).unwrap_err().kind, TargetErrorKind::Exists);
        assert_eq!(target.hard_link(&path("dir/in"), &path(name), false).unwrap_err().kind, TargetErrorKind::Exists);
    }
    let file = target.begin_file(&path("dir"), 0, false).unwrap();
    assert_eq!(file.finish(&target, &metadata(0o644), &POLICY, true).unwrap_err().kind, TargetErrorKind::InTheWay);
    let mut after = tree::read(root.path());
    // Names came and went in it.
    after.insert(vec![], before[&vec![]].clone());
    tree::assert_same(&before, &after);
}

#[test]
fn with_replace_the_new_file_takes_the_place_of_the_old_at_once() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    fs::write(root.path().join("outside"), b"old").unwrap();
    symlink("outside", root.path().join("name")).unwrap();
    let file = target.begin_file(&path("name"), 3, false).unwrap();
    file.write_at(0, b"new").unwrap();
    file.finish(&target, &metadata(0o4751), &POLICY, true).unwrap();
    let seen = target.existing(&path("name")).unwrap().unwrap();
    assert_eq!((seen.stat.kind, seen.stat.mode, seen.stat.size), (Kind::File, 0o4751, 3));
    assert_eq!(seen.stat.mtime, Time { seconds: -5, nanoseconds: 7 });
    assert_eq!(fs::read(root.path().join("outside")).unwrap(), b"old");
    target.hard_link(&path("name"), &path("outside"), true).unwrap();
    target.hard_link(&path("name"), &path("outside"), true).unwrap();
    assert_eq!(target.list(&TreePath::root()).unwrap(), [&b"name"[..], b"outside"]);
}

#[test]
fn a_file_that_is_not_finished_leaves_nothing_and_leftovers_of_a_crash_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    let file = target.begin_file(&path("f"), 10, true).unwrap();
    let names = target.list(&TreePath::root()).unwrap();
    assert!(names.len() == 1 && nfz::engine::target::is_leftover(&names[0]));
    std::mem::forget(file);
    let dropped = target.begin_file(&path("g"), 10, false).unwrap();
    drop(dropped);
    fs::write(root.path().join("kept.part"), b"").unwrap();
    assert_eq!(target.remove_leftovers(&TreePath::root()).unwrap(), 1);
    assert_eq!(target.list(&TreePath::root()).unwrap(), [b"kept.part"]);
}

#[test]
fn a_full_target_is_told_from_other_faults_and_nothing_is_left_of_the_file() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    let room = sys::statvfs(root.path()).unwrap();
    let size = room.f_blocks * room.f_frsize + 1;
    let error = target.begin_file(&path("big"), size, true).unwrap_err();
    assert_eq!((error.kind, error.path.clone()), (TargetErrorKind::Full, path("big")), "{error}");
    let error = target.begin_file(&path("absurd"), u64::MAX, false).unwrap_err();
    assert_eq!(error.path, path("absurd"));
    let file = target.begin_file(&path("small"), 3, false).unwrap();
    for (offset, bytes) in [(0, &b"four"[..]), (3, b"x"), (u64::MAX, b"xx")] {
        assert!(file.write_at(offset, bytes).is_err());
    }
    drop(file);
    assert_eq!(target.list(&TreePath::root()).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_file_is_closed_to_others_until_it_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let to = root.path().join("made/target");
    let target = Target::open(&to, true).unwrap();
    target.create_dir(&path("dir")).unwrap();
    let _file = target.begin_file(&path("dir/f"), 1, false).unwrap();
    let modes: Vec<u32> = tree::read(&to).values().map(|seen| seen.mode & 0o777).collect();
    assert_eq!(modes, [0o700, 0o700, 0o600]);
}

#[test]
fn setuid_is_left_off_where_the_owner_is_not_restored() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    let owner = OwnerNames::default().owner(12_345, 12_345);
    let metadata = Metadata { owner, ..metadata(0o6755) };
    for (restore_owner, mode) in [(false, 0o755), (true, 0o6755)] {
        let policy = OwnershipPolicy { restore_owner, numeric: true };
        let file = target.begin_file(&path("f"), 0, false).unwrap();
        let outcome = file.finish(&target, &metadata, &policy, true).unwrap();
        let stat = target.existing(&path("f")).unwrap().unwrap().stat;
        let may = !restore_owner || stat.uid == 12_345;
        assert_eq!(outcome.owner_skipped, !may);
        assert_eq!(stat.mode, if may { mode } else { 0o755 });
    }
}

#[test]
fn attributes_that_were_there_before_give_way_to_those_recorded() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    target.create_dir(&path("d")).unwrap();
    let place = root.path().join("d");
    let set = |name: &str| sys::setxattr(&place, name, b"1", sys::XattrFlags::empty());
    let has_xattrs = set("user.old").is_ok();
    let xattrs = vec![nfz::format::manifest::Xattr { name: b"user.new".to_vec(), value: b"2".to_vec() }];
    let outcome = target.set_metadata(&path("d"), &Metadata { xattrs, ..metadata(0o555) }, &POLICY).unwrap();
    assert_eq!(outcome.problems.is_empty(), has_xattrs);
    let names: Vec<_> = tree::xattrs(&place).into_keys().collect();
    assert_eq!(names, if has_xattrs { vec![b"user.new".to_vec()] } else { vec![] });
}

/// An access list as the kernel keeps it, that gives user 12,345 `rights` beside the owner.
fn access_list(rights: u16) -> Vec<u8> {
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let all = [(0x01, 6, !0), (0x02, rights, 12_345), (0x04, 4, !0), (0x10, 7, !0), (0x20, 0, !0)];
    let entries = all.map(|(tag, rights, id)| entry(tag, rights, id)).concat();
    [&2u32.to_le_bytes()[..], &entries].concat()
}

#[test]
fn access_lists_are_kept_and_none_is_inherited_from_the_target() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    for name in ["listed", "plain"] {
        fs::write(from.join(name), b"x").unwrap();
        fs::create_dir(from.join(format!("{name}.d"))).unwrap();
    }
    let set = |place: &Path, kind: &str| {
        let name = format!("system.posix_acl_{kind}");
        sys::setxattr(place, name, &access_list(5), sys::XattrFlags::empty())
    };
    let has_lists = set(&from.join("listed"), "access").is_ok();
    for (place, kind) in
        [(from.join("listed.d"), "access"), (from.join("listed.d"), "default"), (to.clone(), "default")]
    {
        assert_eq!(set(&place, kind).is_ok(), has_lists);
    }
    let before = tree::read(&from);
    assert_eq!(before.values().map(|seen| seen.xattrs.len()).sum::<usize>(), if has_lists { 3 } else { 0 });
    copy(&from, &to);
    tree::assert_same(&before, &tree::read(&to));
}

#[test]
fn a_device_is_made_where_this_user_may_and_refused_by_name_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let target = Target::open(root.path(), false).unwrap();
    let node = Node::CharacterDevice { major: 1, minor: 3 };
    let entry = Entry { path: path("null"), metadata: metadata(0o666), node: node.clone() };
    match target.make_special(&entry, &POLICY, false) {
        Ok(_) => assert_eq!(target.existing(&entry.path).unwrap().unwrap().stat.node(), Some(node)),
        Err(error) => assert_eq!((error.kind, error.path), (TargetErrorKind::Denied, entry.path)),
    }
    let file = Entry { path: path("f"), metadata: metadata(0o666), node: Node::Directory };
    assert!(target.make_special(&file, &POLICY, false).is_err());
}
