//! The segments that a restore needs, in order.

use crate::engine::{error::EngineError, tree::Tree};
use crate::format::{manifest::Segment, path::TreePath};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Sends the segments that can hold `paths`, each once, in order.
pub async fn feed(tree: Arc<Tree>, paths: Vec<TreePath>, sender: mpsc::Sender<Result<Segment, EngineError>>) {
    let mut next = 0;
    for range in ranges(&tree, &paths) {
        let range = range.start.max(next)..range.end;
        next = next.max(range.end);
        let mut segments = Box::pin(tree.segments(range));
        while let Some((_, segment)) = segments.next().await {
            if sender.send(segment).await.is_err() {
                return;
            }
        }
    }
}

/// The ranges of segments that hold `paths` and the directories above them, in order.
fn ranges(tree: &Tree, paths: &[TreePath]) -> Vec<std::ops::Range<usize>> {
    if paths.is_empty() {
        return std::iter::once(0..tree.len()).collect();
    }
    let mut ranges = Vec::new();
    for path in paths {
        ranges.push(tree.range_of(path));
        let mut above = path.clone();
        while let Some((parent, _)) = above.split_last() {
            let first = tree.range_of(&parent).start;
            ranges.push(first..first + 1);
            above = parent;
        }
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges
}
