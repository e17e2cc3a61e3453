//! From an address to an open repository: connect, ask for the password, open or create.

use super::{
    address::Address,
    args::{Global, SecretArgs},
    environment::Environment,
    exit::Exit,
    failure::Failure,
    names::Names,
    password::{self, Source},
    pin,
    positional::Given,
    terminal,
    timetable::Timetable,
    view::View,
};
use crate::{
    engine::event::Stage,
    format::kit::{self, KitError},
    repository::{Credentials, InitOptions, Repository, RepositoryError},
    store::{
        Store,
        dir::DirStore,
        foreign::{Foreign, ForeignDir},
        limit::LimitStore,
        retry::{Patience, RetryStore},
        sftp::{SftpOptions, SftpStore},
    },
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

/// How often a password that was typed wrong is asked for.
const ATTEMPTS: u32 = 3;

/// What every verb works with.
pub struct Context {
    /// Options that every verb takes.
    pub global: Arc<Global>,
    /// Variables and terminals.
    pub environment: Arc<Environment>,
    /// How things are shown.
    pub view: View,
    /// Which repositories have names.
    pub names: Arc<Names>,
}

impl Context {
    /// Addresses that are given other than as an argument.
    #[must_use]
    pub fn given(&self) -> Given<'_> {
        let (option, variable) = (self.global.repository.as_deref(), self.environment.repository.as_deref());
        Given { option, variable, names: Some(&self.names) }
    }

    /// Where password and key come from: options before what is configured for the address; variables come after both.
    fn secret(&self, address: &Address) -> SecretArgs {
        let mut secret = self.global.secret.clone();
        if let Some(named) = self.names.settings(address) {
            if secret.password_command.is_none() && secret.password_file.is_none() && !secret.ask_password {
                secret.password_command = named.password_command.as_ref().map(Into::into);
                secret.password_file.clone_from(&named.password_file);
            }
            secret.key_file = secret.key_file.or_else(|| named.key_file.clone());
        }
        secret
    }
}

/// An open repository and its store.
pub struct Opened {
    /// The repository.
    pub repository: Arc<Repository>,
    store: Arc<dyn Store>,
}

impl Opened {
    /// Ends the connections, once the work is done. That this fails changes nothing any more.
    pub async fn close(self) {
        let _ = self.store.close().await;
    }
}

/// What is done where there is no repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// That is a failure.
    Fail,
    /// Someone is asked, if there is someone; else it is a failure.
    Ask,
    /// It is made.
    Create,
}

/// Opens the repository at `address`.
///
/// # Errors
/// [`Failure`].
pub async fn open(context: &Context, address: &Address, if_missing: IfMissing) -> Result<Opened, Failure> {
    open_listing(context, address, if_missing, false).await
}

/// As [`open`], for a verb that begins with a listing of all chunks.
///
/// # Errors
/// [`Failure`].
pub async fn open_listing(
    context: &Context,
    address: &Address,
    if_missing: IfMissing,
    lists_chunks: bool,
) -> Result<Opened, Failure> {
    let store = connect(context, address).await?;
    // Whoever has typed a password should not hear afterwards that there is nothing to open.
    let asks_first = password::source(&context.secret(address), &context.environment) == Some(Source::Prompt);
    if !asks_first || Repository::exists(&*store).await? {
        match open_existing(context, address, Arc::clone(&store), lists_chunks).await {
            Err(failure) if failure.exit == Exit::NoRepository => {}
            other => {
                let opened = other?.0;
                pin::check(context, address, &opened).await?;
                return Ok(opened);
            }
        }
    }
    if if_missing != IfMissing::Create && !(if_missing == IfMissing::Ask && asked_to_create(context, address).await?) {
        return Err(Failure::no_repository(&address.to_string()));
    }
    create_in(context, address, store, &InitOptions::default()).await
}

/// Opens the repository at `address`, and hands out what opened it: for what is to open it from now on.
///
/// # Errors
/// [`Failure`].
pub async fn open_for_keys(context: &Context, address: &Address) -> Result<(Opened, Credentials), Failure> {
    let store = connect(context, address).await?;
    open_existing(context, address, store, false).await
}

/// Opens the repository at `address` with the words of a recovery kit.
///
/// # Errors
/// [`Failure`].
pub async fn open_with_kit(context: &Context, address: &Address, words: &[&str]) -> Result<Opened, Failure> {
    let store = connect(context, address).await?;
    let id = Repository::id_in(&*store).await?;
    let wrong = |error: KitError| {
        Failure::new(Exit::WrongPassword, format!("cannot take these words for a recovery kit: {error}"))
            .hint("they are seven lines of five words; the last word of a line tells whether the others are right")
    };
    let secret = kit::read(&id, words).map_err(wrong)?;
    context.view.stage(Stage::Unlocking);
    let repository = Arc::new(Repository::open_with_kit(Arc::clone(&store), &secret).await?);
    Ok(Opened { repository, store })
}

/// Makes a repository at `address`.
///
/// # Errors
/// [`Failure`].
pub async fn create(context: &Context, address: &Address, options: &InitOptions) -> Result<Opened, Failure> {
    let store = connect(context, address).await?;
    if Repository::exists(&*store).await? {
        // Before a password is asked for, for nothing.
        return Err(RepositoryError::AlreadyExists { address: address.to_string() }.into());
    }
    create_in(context, address, store, options).await
}

async fn create_in(
    context: &Context,
    address: &Address,
    store: Arc<dyn Store>,
    options: &InitOptions,
) -> Result<Opened, Failure> {
    let credentials = credentials(context, address, true).await?;
    context.view.stage(Stage::Unlocking);
    let repository = Arc::new(Repository::init(Arc::clone(&store), &credentials, options).await?);
    context.view.note(&format!(
        "Created a repository at {address}. Keep what opens it (password, key file) safe: without it all is lost."
    ));
    Ok(Opened { repository, store })
}

/// Opens it; a password that was typed may be typed again.
async fn open_existing(
    context: &Context,
    address: &Address,
    store: Arc<dyn Store>,
    lists_chunks: bool,
) -> Result<(Opened, Credentials), Failure> {
    let typed = password::source(&context.secret(address), &context.environment) == Some(Source::Prompt);
    let mut left = if typed { ATTEMPTS } else { 1 };
    loop {
        let credentials = credentials(context, address, false).await?;
        context.view.stage(Stage::Unlocking);
        left -= 1;
        match Repository::open_listing(Arc::clone(&store), &credentials, lists_chunks).await {
            Ok(repository) => return Ok((Opened { repository: Arc::new(repository), store }, credentials)),
            Err(RepositoryError::WrongPassword) if left > 0 => {
                context.view.note("That is not the password. Try again.")
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// On a thread of its own, for it may wait for someone to type, or for a command.
async fn credentials(context: &Context, address: &Address, fresh: bool) -> Result<Credentials, Failure> {
    let (secret, environment) = (context.secret(address), Arc::clone(&context.environment));
    let address = address.to_string();
    let read = move || password::credentials(&secret, &environment, &address, fresh);
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.map_err(|error| Failure::failed(format!("cannot read the password: {error}")))??)
}

async fn asked_to_create(context: &Context, address: &Address) -> Result<bool, Failure> {
    if !context.environment.interactive {
        return Ok(false);
    }
    yes(format!("No repository at {address}. Create one?")).await
}

/// Asks on the terminal. A thread that waits for an answer keeps nothing else waiting.
///
/// # Errors
/// Where the terminal cannot be read.
pub async fn yes(question: String) -> Result<bool, Failure> {
    let failed = |error: String| Failure::failed(format!("cannot ask on the terminal: {error}"));
    let answer = tokio::task::spawn_blocking(move || terminal::ask(&question)).await;
    answer.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

async fn connect(context: &Context, address: &Address) -> Result<Arc<dyn Store>, Failure> {
    context.view.stage(Stage::Connecting);
    let named = context.names.settings(address).unwrap_or_default();
    let up = context.global.limit_up.as_ref().or(named.limit_up.as_ref()).cloned();
    let down = context.global.limit_down.as_ref().or(named.limit_down.as_ref()).cloned();
    let store: Arc<dyn Store> = match address {
        Address::Directory(path) => Arc::new(DirStore::new(path)),
        Address::Sftp(_) => {
            let store = SftpStore::connect(sftp_options(context, address)?).await?;
            Arc::new(RetryStore::new(Arc::new(store), Patience::default()))
        }
    };
    if up.is_none() && down.is_none() {
        return Ok(store);
    }
    let [up, down] = [up, down].map(|rates| rates.map(Timetable::by_the_clock));
    Ok(Arc::new(LimitStore::varying(store, up, down)))
}

/// The address of what another program left behind.
///
/// # Errors
/// Where it is none.
pub fn old_address(text: &OsStr) -> Result<Address, Failure> {
    Address::parse(text).map_err(|error| Failure::address("OLD", text.as_bytes(), &error))
}

/// Connects to what another program left behind at `address`.
///
/// # Errors
/// [`Failure`].
pub async fn foreign(context: &Context, address: &Address) -> Result<Arc<dyn Foreign>, Failure> {
    Ok(match address {
        Address::Directory(path) => Arc::new(ForeignDir::new(path)),
        Address::Sftp(_) => Arc::new(SftpStore::connect(sftp_options(context, address)?).await?),
    })
}

/// How the server at `address` is reached.
///
/// # Errors
/// Where the address is a directory, or the ssh command cannot be understood.
pub fn sftp_options(context: &Context, address: &Address) -> Result<SftpOptions, Failure> {
    let Address::Sftp(remote) = address else {
        return Err(Failure::failed("cannot connect: the address is a local directory"));
    };
    let (origin, command) = match (&context.global.ssh_command, &context.environment.ssh_command) {
        (Some(option), _) => ("--ssh-command", Some(option)),
        (None, variable) => ("NFZ_SSH_COMMAND", variable.as_ref()),
    };
    let directory = String::from_utf8(remote.directory.clone())
        .map_err(|_| Failure::usage(format!("cannot use {address}: the directory's name is not UTF-8")))?;
    Ok(SftpOptions {
        user: remote.user.clone(),
        port: remote.port,
        command: command.map(|text| ssh_command(origin, text)).transpose()?,
        connections: context.global.connections.into(),
        ..SftpOptions::new(remote.host.clone(), directory)
    })
}

fn ssh_command(origin: &str, text: &OsStr) -> Result<Vec<String>, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("cannot understand {origin}: {why}")).hint("write it like a shell: ssh -i ~/.ssh/backup")
    };
    let words = shell_words::split(text.to_str().ok_or_else(|| wrong("it is not UTF-8"))?);
    let words = words.map_err(|error| wrong(&error.to_string()))?;
    if words.is_empty() { Err(wrong("it is empty")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ssh_command_is_split_as_a_shell_would() {
        let words = |text: &str| ssh_command("--ssh-command", OsStr::new(text)).map_err(|failure| failure.exit.code());
        assert_eq!(words("ssh -o 'A b' x\\ y").unwrap(), ["ssh", "-o", "A b", "x y"]);
        assert_eq!(words(""), Err(2));
        assert_eq!(words("ssh 'x"), Err(2));
    }
}
