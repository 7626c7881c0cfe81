//! Commands in comments of a plan's pull request: what a comment asks for. Pure; who may ask is judged elsewhere.
//!
//! A command is a whole line that begins with `/chiffon`. What is quoted or lies in a code block asks for nothing, so that
//! somebody may show a command without giving it.

use chiffon_schemas::nearest;

/// How a line begins that asks for something.
const MARK: &str = "/chiffon";

/// Commands that are taken from one comment; more of them are a mistake.
const MOST: usize = 5;

/// The longest line that is read, in characters.
const LONGEST: usize = 1_000;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentCommand {
    /// Make another plan, changed as these words say; as it is where there are none.
    Replan {
        /// The change.
        change: String,
    },
    /// Run the unfinished hosts again.
    Retry,
    /// Stop the run.
    Cancel,
    /// Offer a plan that takes back what the last run did.
    Undo,
    /// Say why a task can't be foreseen.
    Explain {
        /// The task, or a part of its name.
        task: String,
    },
    /// Hold the request back.
    Pause {
        /// Why.
        reason: String,
        /// Until when: a time or a span.
        until: String,
    },
    /// Free the locks of a lost run's hosts.
    Unlock,
}

/// Why a line that asks for something can't be followed; in a sentence that says what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCommand(pub String);

/// Each verb, and what is written after it.
const VERBS: [(&str, &str); 7] = [
    ("replan", "<change in words>"),
    ("retry", ""),
    ("cancel", ""),
    ("undo", ""),
    ("explain", "<task>"),
    ("pause", "<reason> <until>"),
    ("unlock", ""),
];

/// What a comment asks for, line by line.
pub fn commands(body: &str) -> Vec<Result<CommentCommand, NoCommand>> {
    let mut fence: Option<&str> = None;
    let mut found = Vec::new();
    for line in body.lines() {
        if let Some(mark) = fence_of(line) {
            fence = match fence {
                None => Some(mark),
                // A block ends with as long a fence of the same kind.
                Some(open) if mark.starts_with(open) => None,
                open => open,
            };
            continue;
        }
        let asks = line.strip_prefix(MARK).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if let Some(rest) = asks.filter(|_| fence.is_none()) {
            if found.len() == MOST {
                found.push(Err(NoCommand(format!("one comment may hold {MOST} commands; the rest is not read"))));
                break;
            }
            found.push(command(rest));
        }
    }
    found
}

/// The marks that open or close a code block, where a line begins with them.
fn fence_of(line: &str) -> Option<&str> {
    let text = line.trim_start_matches(' ');
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = text.len() - text.trim_start_matches(mark).len();
    (length >= 3 && line.len() - text.len() <= 3).then(|| &text[..length])
}

fn command(rest: &str) -> Result<CommentCommand, NoCommand> {
    if rest.chars().count() > LONGEST {
        return Err(NoCommand(format!("a command is at most {LONGEST} characters long")));
    }
    let rest = rest.trim();
    let (verb, rest) = rest.split_once(char::is_whitespace).map_or((rest, ""), |(verb, rest)| (verb, rest.trim()));
    let alone = |command: CommentCommand| match rest {
        "" => Ok(command),
        _ => Err(usage(verb)),
    };
    let with_words = |command: CommentCommand| if rest.is_empty() { Err(usage(verb)) } else { Ok(command) };
    match verb {
        "replan" => Ok(CommentCommand::Replan { change: rest.to_owned() }),
        "retry" => alone(CommentCommand::Retry),
        "cancel" => alone(CommentCommand::Cancel),
        "undo" => alone(CommentCommand::Undo),
        "unlock" => alone(CommentCommand::Unlock),
        "explain" => with_words(CommentCommand::Explain { task: rest.to_owned() }),
        "pause" => match rest.rsplit_once(char::is_whitespace) {
            Some((reason, until)) => {
                Ok(CommentCommand::Pause { reason: reason.trim().to_owned(), until: until.to_owned() })
            }
            None => Err(usage(verb)),
        },
        _ => Err(unknown(verb)),
    }
}

fn usage(verb: &str) -> NoCommand {
    let what = VERBS.iter().find(|(known, _)| *known == verb).map_or("", |(_, what)| what);
    NoCommand(format!("write `{}`", format!("{MARK} {verb} {what}").trim_end()))
}

fn unknown(verb: &str) -> NoCommand {
    let all: Vec<&str> = VERBS.iter().map(|(known, _)| *known).collect();
    NoCommand(match nearest(verb, all.iter().copied()) {
        Some(meant) => format!("there is no such command; did you mean `{MARK} {meant}`?"),
        None => format!("there is no such command; there are {}", all.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<CommentCommand, NoCommand> {
        let mut found = commands(line);
        assert_eq!(found.len(), 1, "{line}");
        found.remove(0)
    }

    #[test]
    fn each_verb_is_read_with_what_follows_it() {
        let words = |text: &str| text.to_owned();
        for (line, command) in [
            (
                "/chiffon replan only on nas01, please",
                CommentCommand::Replan { change: words("only on nas01, please") },
            ),
            ("/chiffon replan", CommentCommand::Replan { change: String::new() }),
            ("/chiffon  retry ", CommentCommand::Retry),
            ("/chiffon cancel", CommentCommand::Cancel),
            ("/chiffon undo\r", CommentCommand::Undo),
            ("/chiffon unlock", CommentCommand::Unlock),
            ("/chiffon explain kuma : wait", CommentCommand::Explain { task: words("kuma : wait") }),
            (
                "/chiffon pause the disk is full 3d",
                CommentCommand::Pause { reason: words("the disk is full"), until: words("3d") },
            ),
        ] {
            assert_eq!(one(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_its_own_or_only_shown_asks_for_nothing() {
        for body in [
            "please /chiffon cancel",
            " /chiffon cancel",
            "> /chiffon cancel",
            "/chiffonier cancel",
            "/CHIFFON cancel",
            "```\n/chiffon cancel\n```",
            "~~~~\n/chiffon cancel\n~~~\n/chiffon cancel\n~~~~",
            "````\n```\n/chiffon cancel",
            "",
        ] {
            assert_eq!(commands(body), [], "{body}");
        }
        assert_eq!(commands("hello\n```\ncode\n```\n/chiffon retry\n"), [Ok(CommentCommand::Retry)]);
    }

    #[test]
    fn a_mistake_is_answered_with_what_to_write() {
        let said = |line: &str| one(line).unwrap_err().0;
        assert!(said("/chiffon cancle").contains("did you mean `/chiffon cancel`?"));
        assert!(said("/chiffon").contains("there are replan, retry"));
        assert!(said("/chiffon xyzzy").contains("there are replan, retry"));
        assert_eq!(said("/chiffon pause 3d"), "write `/chiffon pause <reason> <until>`");
        assert_eq!(said("/chiffon explain"), "write `/chiffon explain <task>`");
        assert_eq!(said("/chiffon cancel now"), "write `/chiffon cancel`");
        assert!(said(&format!("/chiffon replan {}", "x".repeat(LONGEST))).contains("at most 1000"));
    }

    #[test]
    fn a_flood_of_commands_is_cut() {
        let found = commands(&"/chiffon retry\n".repeat(100));
        assert_eq!(found.len(), MOST + 1);
        assert!(found[MOST].is_err());
    }
}
