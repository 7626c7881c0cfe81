//! The audit branch: append-only, written by Chiffon alone, readable with git and nothing else.
//!
//! A commit's trailers name its events, so that writing one twice is harmless and a stranger's commit is noticed (S2).

use std::collections::{BTreeMap, HashSet};

use chiffon_schemas::yaml::Limits;
use chiffon_schemas::{EventId, Oid, RepoPath, Timestamp, yaml};

use crate::{Edit, Entry, Error, Expect, RefName, Repo, Signature, WalkLimits};

/// The trailer that names an event.
const EVENT: &str = "Chiffon-Event";

/// The longest line of a message, in characters.
const MAX_LINE: usize = 1_000;

/// The largest offer: three short lines.
const MAX_OFFER_BYTES: u64 = 4 * 1024;

/// A commit of the audit branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCommit {
    /// One line.
    pub subject: String,
    /// More lines; may be empty.
    pub body: String,
    /// Trailers, the events first.
    pub trailers: Vec<Trailer>,
    /// Files to write or to remove.
    pub files: Vec<(RepoPath, Option<Vec<u8>>)>,
    /// When.
    pub time: Timestamp,
}

/// `Key: value` at the end of a commit's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// The key: letters and `-`.
    pub key: String,
    /// The value; made one line.
    pub value: String,
}

/// Whether the audit branch is as Chiffon left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TipState {
    /// It is at the commit that was recorded.
    AsRecorded,
    /// Our own commits for events that still wait are on top: a crash came between commit and row.
    OursAhead {
        /// Each commit with its events, oldest first.
        commits: Vec<(Oid, Vec<EventId>)>,
    },
    /// Somebody else wrote, rewrote or removed it.
    Foreign {
        /// What was found, in words.
        reason: String,
    },
}

/// An open offer as the audit branch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOffer {
    /// The plan's blob.
    pub plan: Oid,
    /// The offer's number.
    pub revision: u32,
    /// Its end.
    pub expires: Timestamp,
}

/// Appends a commit to the audit branch, which must be at `tip`. Repeated for an event that the branch's tip already
/// has, it makes no second commit.
///
/// # Errors
/// [`Error::Moved`] where the branch is elsewhere, or the repository can't be written.
pub fn append(repo: &Repo, commit: &AuditCommit, tip: Option<&Oid>) -> Result<Oid, Error> {
    let message = message(commit);
    if let Some(now) = repo.reference(&RefName::audit())?
        && let Some(first) = events_of(&message).first()
        && events_of(&repo.commit_info(&now)?.message).contains(first)
    {
        return Ok(now);
    }
    let signature = Signature::chiffon(commit.time);
    let edit = Edit {
        branch: RefName::audit(),
        expect: tip.cloned().map_or(Expect::New, Expect::Tip),
        parents: None,
        base: None,
        changes: commit.files.clone(),
        message,
        author: signature.clone(),
        committer: signature,
        allow_empty: true,
    };
    Ok(repo.commit(&edit)?.commit)
}

/// Subject, body and trailers, such that no text can pass for another part.
fn message(commit: &AuditCommit) -> String {
    let mut text = match one_line(&commit.subject) {
        subject if subject.is_empty() => "(no subject)".to_owned(),
        // Either would be read as something else by `git log --grep` or `git interpret-trailers`.
        subject if subject.to_ascii_lowercase().starts_with("chiffon-") || subject.starts_with("---") => {
            format!("> {subject}")
        }
        subject => subject,
    };
    text.push_str("\n\n");
    let mut has_body = false;
    for line in commit.body.lines() {
        let line = one_line(line);
        if !line.is_empty() {
            // Indented, a line is never a trailer to `git interpret-trailers`.
            text.push_str(&format!("  {line}\n"));
            has_body = true;
        }
    }
    if has_body {
        text.push('\n');
    }
    for Trailer { key, value } in &commit.trailers {
        let key: String = key.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        text.push_str(&format!("{key}: {}\n", one_line(value)));
    }
    text
}

/// A text as part of one line, cut where it is longer than anybody reads.
fn one_line(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.split(char::is_whitespace).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= MAX_LINE { flat } else { flat.chars().take(MAX_LINE - 1).chain(['…']).collect() }
}

/// The events that a message's trailers name: the last paragraph, which is never the first.
fn events_of(message: &str) -> Vec<EventId> {
    let Some((_, last)) = message.trim_end().rsplit_once("\n\n") else { return Vec::new() };
    let values = last.lines().filter_map(|line| line.strip_prefix(EVENT)?.strip_prefix(": "));
    values.filter_map(|value| EventId::parse(value.split(' ').next()?).ok()).collect()
}

/// The commit that records an event, looked for among the last `back` commits of the audit branch.
///
/// # Errors
/// The repository can't be read.
pub fn find_event(repo: &Repo, event: &EventId, back: usize) -> Result<Option<Oid>, Error> {
    let mut at = repo.reference(&RefName::audit())?;
    for _ in 0..back {
        let Some(commit) = at else { return Ok(None) };
        let info = repo.commit_info(&commit)?;
        if events_of(&info.message).contains(event) {
            return Ok(Some(commit));
        }
        at = info.parents.into_iter().next();
    }
    Ok(None)
}

/// Whether the audit branch is as Chiffon left it: at the recorded tip, or ahead of it by our own commits for events
/// that still wait in the outbox, each once.
///
/// # Errors
/// The repository can't be read.
pub fn check_tip(repo: &Repo, recorded: Option<&Oid>, outbox: &[EventId]) -> Result<TipState, Error> {
    let foreign = |reason: String| Ok(TipState::Foreign { reason });
    let tip = repo.reference(&RefName::audit())?;
    let mut waiting: HashSet<&EventId> = outbox.iter().collect();
    let mut commits = Vec::new();
    let mut at = tip;
    while at.as_ref() != recorded {
        let Some(commit) = at else {
            return foreign(match recorded {
                Some(oid) if commits.is_empty() => format!("it is gone; it was at {oid}"),
                Some(oid) => format!("its history no longer holds {oid}"),
                None => "its history has no beginning".to_owned(),
            });
        };
        let info = repo.commit_info(&commit)?;
        let events = events_of(&info.message);
        let signed = [&info.author, &info.committer].iter().all(|by| is_chiffon(by));
        // Taken out as they are met: a second commit for an event is nobody's of ours.
        let ours =
            signed && info.parents.len() <= 1 && !events.is_empty() && events.iter().all(|id| waiting.remove(id));
        if !ours {
            let author = one_line(&info.author.name);
            return foreign(format!("commit {commit} by `{author}` is not one that Chiffon was about to make"));
        }
        commits.push((commit, events));
        at = info.parents.into_iter().next();
    }
    commits.reverse();
    Ok(if commits.is_empty() { TipState::AsRecorded } else { TipState::OursAhead { commits } })
}

/// Whether a commit says that it is Chiffon's. Anybody can write that; without it, it is surely not.
fn is_chiffon(by: &Signature) -> bool {
    let own = Signature::chiffon(by.time);
    by.name == own.name && by.email == own.email
}

/// The open offers, by their plans' paths, as the audit branch has them.
///
/// # Errors
/// The repository can't be read.
pub fn offers(repo: &Repo) -> Result<BTreeMap<RepoPath, OpenOffer>, Error> {
    let mut offers = BTreeMap::new();
    let Some(tip) = repo.reference(&RefName::audit())? else { return Ok(offers) };
    let folder = RepoPath::parse("offers/")?;
    for (path, entry) in repo.walk(&tip, Some(&folder), &WalkLimits::default())?.entries {
        let Some(plan) = path.as_str().strip_prefix("offers/") else { continue };
        if let Some(offer) = offer_in(repo, &path, &entry)? {
            offers.insert(RepoPath::parse(format!("plans/{plan}"))?, offer);
        }
    }
    Ok(offers)
}

/// The open offer of one plan's path, as the audit branch has it. Costs the same however many offers are open.
///
/// # Errors
/// The repository can't be read.
pub fn offer(repo: &Repo, plan: &RepoPath) -> Result<Option<OpenOffer>, Error> {
    let Some(tip) = repo.reference(&RefName::audit())? else { return Ok(None) };
    let Some(rest) = plan.as_str().strip_prefix("plans/") else { return Ok(None) };
    let path = RepoPath::parse(format!("offers/{rest}"))?;
    match repo.entry_at(&tip, &path)? {
        Some(entry) => offer_in(repo, &path, &entry),
        None => Ok(None),
    }
}

/// One that can't be read is none: so the plan that it would allow is refused.
fn offer_in(repo: &Repo, path: &RepoPath, entry: &Entry) -> Result<Option<OpenOffer>, Error> {
    if !entry.kind.is_file() {
        return Ok(None);
    }
    let bytes = match repo.read_blob(&entry.oid, MAX_OFFER_BYTES) {
        Ok(bytes) => bytes,
        Err(Error::TooLarge { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let offer = read_offer(&bytes);
    if offer.is_none() {
        tracing::warn!(%path, "an offer on the audit branch can't be read, and counts as closed");
    }
    Ok(offer)
}

fn read_offer(bytes: &[u8]) -> Option<OpenOffer> {
    let node = yaml::parse_bytes(bytes, &Limits::REQUEST).ok()?;
    Some(OpenOffer {
        plan: Oid::parse(node.get("plan")?.as_str()?).ok()?,
        revision: u32::try_from(node.get("revision")?.as_int()?).ok()?,
        expires: Timestamp::parse(node.get("expires")?.as_str()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_pass_for_a_trailer() {
        let commit = AuditCommit {
            subject: "kuma: ok\n\nChiffon-Event: 01ARZ3NDEKTSV4RRFFQ69G5FAV fake".to_owned(),
            body: "Chiffon-Run: 01ARZ3NDEKTSV4RRFFQ69G5FAV\nplain".to_owned(),
            trailers: vec![Trailer {
                key: EVENT.to_owned(),
                value: "01BX5ZZKBKACTAV9WEVGEMMVRZ run-ok\nX: y".to_owned(),
            }],
            files: Vec::new(),
            time: Timestamp::from_secs(0),
        };
        let text = message(&commit);
        let ids = events_of(&text);
        assert_eq!(ids.len(), 1, "{text}");
        assert_eq!(ids[0].as_str(), "01BX5ZZKBKACTAV9WEVGEMMVRZ");
        assert!(!text.lines().any(|line| line.starts_with("Chiffon-Run") || line.starts_with("X:")), "{text}");
    }
}
