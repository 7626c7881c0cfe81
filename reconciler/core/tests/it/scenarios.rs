//! Scenario files with golden transcripts: `> event [request] [number]` is what happens, and the lines below it are what
//! follows: each action in order, and the state of each request that has another than before. After `>> event` nobody
//! looks: it and the next one are seen together. A file whose title begins with `DEFECT:` says what ought to follow.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use chiffon_core::{Action, State, Waiting};
use chiffon_schemas::Name;

use crate::model::Model;
use crate::plans::name;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// One ignored test for each scenario that does not go as it ought to, named as its file.
macro_rules! defects {
    ($($name:ident: $why:literal;)*) => {
        /// Scenarios whose transcript is what ought to be; each has its own test below.
        const DEFECTS: &[&str] = &[$(stringify!($name)),*];
        mod defects {
            $(#[test]
            #[ignore = $why]
            fn $name() {
                super::goes_as_it_says(&super::file(stringify!($name)));
            })*
        }
    };
}

defects! {}

fn file(test: &str) -> PathBuf {
    folder().join(format!("{}.txt", test.replace('_', "-")))
}

fn is_defect(file: &Path) -> bool {
    DEFECTS.iter().any(|test| self::file(test) == file)
}

fn goes_as_it_says(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(play(&text), text, "{}", file.display());
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Plays the events of a scenario and gives the whole file back as it should be.
fn play(text: &str) -> String {
    let mut model = Model::default();
    let mut known: BTreeMap<Name, String> = BTreeMap::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| line.starts_with(['#', '>']) || line.is_empty()) {
        writeln!(out, "{line}").unwrap();
        let unseen = line.starts_with(">>");
        let Some((_, event)) = line.split_once("> ") else { continue };
        let words: Vec<&str> = event.split(' ').collect();
        let number = words.last().and_then(|word| word.parse().ok());
        let request = words.get(1).filter(|word| word.parse::<i64>().is_err()).copied().unwrap_or("kuma");
        if !model.happen(words[0], &name(request), number.unwrap_or(1)) {
            writeln!(out, "  nothing comes of it").unwrap();
        }
        if !unseen {
            settle(&mut model, &mut known, &mut out);
        }
    }
    out
}

fn settle(model: &mut Model, known: &mut BTreeMap<Name, String>, out: &mut String) {
    let names: Vec<Name> = model.facts.keys().cloned().collect();
    let several = names.len() > 1;
    for name in names {
        let prefix = if several { format!("{name}: ") } else { String::new() };
        for action in model.settle(&name) {
            writeln!(out, "  {prefix}{}", action_in_words(&action)).unwrap();
        }
        let state = state_in_words(&model.state(&name));
        if known.get(&name) != Some(&state) {
            writeln!(out, "  {prefix}= {state}").unwrap();
            known.insert(name, state);
        }
    }
}

fn action_in_words(action: &Action) -> String {
    match action {
        Action::Plan { reason } => format!("plan ({})", reason.as_str()),
        Action::TakeEdit { blob: Some(_), .. } => "take the edit".to_owned(),
        Action::TakeEdit { blob: None, .. } => "take the edit that removed the plan".to_owned(),
        Action::Show { .. } => "show the offer".to_owned(),
        Action::Close { state, .. } => format!("close the offer: {}", state.as_str()),
        Action::RemoveBranch => "remove the branch".to_owned(),
        Action::Approve { .. } => "approve".to_owned(),
        Action::Refuse { reason, .. } => format!("refuse: {}", reason.as_str()),
        Action::AskForge => "ask the forge".to_owned(),
        Action::Propose { .. } => "propose it".to_owned(),
        Action::Order { step, attempt, hosts, .. } => {
            let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
            format!("order {step}/{attempt} on {}", hosts.join(" "))
        }
        Action::Grant { step, attempt } => format!("grant {step}/{attempt}"),
        Action::Drop { step, attempt, from } => format!("drop {step}/{attempt}, which was {}", from.as_str()),
        Action::Stop { step, attempt } => format!("stop {step}/{attempt}"),
        Action::Reorder { step, attempt, .. } => format!("order {step}/{attempt} again"),
        Action::Lose { step, attempt, from } => format!("lose {step}/{attempt}, which was {}", from.as_str()),
        Action::Finish { state } => format!("finish: {}", state.as_str()),
        Action::Void { reason } => format!("void the run: {}", reason.as_str()),
        Action::EndPause => "end the pause".to_owned(),
    }
}

fn state_in_words(state: &State) -> String {
    let reason = match state {
        State::Planning(reason) => reason.as_str().to_owned(),
        State::Blocked(reason) => serde_json::to_value(reason).unwrap()["kind"].as_str().unwrap().to_owned(),
        State::Refused(reason) => reason.as_str().to_owned(),
        State::Paused(Waiting::HostLocked { host, holder }) => format!("{host} is locked by {}", holder.request),
        State::Paused(Waiting::AgentOffline) => "no agent".to_owned(),
        State::Paused(Waiting::Person { reason, .. }) => reason.clone(),
        _ => return state.word().to_owned(),
    };
    format!("{} ({reason})", state.word())
}

#[test]
fn every_scenario_goes_as_its_transcript_says() {
    let files = files();
    assert!(files.len() >= 40, "{} scenarios", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} has no title", file.display());
        assert_eq!(text.starts_with("# DEFECT: "), is_defect(&file), "{}: title and list differ", file.display());
        if !is_defect(&file) {
            goes_as_it_says(&file);
        }
    }
}

/// `cargo test -p chiffon-core --test it -- --ignored write_the_transcripts`, and then read every line that changed.
#[test]
#[ignore = "writes the transcripts instead of comparing them"]
fn write_the_transcripts() {
    // What ought to be is written by hand.
    for file in files().into_iter().filter(|file| !is_defect(file)) {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, play(&text)).unwrap();
    }
}

#[test]
fn every_event_that_a_scenario_can_name_is_played_somewhere() {
    let all: String = files().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for event in crate::events::EVENTS {
        assert!(
            all.lines()
                .any(|line| line.split_once("> ").is_some_and(|(_, rest)| rest.split(' ').next() == Some(event))),
            "{event}"
        );
    }
}
