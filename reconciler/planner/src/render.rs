//! `plans/…/<name>.md` and the body of a plan's pull request: our rendering of a plan for a reader, and nothing else.
//!
//! Everything that came from requests, repositories or runs is made inert here: no markup, mention, link or HTML of
//! theirs survives, and nothing can break out of a table cell.

use std::collections::BTreeMap;

use chiffon_schemas::{Evidence, Host, Json, Mode, Oid, Plan, PlannerKind, Request, RiskLevel, Step, Undo};

/// The longest body in bytes (DESIGN section 8); the folded details are cut to fit, and what stands before them only
/// where that alone is longer.
const MAX_BYTES: usize = 20 * 1024;

/// What may stand before the folded details at most, so that these have a place.
const MAX_HEAD_BYTES: usize = MAX_BYTES - 600;

/// Lines of the first screen, blank ones aside: all that is not folded. One of the 25 that it may have is left for why a
/// pull request is not to be merged now.
const SCREEN: usize = 24;

/// Lines of a request that are quoted, and characters of each: the rest of the screen is for what comes of it.
const MAX_QUOTED: usize = 4;
const MAX_QUOTED_CHARS: usize = 300;

/// Variables of which it is said where their values were found.
const MAX_FOUND: usize = 2;

/// Assumptions for which there is room in any case.
const MIN_ASSUMED: usize = 2;

/// Entries of a list that are shown.
const MAX_ENTRIES: usize = 40;

/// Backticks in a row that are shown: the fence around them is one longer.
const MAX_RUN: usize = 12;

/// What a plan in mode `check` is (N4).
const CHECK: &str = "**Check run**: `ansible-playbook --check --diff` is executed on these hosts, and is to change nothing. \
    Lookups run for real, and so do tasks that say `check_mode: false` (rule escapes-check-mode).\n\n";

/// What stands where something was cut.
const CUT: &str = "\n… cut here; the plan's file has everything\n";

/// Joins two characters without being seen.
const JOINER: char = '\u{2060}';

/// Renders a plan. Same arguments, same bytes.
pub fn render_markdown(plan: &Plan, evidence: Option<&Evidence>, request: &Request, plan_oid: &Oid) -> String {
    let mut out = head(plan, evidence, request, plan_oid);
    let rest = below_the_table(plan, evidence);
    let last = footer(plan, plan_oid);
    let assumptions = &plan.spec.assumptions;
    let mut room = SCREEN.saturating_sub(lines(&out) + lines(&rest) + lines(&last));
    let hosts = table(plan, evidence, room.saturating_sub(lines_of_list(assumptions.len().min(MIN_ASSUMED + 1))));
    room = room.saturating_sub(lines(&hosts));
    out.push_str(&hosts);
    out.push_str(&rest);
    let all_shown = assumed(assumptions, room, &mut out);
    shorten(&mut out, MAX_HEAD_BYTES - last.len());
    out.push_str(&last);
    details(plan, if all_shown { &[] } else { assumptions }, &mut out);
    out
}

/// The hosts of a plan: those of its steps, which is where people look for them, before those that tasks delegate to.
fn hosts_of(plan: &Plan) -> Vec<&Host> {
    let in_steps = |host: &Host| plan.spec.steps.iter().any(|step| step.limit.contains(host));
    let (mut hosts, others): (Vec<&Host>, Vec<&Host>) = plan.spec.touches.hosts.iter().partition(|host| in_steps(host));
    hosts.extend(others);
    hosts
}

/// Who asked for what, what it does, and how dangerous it is.
fn head(plan: &Plan, evidence: Option<&Evidence>, request: &Request, plan_oid: &Oid) -> String {
    let (spec, meta) = (&plan.spec, &plan.metadata);
    let mut out = format!(
        "<!-- chiffon:v1 request={} plan={} infra={} expires={} -->\n",
        meta.request.oid, plan_oid, spec.infra.commit, meta.expires
    );
    quote(request, &mut out);
    out.push_str(&format!("> ({}, {})\n\n", inert(meta.request.path.as_str(), 200), meta.request.oid.short()));
    out.push_str(&format!("**{}**\n\n", inert(&spec.summary, 400)));
    out.push_str(&verdict(plan, evidence));
    out.push_str("\n\n");
    if spec.mode == Mode::Check {
        out.push_str(CHECK);
    }
    destructive(plan, &mut out);
    out
}

/// What cannot be foreseen, secrets, found values, and the way back.
fn below_the_table(plan: &Plan, evidence: Option<&Evidence>) -> String {
    let mut out = String::new();
    unforeseen(evidence, &mut out);
    let secrets = &plan.spec.touches.secrets;
    if !secrets.is_empty() {
        let names = listed(secrets.iter().map(|name| inert(name, 120)));
        out.push_str(&format!("**Secrets used**: {names} (values stay on the agent)\n\n"));
    }
    found(plan, &mut out);
    out.push_str(&format!("**Undo**: {}\n\n", undo(&plan.spec.undo)));
    out
}

fn footer(plan: &Plan, plan_oid: &Oid) -> String {
    let until = plan.metadata.expires.to_string();
    format!(
        "Merging runs exactly plan `{}`, until {}. Closing rejects it. To change it, edit the request, or the steps of the \
         plan on its branch; on a forge, comment `/chiffon replan <change in words>`.\n",
        plan_oid.short(),
        until.split('T').next().unwrap_or(&until)
    )
}

fn lines(text: &str) -> usize {
    text.lines().filter(|line| !line.is_empty()).count()
}

/// The lines of a list beneath a heading.
fn lines_of_list(entries: usize) -> usize {
    if entries == 0 { 0 } else { entries + 1 }
}

/// What the planner took for granted, in so many lines at most; whether that was all of it.
fn assumed(notes: &[String], room: usize, out: &mut String) -> bool {
    if notes.is_empty() {
        return true;
    }
    let fits = notes.len() < room;
    let shown = if fits { notes.len() } else { room.saturating_sub(2).max(1) };
    out.push_str("**Assumed**:\n\n");
    for note in notes.iter().take(shown) {
        out.push_str(&format!("- {}\n", inert(note, 400)));
    }
    if let Some(more) = notes.len().checked_sub(shown).filter(|more| *more > 0) {
        out.push_str(&format!("- and {more} more, below\n"));
    }
    out.push('\n');
    fits
}

/// The request's words, as far as they leave room for the verdict.
fn quote(request: &Request, out: &mut String) {
    let texts = std::iter::once(&request.spec.text).chain(&request.spec.changes);
    let lines: Vec<&str> = texts.flat_map(|text| text.lines()).collect();
    for line in lines.iter().take(MAX_QUOTED) {
        out.push_str(&format!("> {}\n", inert(line, MAX_QUOTED_CHARS)));
    }
    if let Some(more) = lines.len().checked_sub(MAX_QUOTED).filter(|more| *more > 0) {
        out.push_str(&format!("> … and {} in the request\n", count(more, "more line")));
    }
}

/// Entries on one line, as many as are shown.
fn listed(entries: impl ExactSizeIterator<Item = String>) -> String {
    let more = entries.len().saturating_sub(MAX_ENTRIES);
    let shown: Vec<String> = entries.take(MAX_ENTRIES).collect();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!("{}{more}", shown.join(", "))
}

/// Cuts a text at the end of a line where it is longer than that.
fn shorten(out: &mut String, max: usize) {
    if out.len() <= max {
        return;
    }
    let room = max.saturating_sub(CUT.len() + 1);
    let end = out.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    out.truncate(end);
    out.push_str(CUT);
    out.push('\n');
}

fn verdict(plan: &Plan, evidence: Option<&Evidence>) -> String {
    let spec = &plan.spec;
    let level = match spec.risk.level {
        RiskLevel::Low => "Low",
        RiskLevel::Medium => "Medium",
        RiskLevel::High => "High",
    };
    let rules =
        if spec.risk.rules.is_empty() { "no rule applies".to_owned() } else { inert(&spec.risk.rules.join(", "), 400) };
    let mut parts = vec![format!("**{level} risk** ({rules})"), count(spec.touches.hosts.len(), "host")];
    parts.push(if is_destructive(plan) { "may destroy data".to_owned() } else { "nothing destroyed".to_owned() });
    if let Some(evidence) = evidence {
        let tasks: u32 = evidence.spec.hosts.values().map(|host| host.tasks).sum();
        let foreseen: u32 = evidence.spec.hosts.values().map(|host| host.foreseen).sum();
        parts.push(format!("up to {}", count(tasks as usize, "task")));
        parts.push(format!("{foreseen} of {tasks} foreseen"));
        if let Some(forecast) = &evidence.spec.forecast {
            parts.push(format!("about {} s (p90 {} s)", forecast.secs_p50, forecast.secs_p90));
        }
    }
    let cents = spec.planner.cost_microusd.div_ceil(10_000);
    let who = match spec.planner.kind {
        PlannerKind::Catalogue | PlannerKind::Undo => "no model",
        PlannerKind::Person => "edited by a person",
    };
    parts.push(format!("${}.{:02}, {who}", cents / 100, cents % 100));
    parts.push(format!("undo: {}", undo_in_short(&spec.undo)));
    parts.join(" · ")
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Whether something may be destroyed by a plan, as its rules say: by a check only where some of it may run for real.
pub fn is_destructive(plan: &Plan) -> bool {
    let may = plan.spec.mode == Mode::Apply || plan.runs_in_check();
    may && plan
        .spec
        .risk
        .rules
        .iter()
        .any(|rule| matches!(rule.as_str(), "destroys-data" | "deletes-files" | "changes-disks"))
}

fn destructive(plan: &Plan, out: &mut String) {
    if !is_destructive(plan) {
        return;
    }
    let rules: Vec<&String> = plan
        .spec
        .risk
        .rules
        .iter()
        .filter(|rule| matches!(rule.as_str(), "destroys-data" | "deletes-files" | "changes-disks"))
        .collect();
    let rules: Vec<String> = rules.into_iter().map(|rule| inert(rule, 60)).collect();
    let step = |step: &Step| format!("{} ({})", step.id, inert(step.playbook.as_str(), 200));
    let steps = listed(plan.spec.steps.iter().map(step));
    out.push_str(&format!("**Destructive** ({}): {steps}\n\n", rules.join(", ")));
}

/// A row for each host, in so many lines at most; the details name the others.
fn table(plan: &Plan, evidence: Option<&Evidence>, room: usize) -> String {
    let mut out = "| host | tasks | foreseen | steps | opens |\n|---|---|---|---|---|\n".to_owned();
    let hosts = hosts_of(plan);
    let rows = room.saturating_sub(2).max(2);
    let shown = if hosts.len() <= rows { hosts.len() } else { rows - 1 };
    for host in hosts.iter().copied().take(shown) {
        let known = evidence.and_then(|evidence| evidence.spec.hosts.get(host));
        let (tasks, foreseen) = match known {
            Some(known) => (format!("up to {}", known.tasks), known.foreseen.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let steps: Vec<&str> =
            plan.spec.steps.iter().filter(|step| step.limit.contains(host)).map(|step| step.id.as_str()).collect();
        let steps = if steps.is_empty() { "by delegation".to_owned() } else { steps.join(", ") };
        let opens = ports_of(&plan.spec.touches.ports, host);
        out.push_str(&format!(
            "| {} | {tasks} | {foreseen} | {steps} | {} |\n",
            inert(host.as_str(), 120),
            inert(&opens, 200)
        ));
    }
    if let Some(more) = hosts.len().checked_sub(shown).filter(|more| *more > 0) {
        out.push_str(&format!("| … and {more} more | | | | the plan's file names all of them |\n"));
    }
    out.push('\n');
    out
}

fn ports_of(ports: &[String], host: &Host) -> String {
    let prefix = format!("{host}:");
    let found: Vec<&str> = ports.iter().filter_map(|port| port.strip_prefix(&prefix)).collect();
    if found.is_empty() { "-".to_owned() } else { found.join(", ") }
}

fn unforeseen(evidence: Option<&Evidence>, out: &mut String) {
    let Some(opaque) = evidence.map(|evidence| &evidence.spec.opaque).filter(|opaque| !opaque.is_empty()) else {
        return;
    };
    let shown: Vec<String> =
        opaque.iter().take(30).map(|task| format!("{} ({})", inert(&task.task, 120), inert(&task.why, 120))).collect();
    let more = opaque.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    out.push_str(&format!("**Cannot be foreseen** ({}): {}{more}\n\n", opaque.len(), shown.join(", ")));
}

fn found(plan: &Plan, out: &mut String) {
    let all: Vec<_> =
        plan.spec.steps.iter().flat_map(|step| step.found.iter().map(move |found| (step, found))).collect();
    let shown = if all.len() <= MAX_FOUND { all.len() } else { MAX_FOUND - 1 };
    for (step, (name, places)) in all.iter().take(shown) {
        let value = step.vars.get(*name).and_then(Json::as_array);
        let names = value.map(|items| {
            let name_of = |item: &Json| {
                item.get("name").or_else(|| item.get("title")).and_then(Json::as_str).map(|n| inert(n, 60))
            };
            listed(items.iter().filter_map(name_of).collect::<Vec<_>>().into_iter())
        });
        let places = listed(places.iter().map(|place| inert(place, 200)));
        let names = names.filter(|names| !names.is_empty()).unwrap_or_else(|| "values".to_owned());
        out.push_str(&format!("**Found for {}**: {names} ({})\n\n", inert(name, 120), places));
    }
    let more: Vec<String> = all.iter().skip(shown).map(|(_, (name, _))| inert(name, 120)).collect();
    if !more.is_empty() {
        out.push_str(&format!("**Found as well**: values for {}\n\n", listed(more.into_iter())));
    }
}

fn undo_in_short(undo: &Undo) -> String {
    match undo {
        Undo::Playbook { tested: true, .. } => "playbook, tested".to_owned(),
        Undo::Playbook { tested: false, .. } => "playbook, untested".to_owned(),
        Undo::None { .. } => "none known".to_owned(),
    }
}

fn undo(undo: &Undo) -> String {
    match undo {
        Undo::Playbook { playbook, tested } => {
            let tested = if *tested { "has succeeded on these hosts before" } else { "never tried here" };
            format!("{} ({tested})", inert(playbook.as_str(), 200))
        }
        Undo::None { reason } => inert(reason, 300),
    }
}

fn details(plan: &Plan, assumptions: &[String], out: &mut String) {
    const END: &str = "</details>\n";
    let mut body = String::new();
    for step in &plan.spec.steps {
        let hosts: Vec<&str> = step.limit.iter().map(Host::as_str).collect();
        let needs: Vec<&str> = step.needs.iter().map(|need| need.as_str()).collect();
        body.push_str(&format!("{}: {} on {}\n", step.id, step.playbook, hosts.join(", ")));
        if !needs.is_empty() {
            body.push_str(&format!("  after: {}\n", needs.join(", ")));
        }
        body.push_str(&format!("  at most: {} s\n", step.timeout_secs));
        for (name, value) in &step.vars {
            body.push_str(&format!("  {name}: {value}\n"));
        }
    }
    body.push_str("hosts:\n");
    for host in hosts_of(plan) {
        body.push_str(&format!("  {host}, opens {}\n", ports_of(&plan.spec.touches.ports, host)));
    }
    if !assumptions.is_empty() {
        body.push_str("assumed:\n");
        body.extend(assumptions.iter().map(|note| format!("  {}\n", note.replace('\n', " "))));
    }
    body.push_str("depends on:\n");
    let reads: BTreeMap<String, String> =
        plan.spec.reads.iter().map(|(path, pin)| (path.to_string(), String::from(pin.clone()))).collect();
    for (path, pin) in reads {
        body.push_str(&format!("  {path}: {}\n", pin.get(..8).unwrap_or(&pin)));
    }
    let body: String = body.chars().map(|c| if is_shown(c) || c == '\n' { c } else { '\u{fffd}' }).collect();
    let body = broken_runs(&body);
    let fence = "`".repeat(longest_run(&body, '`').max(2) + 1);
    let room = MAX_BYTES.saturating_sub(out.len() + 200);
    let mut end = body.len().min(room);
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    let mark = if end < body.len() { CUT } else { "" };
    out.push_str(&format!(
        "\n<details><summary>Steps, variables and what they depend on</summary>\n\n{fence}text\n{}{mark}{fence}\n\n{END}",
        &body[..end]
    ));
}

/// A text without longer runs of backticks than a fence has room for.
fn broken_runs(text: &str) -> String {
    let mut run = 0;
    text.chars()
        .map(|c| {
            run = if c == '`' { run + 1 } else { 0 };
            if run > MAX_RUN { '\u{fffd}' } else { c }
        })
        .collect()
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Whether a character may be shown at all: no control characters, and nothing that turns or hides text.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

/// A line for a title or a commit, where nothing but mentions and references has an effect: `Closes #1` of a merged commit
/// closes an issue.
pub fn inert_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // And `[skip ci]` skips what somebody relies on.
            '@' | '#' | '[' => out.extend([c, JOINER]),
            // Forges take `!1` and `GH-1` for references as well.
            '!' => out.extend([c, JOINER]),
            '-' if out.to_ascii_lowercase().ends_with("gh") => out.extend([JOINER, c]),
            c if is_shown(c) => out.push(c),
            _ => out.push(' '),
        }
    }
    out.replace("://", ":\u{2060}//")
}

/// One line of foreign text without any effect: HTML and Markdown escaped, mentions and references broken, cut at `max`
/// characters with a mark.
pub fn inert(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    for c in chars.by_ref().take(max) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Forges look for mentions and references in what is rendered, where an escape or an entity is gone again;
            // a word joiner, which nobody sees, stays between the mark and the word.
            '@' | '#' => {
                out.push(c);
                out.push(JOINER);
            }
            '!' => {
                out.push_str("\\!");
                out.push(JOINER);
            }
            '|' => out.push_str("&#124;"),
            '`' => out.push_str("&#96;"),
            '\\' | '*' | '[' | ']' | '(' | ')' | '~' | '{' | '}' | '$' | '^' | '=' => {
                out.push('\\');
                out.push(c);
            }
            '_' => out.push_str("\\_"),
            c if !is_shown(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    // Commands of bots and list or quote marks only count where a line begins.
    let number = out.trim_start_matches(|c: char| c.is_ascii_digit());
    let leads = out.starts_with(['/', '-', '+', '.']) || (number.len() < out.len() && number.starts_with(['.', '\\']));
    // "Closes 12" closes an issue on some forges only with `#`; `www.` is linked without any mark.
    let out = out.replace("www.", "www\u{2060}.").replace("://", ":\u{2060}//");
    if leads { format!("{JOINER}{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_foreign_text_has_no_effect() {
        let hostile = "<script>x</script> @admin Closes #1 | `code` [a](javascript:x) ![i](u) **b** www.x.y https://a.b \u{202e}\u{1b}[31m";
        let shown = inert(hostile, 500);
        for mark in ["<", "@admin", "Closes #1", "| ", "`", "](", "**", "www.", "://", "\u{202e}", "\u{1b}"] {
            assert!(!shown.contains(mark), "{mark:?} in {shown}");
        }
        assert!(!inert("/merge now", 50).starts_with('/'));
        assert_eq!(inert("abcdef", 3), "abc…");
    }

    #[test]
    fn s9_a_title_and_a_commit_mention_and_close_nothing() {
        let shown = inert_line("Closes #1, fixes ops/x#2, GH-3 !4 @ann\nhttps://a.b/ops/x/issues/5 x\u{202e}y");
        for mark in ["#1", "#2", "GH-3", "!4", "@ann", "\n", "://", "\u{202e}"] {
            assert!(!shown.contains(mark), "{mark:?} in {shown}");
        }
        assert_eq!(inert_line("Deploy Uptime Kuma on nas01"), "Deploy Uptime Kuma on nas01");
    }

    #[test]
    fn a_fence_is_longer_than_any_run_inside() {
        assert_eq!(longest_run("a``b````c", '`'), 4);
    }
}
