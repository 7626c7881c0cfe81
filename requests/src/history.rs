//! Which commit came before which, and which one brought a file.

use std::collections::{BinaryHeap, HashMap};

use chiffon_schemas::{Oid, RepoPath};

use crate::{Error, Repo};

/// Reached from the younger commit.
const FROM_TIP: u8 = 1;
/// Reached from the older one: its own history, which can't hold it again.
const FROM_ANCESTOR: u8 = 2;
/// Both.
const COMMON: u8 = FROM_TIP | FROM_ANCESTOR;
/// Waiting to be looked at.
const QUEUED: u8 = 4;

impl Repo {
    /// Whether one commit is another or comes before it.
    ///
    /// Costs what lies between the two and where they part, not the whole history; dates only order the search and
    /// may be wrong.
    ///
    /// # Errors
    /// A commit is missing.
    pub fn is_ancestor(&self, ancestor: &Oid, of: &Oid) -> Result<bool, Error> {
        if ancestor == of {
            return Ok(true);
        }
        let time = |commit: &Oid| -> Result<i64, Error> { Ok(self.links(commit)?.time) };
        let mut marks: HashMap<Oid, u8> = HashMap::new();
        let mut queue: BinaryHeap<(i64, Oid)> = BinaryHeap::new();
        for (start, mark) in [(of, FROM_TIP), (ancestor, FROM_ANCESTOR)] {
            marks.insert(start.clone(), mark | QUEUED);
            queue.push((time(start)?, start.clone()));
        }
        // Queued commits that only the tip has reached. When none is left, whatever is still queued lies in the
        // ancestor's own history.
        let mut open = 1_usize;
        while open > 0 {
            let Some((_, commit)) = queue.pop() else { break };
            let mark = marks.get(&commit).copied().unwrap_or(0) & COMMON;
            marks.insert(commit.clone(), mark);
            if mark == FROM_TIP {
                open -= 1;
            }
            for parent in self.parents(&commit)? {
                if &parent == ancestor && mark & FROM_TIP != 0 {
                    return Ok(true);
                }
                let known = marks.get(&parent).copied().unwrap_or(0);
                let both = known | mark;
                if both == known {
                    continue;
                }
                if known & QUEUED == 0 {
                    queue.push((time(&parent)?, parent.clone()));
                    open += usize::from(both == FROM_TIP);
                } else if known & COMMON == FROM_TIP {
                    open -= 1;
                }
                marks.insert(parent, both | QUEUED);
            }
        }
        Ok(false)
    }

    /// The oldest commit of the first-parent chain from `tip` back to (and without) `stop` from which on `path` has
    /// held `blob` without a break.
    ///
    /// # Errors
    /// The tip does not hold it, or a commit is missing.
    pub fn introduced(&self, tip: &Oid, stop: Option<&Oid>, path: &RepoPath, blob: &Oid) -> Result<Oid, Error> {
        let holds = |commit: &Oid| -> Result<bool, Error> {
            Ok(self.blob_at(commit, path)?.is_some_and(|entry| &entry.oid == blob))
        };
        if Some(tip) == stop || !holds(tip)? {
            return Err(Error::NotThere { path: path.to_string(), blob: blob.clone() });
        }
        let mut oldest = tip.clone();
        loop {
            let parent = self.parents(&oldest)?.into_iter().next();
            match parent {
                Some(parent) if Some(&parent) != stop && holds(&parent)? => oldest = parent,
                _ => return Ok(oldest),
            }
        }
    }
}
