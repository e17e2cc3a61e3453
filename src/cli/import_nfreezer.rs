//! `nfz import-nfreezer`: makes a snapshot of what nFreezer has saved.

use super::{
    exit::Exit,
    failure::{Failure, printable},
    figures::Work,
    json::{Document, Report},
    open::{self, Context, IfMissing},
    password::{self, PasswordError},
    progress::Progress,
    sync::summary,
};
use crate::{
    engine::{
        filter::FilterOptions,
        import_nfreezer::{self, ImportError},
        sync::{self, Compression, SyncOptions, Walking},
    },
    format::id::to_hex,
};
use clap::Args;
use std::{
    ffi::OsString,
    fs::DirBuilder,
    os::unix::{ffi::OsStringExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz import-nfreezer user@host:old user@host:backup
  nfz import-nfreezer ./old user@host:backup --source ~/Documents
  nfz import-nfreezer user@host:old home --old-password-file ~/.old-pw
";

/// Save what an nFreezer destination holds as a snapshot
///
/// OLD is read and not changed. Its files are first opened into a work directory, which needs as much room as they have, and is
/// removed at the end; nothing is sent twice if this is run again. Whoever reads that directory reads the files.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportNfreezerArgs {
    /// The nFreezer destination: a server's address, or a local directory
    old: OsString,
    /// The repository
    address: Option<OsString>,
    /// Make the repository if there is none
    #[arg(long)]
    init: bool,
    /// Take nFreezer's password from the first line of FILE
    #[arg(long, value_name = "FILE", conflicts_with = "old_password_command")]
    old_password_file: Option<PathBuf>,
    /// Take nFreezer's password from the first line that COMMAND prints
    #[arg(long, value_name = "COMMAND")]
    old_password_command: Option<OsString>,
    /// Record this directory as the source, so that its next sync goes on from there [default: OLD]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Save under this host's name [default: this machine's]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// A note to find the snapshot by
    #[arg(long, value_name = "TEXT", default_value = "nfreezer")]
    label: String,
    /// Where the work directory is made [default: TMPDIR, or /tmp]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &ImportNfreezerArgs) -> Result<Exit, Failure> {
    let old_address = open::old_address(&args.old)?;
    let address = context.given().address(args.address.as_deref())?;
    let password = old_password(context, args).await?;
    let if_missing = if args.init { IfMissing::Create } else { IfMissing::Ask };
    let opened = open::open_listing(context, &address, if_missing, true).await?;
    let old = open::foreign(context, &old_address).await?;
    let work = WorkDir::new(args.work_dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let imported = {
        let progress = Progress::start(&context.view, Work::Restore);
        import_nfreezer::open_all(old, password, &work.0, progress.observer()).await?
    };
    let source = match &args.source {
        Some(path) => path.canonicalize().unwrap_or_else(|_| path.clone()).into_os_string().into_vec(),
        None => old_address.to_string().into_bytes(),
    };
    let report = {
        let progress = Progress::start(&context.view, Work::Sync);
        let (repository, options) = (Arc::clone(&opened.repository), args.options(context));
        let walking = Walking::begin(&work.0, &options)?.recorded_as(source);
        sync::sync_walking(repository, walking, options, progress.observer()).await?
    };
    context.view.summary(&summary(&report, false));
    context.view.document(Document::Report(Report::sync(&report, false)));
    opened.close().await;
    Ok(if report.problem_count + imported.problems > 0 { Exit::Problems } else { Exit::Done })
}

async fn old_password(context: &Context, args: &ImportNfreezerArgs) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (file, command) = (args.old_password_file.clone(), args.old_password_command.clone());
    let interactive = context.environment.interactive;
    let read = tokio::task::spawn_blocking(move || match (file, command) {
        (Some(file), _) => password::from_file(&file),
        (None, Some(command)) => password::from_command(&command),
        (None, None) if interactive => password::ask("nFreezer's password: "),
        (None, None) => Err(PasswordError::NoTerminal),
    });
    let read = read.await.map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?;
    read.map_err(|error| match error {
        PasswordError::NoTerminal => Failure::failed("cannot ask for nFreezer's password: there is no terminal")
            .hint("give --old-password-file FILE or --old-password-command COMMAND"),
        error => error.into(),
    })
}

impl ImportNfreezerArgs {
    fn options(&self, context: &Context) -> SyncOptions {
        SyncOptions {
            filter: FilterOptions::default(),
            host: self.host.clone().unwrap_or_else(|| context.environment.host.clone()),
            user: context.environment.user.clone(),
            label: self.label.clone(),
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
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => error.into(),
            error @ ImportError::NoList => {
                Self::failed(error.to_string()).hint("the order is: nfz import-nfreezer OLD ADDRESS")
            }
            error @ ImportError::WrongPassword => Self::new(Exit::WrongPassword, error.to_string())
                .hint("it is the one that nfreezer calls the encryption password"),
            error @ ImportError::Target { .. } => {
                Self::failed(error.to_string()).hint("the work directory needs room for all files: --work-dir DIR")
            }
            error @ (ImportError::ListTooLong(_) | ImportError::Nothing | ImportError::Lost) => {
                Self::failed(error.to_string())
            }
        }
    }
}

/// A directory for this user alone, that goes with its value.
struct WorkDir(PathBuf);

impl WorkDir {
    fn new(parent: PathBuf) -> Result<Self, Failure> {
        let failed = |path: &Path, why: String| {
            Failure::failed(format!("cannot make the work directory {}: {why}", printable(&path.to_string_lossy())))
                .hint("name another place: --work-dir DIR")
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(&parent, error.to_string()))?;
        let path = parent.join(format!("nfz-import-{}", to_hex(&random)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| failed(&path, error.to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
