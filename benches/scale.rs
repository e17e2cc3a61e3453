//! What the tables of `docs/scale.md` do not compute but measure: memory and time of millions of names, of a large manifest, of ten thousand
//! roots, of a sync of a million files. Each part runs in a process of its own, so that its peak is its own.
//!
//! `cargo bench --bench scale` runs all parts, `cargo bench --bench scale -- names roots` some. `NFZ_SCALE_FILES` (1,000,000) and
//! `NFZ_SCALE_NAMES` (10,000,000) say how large; some 10 KB of temporary space for each file (`TMPDIR`) are needed.

// Nothing here runs for users: what fails ends the benchmark.
#![allow(clippy::expect_used, clippy::panic, reason = "what fails ends the benchmark")]

#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use bytes::Bytes;
use nfz::{
    engine::{
        event::{Problems, Silent},
        filter::FilterOptions,
        history,
        presence::Presence,
        sync::{Compression, SyncOptions, sync},
    },
    format::{
        chunker::SegmentCutter,
        config::Config,
        id::{ConfigId, Id, ObjectId, SegmentId},
        limits::PLAIN_MAX,
        manifest::{Segment, Time},
        name::{Dir, Name},
        seal::{Compression as Level, Sealer, padme},
        segment_writer::SegmentWriter,
        snapshot::{SegmentRow, SnapshotRoot},
    },
    repository::{Credentials, InitOptions, Repository},
    store::{Store, dir::DirStore, memory::MemoryStore},
};
use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

const PARTS: [&str; 5] = ["names", "manifest", "roots", "clients", "sync"];

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.first().map(String::as_str) {
        Some("in-process") => runtime().block_on(part(&words[1..])),
        _ => PARTS.iter().filter(|part| words.is_empty() || words.iter().any(|word| word == *part)).for_each(|part| {
            println!("## {part}");
            in_process(&[part]);
        }),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// Runs a part in a process of its own.
fn in_process(words: &[&str]) {
    let program = env::current_exe().expect("this program");
    let status = Command::new(program).arg("in-process").args(words).status().expect("a process");
    assert!(status.success(), "{words:?} failed");
}

async fn part(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["names"] => names(number("NFZ_SCALE_NAMES", 10_000_000)).await,
        ["manifest"] => manifest(number("NFZ_SCALE_FILES", 1_000_000)),
        ["roots"] => roots(),
        ["clients"] => clients(10_000).await,
        ["sync"] => syncs(number("NFZ_SCALE_FILES", 1_000_000)),
        ["make-tree", tree, files] => make_tree(Path::new(tree), files.parse().expect("a number")),
        ["one-sync", what, tree, store, files] => {
            one_sync(what, Path::new(tree), Path::new(store), files.parse().expect("a number")).await;
        }
        _ => panic!("no such part: {words:?}"),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Resident memory of this process now (`VmRSS`) or at its highest (`VmHWM`), in bytes.
fn memory(what: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(what)).expect("a line of it");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).expect("a number") * 1024.0
}

/// Runs `work`; says how long it took and how much more memory is taken after it.
async fn told<T>(what: &str, per: u64, work: impl Future<Output = T>) -> T {
    let (before, began) = (memory("VmRSS"), Instant::now());
    let made = work.await;
    let (seconds, more) = (began.elapsed().as_secs_f64(), memory("VmRSS") - before);
    println!("{what}: {seconds:.2} s, {:.1} MB more memory, {:.1} bytes each", more / 1e6, more / per as f64);
    made
}

fn noise(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// Chunk names in a store, listed, and asked for.
async fn names(count: u64) {
    let store = Arc::new(MemoryStore::new());
    let dirs: Vec<Dir> = Dir::all().collect();
    store.create_dirs(&dirs).await.expect("memory");
    let zeros = Bytes::from(vec![0; 1 << 20]);
    told("names in the store", count, async {
        for number in 0..count {
            let length = padme(64 + 300_000 + number * 7919 % 600_000) as usize;
            store.replace(Name::Chunk(ObjectId(noise(number))), zeros.slice(..length));
        }
    })
    .await;
    let presence = Presence::new(Arc::clone(&store) as _, 0);
    told("all shards listed", count, async { presence.list_all().await.expect("memory") }).await;
    println!("peak {:.0} MB", memory("VmHWM") / 1e6);
    let asked = count.min(1_000_000);
    told("asked for what is there and what is not", asked, async {
        for number in 0..asked {
            let there = presence.ask(ObjectId(noise(number)), 4 << 20).await.expect("memory");
            assert!(there.is_some());
            assert!(presence.ask(ObjectId(noise(count + number)), 4 << 20).await.expect("memory").is_none());
        }
    })
    .await;
}

/// A whole manifest, written, sealed, opened again.
fn manifest(files: u64) {
    let config = Config::new(Time::default());
    for (name, shape) in [("mixed", synthetic::MIXED), ("small files", synthetic::SMALL)] {
        let began = Instant::now();
        let measured = synthetic::measure(shape, files, &config);
        let entries = measured.entries as f64;
        println!(
            "{name}: {} entries in {} segments, {:.1} bytes of path each; {:.1} bytes each before compression, {:.1} sealed; root {} bytes, sealed {}; {} chunks; {:.1} s, peak {:.0} MB",
            measured.entries,
            measured.segments.len(),
            measured.path_bytes as f64 / entries,
            measured.raw as f64 / entries,
            measured.sealed as f64 / entries,
            measured.root.0,
            measured.root.1,
            measured.chunks,
            began.elapsed().as_secs_f64(),
            memory("VmHWM") / 1e6
        );
    }
    one_segment(&config);
}

/// The time that one segment takes to be decoded.
fn one_segment(config: &Config) {
    let cutter = SegmentCutter::new(synthetic::keys().cut(), config.segments);
    let mut writer = SegmentWriter::default();
    synthetic::Maker::new(synthetic::SMALL, 1000, config).run(|(entry, rows)| {
        writer.push(entry, &rows, &cutter);
    });
    let bytes = writer.take().encode().expect("a segment");
    let began = Instant::now();
    let decoded: Vec<Segment> = (0..100).map(|_| Segment::decode(&bytes).expect("it was just encoded")).collect();
    let each = began.elapsed().as_secs_f64() / 100.0;
    println!("a segment of {} entries is decoded and checked in {:.2} ms", decoded[0].entries.len(), each * 1e3);
}

fn row(number: u64) -> SegmentRow {
    let path = match number {
        0 => String::new(),
        _ => format!("{number:010}-abcdef/1-abcdef/2-abcdef/3-abcdef/4-abcdef/05-abcdef.txt"),
    };
    let first_path = nfz::format::path::TreePath::new(path.into_bytes()).expect("a path");
    SegmentRow { id: SegmentId::new(ObjectId(noise(number))), stored: 60_000, entries: 982, first_path }
}

/// The largest root that can be written.
fn roots() {
    let fits = |count: u64| synthetic::root((0..count).map(row).collect(), b"host").encode().is_ok();
    let (mut low, mut high) = (1, 1 << 20);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    let root = synthetic::root((0..low).map(row).collect(), b"host");
    let began = Instant::now();
    let bytes = root.encode().expect("it fits");
    let encoded = began.elapsed().as_secs_f64();
    let keys = synthetic::keys();
    let id: nfz::format::id::SnapshotId = keys.id(&bytes);
    let sealed = Sealer::new(Level::DEFAULT).seal(&keys, id, &bytes).expect("it fits");
    let began = Instant::now();
    let read = SnapshotRoot::decode(&bytes).expect("it was just encoded");
    println!(
        "the most segments of one root: {low}; {} of {PLAIN_MAX} bytes, sealed {}; encoded in {encoded:.2} s, decoded in {:.2} s; peak {:.0} MB",
        bytes.len(),
        sealed.len(),
        began.elapsed().as_secs_f64(),
        memory("VmHWM") / 1e6
    );
    assert_eq!(read.segments.len() as u64, low);
}

fn credentials() -> Credentials {
    Credentials { password: Some(Zeroizing::new(b"password".to_vec())), key_file: None }
}

async fn init(store: Arc<dyn Store>) -> Repository {
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    Repository::init(store, &credentials(), &cost).await.expect("an empty store")
}

/// What a sync of one of so many clients looks at before it begins.
async fn clients(count: u64) {
    let store = Arc::new(MemoryStore::new());
    let repository = init(Arc::clone(&store) as _).await;
    let segments: Vec<SegmentRow> = (0..100).map(row).collect();
    for client in 0..count {
        let root = synthetic::root(segments.clone(), format!("client-{client}").as_bytes());
        repository.commit(&root).await.expect("memory");
    }
    store.advance_clock(10);
    repository.commit(&synthetic::root(segments, b"newest")).await.expect("memory");
    println!("{count} clients with one snapshot of 100 segments each");
    for (what, host) in
        [("its snapshot is the newest", "newest"), ("it is not", "client-77"), ("it has none", "another")]
    {
        let before = store.traffic();
        let opened = Repository::open(Arc::clone(&store) as _, &credentials()).await.expect("it was just made");
        let base = async { history::base(&opened, host.as_bytes(), b"/home", &Problems::default(), &Silent).await };
        let base = told(what, count, base).await.expect("memory");
        let after = store.traffic();
        let (calls, bytes) = (after.calls - before.calls, after.downloaded - before.downloaded);
        println!("  found: {}; {calls} calls, {bytes} bytes with opening", base.complete.is_some());
    }
    println!("peak {:.0} MB", memory("VmHWM") / 1e6);
}

/// Real syncs of a tree of tiny files, each in a process of its own.
fn syncs(files: u64) {
    let space = tempfile::tempdir().expect("temporary space");
    let path = |name: &str| space.path().join(name).to_str().expect("a plain path").to_owned();
    let all = ["first", "unchanged", "one new file"].as_slice();
    let each = ["first, a chunk for each file"].as_slice();
    for (files, what) in [(files / 10, all), (files, all), (files / 10, each), (files / 5 * 2, each)] {
        let (tree, store, files) = (path("tree"), path("store"), files.to_string());
        in_process(&["make-tree", &tree, &files]);
        what.iter().for_each(|what| in_process(&["one-sync", what, &tree, &store, &files]));
        for made in [&tree, &store] {
            fs::remove_dir_all(made).expect("it was made here");
        }
    }
}

/// Tiny files, each of another content, twenty in a directory.
fn make_tree(tree: &Path, files: u64) {
    for file in 0..files {
        let directory = tree.join(format!("{:03}/{:03}", file / 20_000, file / 20 % 1000));
        if file.is_multiple_of(20) {
            fs::create_dir_all(&directory).expect("a new directory");
        }
        fs::write(directory.join(format!("{:02}-file.txt", file % 20)), file.to_le_bytes()).expect("a new file");
    }
}

async fn one_sync(what: &str, tree: &Path, store: &Path, files: u64) {
    let store: Arc<dyn Store> = Arc::new(DirStore::new(store));
    if what.starts_with("first") {
        let repository = init(Arc::clone(&store)).await;
        if what != "first" {
            put_config(&repository, &*store).await;
        }
    }
    if what == "one new file" {
        fs::write(tree.join("new"), "new").expect("a new file");
    }
    let opened = Repository::open(store, &credentials()).await.expect("it was made");
    let began = Instant::now();
    let report = sync(Arc::new(opened), tree.to_path_buf(), options(), Arc::new(Silent)).await.expect("a sync");
    println!(
        "sync of {files} files, {what}: {:.1} s, peak {:.0} MB; {} objects sent, {} bytes",
        began.elapsed().as_secs_f64(),
        memory("VmHWM") / 1e6,
        report.sent_objects,
        report.sent_bytes
    );
}

/// A configuration under which every small file is a chunk of its own: so the memory of a chunk shows.
async fn put_config(repository: &Repository, store: &dyn Store) {
    let mut config = Config { generation: 1, ..Config::new(Time::default()) };
    config.packs.files_max = 1;
    let plaintext = config.encode().expect("a configuration");
    let id: ConfigId = repository.keys().id(&plaintext);
    let object = Sealer::new(Level::Off).seal(repository.keys(), id, &plaintext).expect("a configuration");
    store.put(Name::Config(Id::new(id.0)), Bytes::from(object)).await.expect("a store");
}

fn options() -> SyncOptions {
    SyncOptions {
        filter: FilterOptions::default(),
        host: "host".into(),
        user: "user".into(),
        label: String::new(),
        always_read: false,
        ignore_ctime: false,
        ignore_inode: false,
        compression: Compression::DEFAULT,
        checkpoint_interval: Duration::from_secs(300),
        dry_run: false,
        estimate: false,
        allow_empty: false,
    }
}
