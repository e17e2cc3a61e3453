//! What comes after the last byte: hard links, removal of what is not wanted, directories' metadata, and a flush.

use super::{
    Shared,
    plan::{Leftover, Link},
};
use crate::engine::{
    event::{Action, Event},
    target::{Target, TargetErrorKind},
};
use std::sync::atomic::Ordering::Relaxed;

/// Does what is left.
pub fn finish(shared: &Shared, leftover: Leftover) {
    for link in &leftover.links {
        make_link(shared, link);
    }
    for path in &leftover.extra {
        remove(shared, path);
    }
    let Some(target) = shared.target.as_ref().filter(|_| !shared.options.dry_run) else { return };
    // Deepest first: to make something in a directory changes its time.
    for (path, metadata) in leftover.directories.iter().rev() {
        match target.set_metadata(path, metadata, &shared.policy) {
            Ok(outcome) => shared.outcome(outcome),
            Err(error) => shared.problem(path, error),
        }
    }
    if let Err(error) = target.flush() {
        shared.problem("the target", error);
    }
}

fn make_link(shared: &Shared, link: &Link) {
    if let Some(target) = shared.target.as_ref().filter(|_| !shared.options.dry_run)
        && let Err(why) = try_link(shared, target, link)
    {
        return shared.problem(&link.path, why);
    }
    shared.counts.restored.fetch_add(1, Relaxed);
    shared.observer.event(Event::Entry { path: &link.path, action: Action::Restored, bytes: 0 });
}

fn try_link(shared: &Shared, target: &Target, link: &Link) -> Result<(), String> {
    let lost = || Err(format!("not restored: it is another name of {}, which was not restored", link.existing));
    if shared.is_lost(&link.existing) {
        return lost();
    }
    match target.hard_link(&link.existing, &link.path, link.replace) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == TargetErrorKind::Missing => lost(),
        Err(error) => Err(error.to_string()),
    }
}

fn remove(shared: &Shared, path: &crate::format::path::TreePath) {
    if let Some(target) = shared.target.as_ref().filter(|_| !shared.options.dry_run)
        && let Err(error) = target.remove(path)
    {
        return shared.problem(path, error);
    }
    shared.counts.removed.fetch_add(1, Relaxed);
    shared.observer.event(Event::Entry { path, action: Action::Removed, bytes: 0 });
}
