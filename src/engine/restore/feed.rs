//! The segments that a restore needs, in order.

use crate::engine::{error::EngineError, tree::Tree};
use crate::format::{manifest::Segment, path::TreePath};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Sends the segments that can hold `paths`, each once, in order.
pub async fn feed(tree: Arc<Tree>, paths: Vec<TreePath>, sender: mpsc::Sender<Result<Segment, EngineError>>) {
    let mut numbers: Vec<usize> = ranges(&tree, &paths).into_iter().flatten().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut segments = Box::pin(tree.segments(numbers));
    while let Some((_, segment)) = segments.next().await {
        if sender.send(segment).await.is_err() {
            return;
        }
    }
}

/// The ranges of segments that hold `paths` and the directories above them.
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
    ranges
}
