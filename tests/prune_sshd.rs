//! Forget, prune and undo-forget over a real sshd: what a user runs, beside syncs of another machine, with kills.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;
#[path = "support/tree.rs"]
mod tree;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};
use support::sshd::Sshd;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(25 * 60 * 60);

/// A server with a repository, and machines that know its address and password.
struct World {
    config: PathBuf,
    remote: PathBuf,
    home: TempDir,
    _server: Sshd,
}

impl World {
    fn new() -> Self {
        let server = Sshd::start();
        let config = server.options().ssh_config.unwrap();
        let world =
            Self { config, remote: server.fresh_directory(), home: tempfile::tempdir().unwrap(), _server: server };
        world.must(&["init", &world.address(), "--kdf-memory", "19M"]);
        world
    }

    fn address(&self) -> String {
        format!("nfz-test:{}", self.remote.display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("NFZ_PASSWORD", "password").env("NFZ_SSH_COMMAND", format!("ssh -F {}", self.config.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn nfz(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that must succeed prints.
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.nfz(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The last line of what a command prints with `--json`.
    fn report(&self, arguments: &[&str]) -> serde_json::Value {
        let printed = self.must(&[arguments, &["--json"]].concat());
        serde_json::from_str(printed.lines().last().unwrap()).unwrap()
    }

    fn sync(&self, source: &Path) -> String {
        let report = self.report(&["sync", source.to_str().unwrap(), &self.address()]);
        report["snapshot"].as_str().unwrap().to_owned()
    }

    fn restores(&self, id: &str, source: &BTreeMap<Vec<u8>, tree::Seen>) {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("out");
        self.must(&["restore", &self.address(), target.to_str().unwrap(), "--at", id]);
        tree::assert_same(source, &tree::read(&target));
    }

    fn snapshots(&self) -> Vec<String> {
        let names = fs::read_dir(self.remote.join("snapshots")).unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Files of a directory of the repository and what lies below it.
    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let (mut found, mut left) = (Vec::new(), vec![self.remote.join(directory)]);
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { left.push(path) } else { found.push(path) }
            }
        }
        found
    }

    /// Lets a day pass on the server: everything there is older by so much.
    fn pass_a_day(&self) {
        for path in
            ["chunks", "trash", "snapshots", "forgotten", "tmp"].iter().flat_map(|directory| self.files(directory))
        {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - DAY).unwrap();
        }
    }
}

fn write(source: &Path, seed: u8) {
    fs::create_dir_all(source.join("d")).unwrap();
    for number in 0..6_u8 {
        fs::write(source.join(format!("d/f{number}")), tree::noise(seed.wrapping_add(number), 2_000)).unwrap();
    }
    fs::write(source.join("large"), tree::noise(seed, 700_000)).unwrap();
}

#[test]
fn space_comes_back_after_the_grace_period_and_a_snapshot_can_be_brought_back_until_then() {
    let world = World::new();
    let address = world.address();
    let source = tempfile::tempdir().unwrap();
    write(source.path(), 1);
    let (first, first_tree) = (world.sync(source.path()), tree::read(source.path()));
    write(source.path(), 100);
    let (second, second_tree) = (world.sync(source.path()), tree::read(source.path()));
    let last = world.nfz(&["forget", &address, &first[..10], &second[..10]]);
    assert_eq!(last.status.code(), Some(1), "the last one stays");
    assert!(String::from_utf8_lossy(&last.stderr).contains("--allow-empty"));
    assert_eq!(world.nfz(&["forget", &address]).status.code(), Some(2), "nothing says what is to stay");
    assert_eq!(world.nfz(&["prune", &address, "--grace", "23h"]).status.code(), Some(2));

    let table = world.must(&["forget", &address, "--keep-last", "1", "-n"]);
    assert!(
        table.contains("goes") && table.contains("stays") && table.contains("last") && table.contains("dry run"),
        "{table}"
    );
    assert_eq!(world.snapshots().len(), 2);
    world.pass_a_day();
    let table = world.must(&["forget", &address, "--keep-last", "1"]);
    assert!(table.contains("(*)"), "both roots are a day older than they say, and that is said: {table}");
    assert_eq!(world.snapshots(), std::slice::from_ref(&second));
    world.must(&["verify", &address, "--read-data"]);
    assert_eq!(world.report(&["undo-forget", &address])["snapshots"], 1);
    world.restores(&first, &first_tree);

    let report = world.report(&["forget", &address, "--keep-last", "1", "--prune"]);
    let set_aside = report["set_aside"]["objects"].as_u64().unwrap();
    assert!(set_aside >= 3, "{report}");
    world.restores(&second, &second_tree);
    assert_eq!(world.report(&["undo-forget", &address, &first[..8]])["rescued"].as_u64(), Some(set_aside));
    world.restores(&first, &first_tree);
    world.must(&["forget", &address, &first[..8], "--prune"]);
    let before = world.files("chunks").len();
    world.pass_a_day();
    let report = world.report(&["prune", &address]);
    assert_eq!(
        (report["deleted"]["objects"].as_u64(), report["expired_snapshots"].as_u64()),
        (Some(set_aside), Some(1))
    );
    assert_eq!(world.files("chunks").len(), before);
    assert_eq!(world.report(&["undo-forget", &address])["snapshots"], 0);
    world.restores(&second, &second_tree);
    let verified = world.report(&["verify", &address, "--read-data"]);
    assert_eq!((verified["unreferenced"].as_u64(), verified["set_aside"].as_u64()), (Some(0), Some(0)));
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Waits for all; some are killed first.
fn end(mut children: Vec<Child>, dice: &mut Dice) {
    for child in &mut children {
        if dice.below(3) == 0 {
            sleep(Duration::from_millis(dice.below(700)));
            child.kill().unwrap(); // SIGKILL
        }
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, None | Some(0)), "{code:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn two_machines_that_sync_while_others_forget_and_prune_and_some_are_killed_lose_nothing() {
    let world = World::new();
    let address = world.address();
    let sources = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut dice = Dice(1);
    let mut trees: Vec<BTreeMap<Vec<u8>, tree::Seen>> = Vec::new();
    for _ in 0..12 {
        for source in &sources {
            write(source.path(), 40 * dice.below(4) as u8);
            trees.push(tree::read(source.path()));
        }
        let syncs = sources.iter().enumerate().map(|(number, source)| {
            let host = format!("machine-{number}");
            world.command(&["sync", source.path().to_str().unwrap(), &address, "--host", &host]).spawn().unwrap()
        });
        let mut children: Vec<Child> = syncs.collect();
        children.push(world.command(&["prune", &address]).spawn().unwrap());
        if dice.below(2) == 0 {
            children.push(world.command(&["forget", &address, "--keep-last", "2", "--prune"]).spawn().unwrap());
        }
        end(children, &mut dice);
        if dice.below(3) == 0 {
            world.must(&["undo-forget", &address]);
        }
        world.must(&["verify", &address, "--read-data"]);
        world.pass_a_day();
    }
    let all = world.snapshots();
    assert!(all.len() >= 2, "{all:?}");
    for id in all {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("out");
        let output = world.nfz(&["restore", &address, target.to_str().unwrap(), "--at", &id]);
        let is_checkpoint = String::from_utf8_lossy(&output.stderr).contains("checkpoint");
        assert!(output.status.success() || is_checkpoint, "{}", String::from_utf8_lossy(&output.stderr));
        let restored = tree::read(&target);
        // Its topmost directory was made anew; what is in it is one of the trees that were saved.
        let is_one =
            |saved: &&BTreeMap<Vec<u8>, tree::Seen>| restored.iter().all(|(path, seen)| saved.get(path) == Some(seen));
        assert!(is_checkpoint || trees.iter().find(is_one).is_some(), "{id} is none of the trees that were saved");
    }
}
