//! The entries of a snapshot, to be looked at.

use super::{error::EngineError, history::SnapshotInfo, tree::Tree};
use crate::format::{
    manifest::{Entry, Node},
    path::TreePath,
};
use crate::repository::Repository;
use futures_util::StreamExt;
use std::sync::Arc;

/// Visits the entry at `path`, or, of a directory, what it holds: all below it with `recursive`. Files of several parts come
/// once.
///
/// # Errors
/// [`EngineError::NoSuchPath`], and where the manifest cannot be read.
pub async fn list(
    repository: &Arc<Repository>,
    snapshot: &SnapshotInfo,
    path: &TreePath,
    recursive: bool,
    visit: &mut (dyn FnMut(&Entry) + Send),
) -> Result<(), EngineError> {
    let tree = Tree::new(Arc::clone(repository), snapshot.id, snapshot.root.segments.clone());
    let mut segments = Box::pin(tree.segments(tree.range_of(path)));
    let mut is_found = false;
    while let Some((_, segment)) = segments.next().await {
        for entry in &segment?.entries {
            let is_itself = entry.path == *path;
            is_found |= is_itself;
            let is_first_part = entry.file().is_none_or(|file| file.part == 0);
            let is_wanted = if is_itself {
                entry.node != Node::Directory
            } else {
                entry.path.starts_with(path) && (recursive || depth(&entry.path) == depth(path) + 1)
            };
            if is_wanted && is_first_part {
                visit(entry);
            }
        }
    }
    if is_found { Ok(()) } else { Err(EngineError::NoSuchPath(path.to_string())) }
}

fn depth(path: &TreePath) -> usize {
    path.components().count()
}
