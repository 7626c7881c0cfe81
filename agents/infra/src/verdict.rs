//! How an attempt ended (N3), as a pure function of what was seen: exit, events, planned hosts, and who stopped it.
//!
//! Exit codes alone are ambiguous (0 where no host matched), so success needs a recap in which every planned host,
//! and no other, has neither failures nor losses.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{ChangedTask, Failure, Host, LogDigest, Outcome, Recap, Usage, Verdict};

use crate::events::{Status, Story, TaskResult};

/// At most this many changed tasks are listed.
const MAX_CHANGED: usize = 500;

/// At most this many finished tasks are listed in a failure.
const MAX_DONE: usize = 100;

/// Modules that do the same again when run again, whatever they did before.
const NOT_IDEMPOTENT: [&str; 8] = ["command", "shell", "raw", "script", "expect", "win_command", "win_shell", "telnet"];

/// Everything that was seen of an attempt.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The hosts of the order.
    pub planned: &'a [Host],
    /// How the playbook's process ended.
    pub exit: Exit,
    /// Who ended it, if not itself.
    pub stopped: Stopped,
    /// Processes that could not be seen to end, in words.
    pub survivors: &'a [String],
    /// Its events.
    pub story: &'a Story,
    /// The first line of the log that names an error.
    pub first_error: Option<&'a str>,
    /// The end of the log, secrets removed.
    pub excerpt: &'a str,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// What its processes used.
    pub usage: Option<Usage>,
    /// The version that ran.
    pub ansible_core: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By a signal, or nobody knows.
    Signalled,
}

/// Who ended a run that did not end itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nobody: it ended by itself.
    No,
    /// A person.
    Cancelled,
    /// Its time-out, in seconds.
    TimedOut(u32),
}

/// The outcome of an attempt whose process ran.
pub fn outcome(seen: &Seen) -> Outcome {
    let (verdict, reason) = judge(seen);
    let cut_off = seen.stopped != Stopped::No || !seen.survivors.is_empty();
    let failure = (verdict == Verdict::Failed).then(|| failure(seen, reason.as_deref().unwrap_or_default(), cut_off));
    Outcome {
        verdict,
        reason: failure.as_ref().filter(|_| !cut_off).map(one_line).or(reason),
        exit_code: match seen.exit {
            Exit::Status(code) => Some(code),
            Exit::Signalled => None,
        },
        recap: seen.story.recap.clone().unwrap_or_default(),
        changed: changed(seen.story),
        failure,
        finished: if verdict == Verdict::Failed { finished(seen).cloned().collect() } else { Vec::new() },
        interrupted: if cut_off { interrupted(seen) } else { Vec::new() },
        duration_ms: seen.duration_ms,
        usage: seen.usage,
        log: LogDigest { incomplete: seen.story.gaps, ..LogDigest::default() },
        ansible_core: seen.ansible_core.clone(),
        suggestions: suggestions(seen.story),
    }
}

/// The outcome of an attempt that ended before any process of it was started.
pub fn not_started(reason: String, planned: &[Host]) -> Outcome {
    Outcome {
        verdict: Verdict::Failed,
        reason: Some(reason.clone()),
        exit_code: None,
        recap: BTreeMap::new(),
        changed: Vec::new(),
        failure: Some(Failure {
            host: None,
            task: None,
            cause: reason,
            excerpt: String::new(),
            done: Vec::new(),
            not_started: planned.iter().map(Host::to_string).collect(),
            retry_safe: true,
        }),
        finished: Vec::new(),
        interrupted: Vec::new(),
        duration_ms: 0,
        usage: None,
        log: LogDigest::default(),
        ansible_core: None,
        suggestions: Vec::new(),
    }
}

fn judge(seen: &Seen) -> (Verdict, Option<String>) {
    if !seen.survivors.is_empty() {
        let reason = format!("these processes could not be seen to end: {}", seen.survivors.join(", "));
        return (Verdict::Lost, Some(reason));
    }
    match seen.stopped {
        Stopped::Cancelled => (Verdict::Cancelled, Some("cancelled, and every process of it has ended".to_owned())),
        Stopped::TimedOut(secs) => (Verdict::Failed, Some(format!("timed out after {secs} s"))),
        Stopped::No => match why_failed(seen) {
            None => (Verdict::Succeeded, None),
            Some(reason) => (Verdict::Failed, Some(reason)),
        },
    }
}

/// Why a run that ended by itself is no success; `None` when it is one.
fn why_failed(seen: &Seen) -> Option<String> {
    if let Some(reason) = &seen.story.refused {
        return Some(reason.clone());
    }
    if seen.story.recap.is_some() && !seen.story.began {
        return Some("the secrets of this run were not told, so nothing of it may be shown or trusted".to_owned());
    }
    let Some(recap) = &seen.story.recap else {
        return Some(match (seen.first_error, seen.exit) {
            (Some(error), _) => error.to_owned(),
            (None, Exit::Status(code)) => format!("ansible-playbook ended with status {code} and without a recap"),
            (None, Exit::Signalled) => "ansible-playbook was ended by a signal, without a recap".to_owned(),
        });
    };
    if recap.is_empty() && seen.story.strange_hosts.is_empty() {
        return Some("no host matched".to_owned());
    }
    let planned: BTreeSet<&Host> = seen.planned.iter().collect();
    let mut others: Vec<&str> = recap.keys().filter(|host| !planned.contains(host)).map(Host::as_str).collect();
    others.extend(seen.story.strange_hosts.iter().map(String::as_str));
    if !others.is_empty() {
        return Some(format!("it ran on hosts that are not in the plan: {}", others.join(", ")));
    }
    let unwell: Vec<&str> =
        recap.iter().filter(|(_, counts)| !is_well(counts)).map(|(host, _)| host.as_str()).collect();
    if !unwell.is_empty() {
        return Some(format!("failed on {}", unwell.join(", ")));
    }
    let missing: Vec<&str> =
        planned.iter().filter(|host| !recap.contains_key(**host)).map(|host| host.as_str()).collect();
    if !missing.is_empty() {
        return Some(format!("nothing ran on {}", missing.join(", ")));
    }
    match seen.exit {
        Exit::Status(0) => None,
        Exit::Status(code) => Some(format!("every host is well, but ansible-playbook ended with status {code}")),
        Exit::Signalled => Some("every host is well, but ansible-playbook was ended by a signal".to_owned()),
    }
}

/// The hosts of the order that a failed run is proved to have finished. Where no host failed, what failed was the
/// playbook itself, and nothing is proved.
fn finished<'a>(seen: &'a Seen) -> impl Iterator<Item = &'a Host> {
    let recap = seen.story.recap.as_ref().filter(|recap| recap.values().any(|counts| !is_well(counts)));
    let is_finished = move |host: &&Host| {
        seen.story.finished.contains(host.as_str()) && recap.is_some_and(|recap| recap.get(*host).is_some_and(is_well))
    };
    seen.planned.iter().filter(is_finished)
}

fn is_well(counts: &Recap) -> bool {
    counts.failed == 0 && counts.unreachable == 0
}

fn failure(seen: &Seen, reason: &str, cut_off: bool) -> Failure {
    let story = seen.story;
    let first = if cut_off { None } else { first_cause(story) };
    let at = first.map_or(story.results.len(), |(at, _)| at);
    let done = story.results[..at].iter().filter(|result| result.status == Status::Changed);
    let running = story.running.iter().next().filter(|_| cut_off);
    Failure {
        host: first
            .map(|(_, result)| &result.host)
            .or(running.map(|(host, _)| host))
            .and_then(|host| Host::parse(host.as_str()).ok()),
        task: first
            .map(|(_, result)| &result.task)
            .or(running.map(|(_, task)| task))
            .or(story.last_task.as_ref().filter(|_| cut_off))
            .cloned(),
        cause: first.and_then(|(_, result)| result.msg.clone()).unwrap_or_else(|| reason.to_owned()),
        excerpt: seen.excerpt.to_owned(),
        done: done.take(MAX_DONE).map(|result| format!("{}: {}", result.host, result.task)).collect(),
        not_started: seen
            .planned
            .iter()
            .map(Host::as_str)
            .filter(|host| !story.touched.contains(*host))
            .map(str::to_owned)
            .collect(),
        retry_safe: retry_safe(seen, cut_off),
    }
}

fn one_line(failure: &Failure) -> String {
    match (&failure.host, &failure.task) {
        (Some(host), Some(task)) => format!("`{task}` failed on {host}: {}", failure.cause),
        _ => failure.cause.clone(),
    }
}

/// The first failure that no rescue block caught, and its place in the story.
///
/// On a host its first `rescued` failures were caught by rescue blocks: the next one is what stopped it, and any
/// later ones come from its `always` blocks and handlers.
fn first_cause(story: &Story) -> Option<(usize, &TaskResult)> {
    let recap = story.recap.as_ref()?;
    let mut caught: BTreeMap<&str, u32> = recap.iter().map(|(host, counts)| (host.as_str(), counts.rescued)).collect();
    story.results.iter().enumerate().find(|(_, result)| {
        if result.ignored || !matches!(result.status, Status::Failed | Status::Unreachable) {
            return false;
        }
        let well = recap.iter().any(|(host, counts)| host.as_str() == result.host && is_well(counts));
        match caught.get_mut(result.host.as_str()) {
            _ if well => false,
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        }
    })
}

/// Whether running the unfinished hosts again can be expected to do no harm.
///
/// The rule: nothing was cut off in the middle, and on no unfinished host a module that repeats its effect (command,
/// shell, raw, script and their kin) has changed something or failed half-way.
fn retry_safe(seen: &Seen, cut_off: bool) -> bool {
    // What is not known to have ended well has to be looked at.
    if seen.story.gaps || (cut_off && !seen.story.touched.is_empty()) {
        return false;
    }
    let finished = |host: &str| finished(seen).any(|other| other.as_str() == host);
    !seen.story.results.iter().any(|result| {
        let module = result.action.rsplit('.').next().unwrap_or_default();
        NOT_IDEMPOTENT.contains(&module)
            && matches!(result.status, Status::Changed | Status::Failed)
            && !finished(&result.host)
    })
}

/// Planned hosts on which a task had begun and not ended; all touched ones where that can't be told.
fn interrupted(seen: &Seen) -> Vec<Host> {
    let story = seen.story;
    let unsure = story.gaps && story.running.is_empty();
    seen.planned
        .iter()
        .filter(|host| story.running.contains_key(host.as_str()) || (unsure && story.touched.contains(host.as_str())))
        .cloned()
        .collect()
}

fn changed(story: &Story) -> Vec<ChangedTask> {
    story
        .results
        .iter()
        .filter(|result| result.status == Status::Changed)
        .filter_map(|result| {
            Some(ChangedTask { host: Host::parse(result.host.as_str()).ok()?, task: result.task.clone() })
        })
        .take(MAX_CHANGED)
        .collect()
}

fn suggestions(story: &Story) -> Vec<String> {
    let mut all = Vec::new();
    if !story.unnamed.is_empty() {
        let modules: Vec<&str> = story.unnamed.iter().map(String::as_str).collect();
        all.push(format!("Give every task a name; these modules run without one: {}.", modules.join(", ")));
    }
    for (task, secs) in story.slow.iter().take(10) {
        all.push(format!("`{task}` took {secs:.0} s on its slowest host; see whether it can be made faster."));
    }
    if story.gaps {
        all.push("Some events of this run were lost, so the lists of tasks may have gaps.".to_owned());
    }
    all
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
