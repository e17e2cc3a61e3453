//! `nfz doctor`: what a server can do, and what nfz will therefore do.

use super::{
    address::Address,
    exit::Exit,
    failure::Failure,
    json::{DoctorDocument, Document, SpeedDocument},
    open::{self, Context},
    text::{Bytes, counted},
};
use crate::{
    clock,
    store::sftp::{Findings, NAME_NEEDED, Speed, examine},
};
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz doctor user@host:backup
  nfz doctor user@host:backup --json
";

/// Find out what an SFTP server can do
///
/// Makes files in a directory of its own, in the repository's or where the login begins, and removes them again; sends and fetches
/// some megabytes on 1, 2, 4 and 8 connections. Needs no password and no repository. Takes less than half a minute.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// The repository, or where one is to be
    address: Option<OsString>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &DoctorArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    if let Address::Directory(_) = address {
        return Err(Failure::usage(format!("cannot examine {address}: it is a directory of this machine"))
            .hint("doctor looks at SFTP servers: nfz doctor user@host:dir"));
    }
    let options = open::sftp_options(context, &address)?;
    let findings = examine(&options, || clock::now().seconds).await?;
    let most = options.connections;
    if context.view.json {
        context.view.document(Document::Doctor(document(&findings, most)));
    } else {
        report(&findings, most).iter().for_each(|line| context.view.line(line));
    }
    Ok(if findings.is_usable() && findings.left_behind.is_none() { Exit::Done } else { Exit::Problems })
}

fn report(findings: &Findings, most: usize) -> Vec<String> {
    let yes = |is: bool, no: &str| if is { "yes".to_owned() } else { no.to_owned() };
    let free = findings.free.map_or("not told".to_owned(), |free| Bytes(free).to_string());
    let rename = match (findings.renames, findings.replaces) {
        (true, true) => "works, and replaces what has the name",
        (true, false) => "works, onto a new name only",
        (false, _) => "refused",
    };
    let write = findings.write_length.map_or("as long as asked".to_owned(), |length| Bytes(length).to_string());
    let mut lines = vec![
        format!("server         {}", findings.software.as_deref().unwrap_or("does not say what it is")),
        format!(
            "tried in       {}{}",
            findings.tried_in,
            if findings.exists { "" } else { " (the address does not exist yet)" }
        ),
        format!(
            "extensions     {}",
            if findings.extensions.is_empty() { "none".into() } else { findings.extensions.join(", ") }
        ),
        format!("round trip     {:.1} ms", findings.round_trip.as_secs_f64() * 1000.0),
        format!("clock          {}", clock_words(findings.clock_ahead)),
        format!("free space     {free}"),
        format!("one write      {write}"),
        format!("rename         {rename}"),
        format!("remove         {}", yes(findings.removes, "refused")),
        format!("flush to disk  {}", yes(findings.flushes, "not offered")),
        format!("exclusive      {}", yes(findings.excludes, "not honoured: a file that existed was opened")),
        format!("letter case    {}", if findings.minds_case { "told apart" } else { "not told apart" }),
        format!("long names     {}", long_names(findings.name_length)),
    ];
    lines.extend(findings.speeds.iter().map(speed_line));
    lines.push(String::new());
    lines.extend(consequences(findings, most).into_iter().map(|line| format!("- {line}")));
    lines.extend(findings.left_behind.iter().map(|path| format!("- Left behind, for it could not be removed: {path}")));
    lines
}

fn clock_words(ahead: i64) -> String {
    match ahead {
        -2..=2 => "as ours".to_owned(),
        3.. => format!("{ahead} s ahead of ours"),
        _ => format!("{} s behind ours", -ahead),
    }
}

fn long_names(length: usize) -> String {
    match length {
        255.. => "255 bytes or more".to_owned(),
        0 => format!("fewer than {NAME_NEEDED} bytes"),
        length => format!("{length} bytes, not as many as 255"),
    }
}

fn speed_line(speed: &Speed) -> String {
    let Speed { connections, opened, up, down } = speed;
    let refused = if opened < connections { format!(" ({opened} came about)") } else { String::new() };
    let count = counted(*connections as u64, "connection", "connections");
    let rate = |rate: f64| format!("{}/s", Bytes(rate as u64));
    format!("{count:<14} {} up, {} down{refused}", rate(*up), rate(*down))
}

impl Findings {
    /// Whether a repository can be kept there.
    fn is_usable(&self) -> bool {
        self.renames && self.removes && self.name_length >= NAME_NEEDED
    }
}

/// What nfz makes of it, in sentences.
fn consequences(findings: &Findings, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |is: bool, line: &str| {
        if is {
            lines.push(line.to_owned())
        }
    };
    say(!findings.renames, "No file can be renamed: nfz cannot keep a repository there.");
    say(!findings.removes, "No file can be removed: nfz cannot prune there.");
    say(findings.name_length < NAME_NEEDED, "Names are too short there: nfz cannot keep a repository.");
    say(
        findings.renames && findings.flushes,
        "Each object is flushed to the disk before it gets its name, by one rename: three round trips.",
    );
    say(
        findings.renames && !findings.flushes,
        "Objects are not flushed: after a power cut the server may have lost some. The next sync and each verify compare their lengths.",
    );
    say(
        !findings.replaces,
        "A torn object is removed before it is replaced: no harm, as what replaces it is the same.",
    );
    say(findings.free.is_none(), "A full disk is told from other refusals only by the server's words.");
    say(
        findings.clock_ahead.abs() > 3600,
        "The clocks differ by more than an hour: retention and prune go by the server's.",
    );
    let opened = findings.speeds.iter().map(|speed| speed.opened).max().unwrap_or(1);
    let refused = findings.speeds.iter().any(|speed| speed.opened < speed.connections);
    say(
        refused,
        &format!(
            "The server lets in {} at once; nfz makes do with them.",
            counted(opened as u64, "connection", "connections")
        ),
    );
    lines.push(format!(
        "Up to {} as transfers need them (--connections).",
        counted(most as u64, "connection", "connections")
    ));
    lines
}

fn document(findings: &Findings, most: usize) -> DoctorDocument {
    let speed = |speed: &Speed| SpeedDocument {
        connections: speed.connections,
        opened: speed.opened,
        up: speed.up as u64,
        down: speed.down as u64,
    };
    DoctorDocument {
        software: findings.software.clone(),
        exists: findings.exists,
        extensions: findings.extensions.clone(),
        round_trip_ms: findings.round_trip.as_secs_f64() * 1000.0,
        clock_ahead: findings.clock_ahead,
        free: findings.free,
        write_length: findings.write_length,
        renames: findings.renames,
        replaces: findings.replaces,
        removes: findings.removes,
        flushes: findings.flushes,
        excludes: findings.excludes,
        minds_case: findings.minds_case,
        name_length: findings.name_length,
        speeds: findings.speeds.iter().map(speed).collect(),
        left_behind: findings.left_behind.clone(),
        is_usable: findings.is_usable(),
        consequences: consequences(findings, most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Findings {
        Findings {
            renames: true,
            replaces: true,
            removes: true,
            flushes: true,
            excludes: true,
            minds_case: true,
            name_length: 255,
            free: Some(1 << 30),
            ..Findings::default()
        }
    }

    #[test]
    fn what_a_server_lacks_is_said_with_what_follows_from_it() {
        let said = |findings: &Findings| consequences(findings, 4).join("\n");
        assert_eq!(said(&good()).lines().count(), 2);
        assert!(said(&Findings { flushes: false, ..good() }).contains("power cut"));
        assert!(said(&Findings { clock_ahead: -7200, ..good() }).contains("more than an hour"));
        let refused = Speed { connections: 4, opened: 3, up: 1.0, down: 1.0 };
        assert!(said(&Findings { speeds: vec![refused], ..good() }).contains("lets in 3 connections"));
    }

    #[test]
    fn a_server_without_rename_or_long_names_is_not_usable() {
        assert!(good().is_usable());
        assert!(!Findings { renames: false, ..good() }.is_usable());
        assert!(!Findings { name_length: 64, ..good() }.is_usable());
    }
}
