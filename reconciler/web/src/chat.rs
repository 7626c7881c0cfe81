//! `POST /api/v1/chat`: a sentence becomes a request, and what follows in the same conversation an answer, a change, or a
//! look at how it stands. Nothing here approves: that is a merge.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chiffon_core::facts::{Blocked, Question, RequestFacts, World};
use chiffon_core::{Command, CommandAnswer, Person, State as Stands, answers_to};
use chiffon_schemas::{Mode, Name, Oid, Request, RiskLevel, Scope};
use chiffon_store::{RepositoryId, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use crate::Context;
use crate::door::Refused;

/// How long somebody waits for what they asked for to be written, and then for a plan.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
const PLANNED_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The longest message, in characters: as long as a request's sentence.
const MAX_MESSAGE: usize = 4_000;

/// What somebody says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatQuestion {
    /// What is wanted, in words. In a conversation: `status`; an answer to what was asked, `ID=VALUE` where there are several
    /// questions, one a line; or a change.
    #[schemars(length(min = 1, max = 4000))]
    pub message: String,
    /// The conversation that it goes on with: as the first answer named it.
    #[serde(default)]
    pub conversation: Option<String>,
    /// `check` only to see what it would change. It is said with the sentence that a conversation begins with.
    #[serde(default)]
    pub mode: Option<Mode>,
}

/// How it stands.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatAnswer {
    /// The conversation: the request's name.
    pub conversation: Name,
    /// What became of the message, in a sentence.
    pub said: String,
    /// The request's state; absent until it is on `main`.
    pub state: Option<String>,
    /// Why it is in that state; empty where the word says it all.
    pub why: String,
    /// What a person would do next.
    pub next: String,
    /// What is asked back.
    pub questions: Vec<ChatAsked>,
    /// The plan on offer, or that ran last.
    pub plan: Option<ChatPlan>,
    /// The pull request to merge.
    pub pull: Option<ChatPull>,
}

/// A question back.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatAsked {
    /// What an answer begins with: `ID=VALUE`.
    pub id: String,
    /// The question.
    pub text: String,
    /// The answers to choose from; empty where any will do.
    pub choices: Vec<String>,
}

/// A plan.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatPlan {
    /// Its object id.
    pub oid: Oid,
    /// Its number among the request's plans.
    pub revision: u32,
    /// What it does, in a line.
    pub summary: String,
    /// How dangerous it is, by rules.
    pub risk: RiskLevel,
    /// The hosts that it touches.
    pub hosts: Vec<String>,
}

/// A pull request.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatPull {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// Why, and what to do.
    pub error: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Problem { error: self.why })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Refused {
    Refused { status, why: why.into(), after: None }
}

fn busy(why: &str) -> Refused {
    Refused { after: Some(Duration::from_secs(5)), ..refuse(StatusCode::SERVICE_UNAVAILABLE, why) }
}

fn broken(error: &chiffon_store::Error) -> Refused {
    tracing::warn!(%error, "a message could not be answered");
    busy("the store failed: try again")
}

pub(crate) async fn chat(
    State(context): State<Context>,
    headers: HeaderMap,
    question: Result<Json<ChatQuestion>, JsonRejection>,
) -> Result<Json<ChatAnswer>, Refused> {
    let person = context.door.admit(&headers, Scope::Chat, Instant::now())?;
    let Json(question) = question.map_err(|why| refuse(StatusCode::BAD_REQUEST, why.body_text()))?;
    let message = question.message.trim();
    if message.is_empty() || message.chars().count() > MAX_MESSAGE {
        return Err(refuse(StatusCode::BAD_REQUEST, format!("a message has 1 to {MAX_MESSAGE} characters")));
    }
    if let Some(found) = message.chars().find(|c| !can_stand(*c)) {
        let why = format!("the message holds U+{:04X}, which no file of text can hold: leave it out", u32::from(found));
        return Err(refuse(StatusCode::BAD_REQUEST, why));
    }
    let Ok(_room) = context.talking.try_acquire() else { return Err(busy("too many talk at once: try again")) };
    let Some((store, repository)) = context.store.get() else { return Err(busy("the store is not open yet")) };
    let talk = Talk { context: &context, store, repository: *repository, person };
    match question.conversation {
        None => talk.begin(message, question.mode.unwrap_or_default()).await.map(Json),
        Some(_) if question.mode.is_some() => {
            let why = "the mode of a request is said with its first message: change it in its file";
            Err(refuse(StatusCode::BAD_REQUEST, why))
        }
        Some(name) => {
            let known = Name::parse(name).ok();
            let name = known.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "there is no such conversation"))?;
            talk.go_on(name, message).await.map(Json)
        }
    }
}

/// One person's message.
struct Talk<'a> {
    context: &'a Context,
    store: &'a Arc<dyn Store>,
    repository: RepositoryId,
    person: Person,
}

impl Talk<'_> {
    /// A new request.
    async fn begin(&self, message: &str, mode: Mode) -> Result<ChatAnswer, Refused> {
        let mut request = Request::from_text(message);
        request.spec.mode = mode;
        let bytes = chiffon_schemas::to_yaml(&request);
        if let Err(found) = chiffon_schemas::read_request("message", bytes.as_bytes()) {
            let texts: Vec<String> = found.iter().map(|found| found.message.clone()).collect();
            return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, texts.join("; ")));
        }
        let command = Command::Submit { request: Box::new(request), by: self.person.clone() };
        let answer = self.have_done(&command).await?;
        let Some(name) = answer.request.clone().filter(|_| answer.done) else {
            return Err(refuse(StatusCode::CONFLICT, answer.message));
        };
        self.stands(&name, answer, |_| true).await
    }

    /// A message about a request that is there.
    async fn go_on(&self, name: Name, message: &str) -> Result<ChatAnswer, Refused> {
        let (facts, state) = self.look(&name).await?.ok_or_else(|| {
            refuse(
                StatusCode::NOT_FOUND,
                "there is no such conversation; one whose pull request is not merged yet is none",
            )
        })?;
        if is_status(message) {
            return self.stands(&name, CommandAnswer::yes(""), |_| true).await;
        }
        let by = self.person.clone();
        let command = match &state {
            Stands::Blocked(Blocked::Questions { questions }) => match answers_in(message, questions) {
                Ok(answers) => Command::Answer { name: name.clone(), answers, by },
                Err(why) => return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, why)),
            },
            _ => Command::Amend { name: name.clone(), change: message.to_owned(), by, comment: None },
        };
        let before = facts.file.oid().cloned();
        let answer = self.have_done(&command).await?;
        if !answer.done {
            return Err(refuse(StatusCode::CONFLICT, answer.message));
        }
        let waits = answer.pull.is_some();
        self.stands(&name, answer, move |facts| waits || facts.file.oid() != before.as_ref()).await
    }

    /// Leaves a command for the loop, and waits for its answer.
    async fn have_done(&self, command: &Command) -> Result<CommandAnswer, Refused> {
        let (store, now) = (self.store, (self.context.now)());
        let id = store.command(self.repository, &command.to_json(), now).await.map_err(|error| broken(&error))?;
        (self.context.wake)();
        let asked = Instant::now();
        while asked.elapsed() < WRITTEN_WITHIN {
            let row = store.command_by_id(id).await.map_err(|error| broken(&error))?;
            if let Some(answer) = row.and_then(|row| row.answer) {
                return serde_json::from_value(answer).map_err(|_| busy("the answer can't be read"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(busy("it is noted and will be done; ask again with the same words"))
    }

    async fn look(&self, name: &Name) -> Result<Option<(RequestFacts, Stands)>, Refused> {
        let facts = self.store.facts(self.repository, name).await.map_err(|error| broken(&error))?;
        let Some(facts) = facts else { return Ok(None) };
        let ground = self.store.ground(self.repository).await.map_err(|error| broken(&error))?;
        let now = (self.context.now)();
        let world = World {
            now,
            listening_since: now,
            infra: ground.cursor.infra,
            locks: ground.locks,
            agents: ground.agents,
            load: ground.load,
            policy: chiffon_core::Policy::default(),
            forge: None,
        };
        let state = chiffon_core::state(&facts, &world);
        Ok(Some((facts, state)))
    }

    /// How a request stands, once what was written was seen and planned, or that takes too long.
    async fn stands(
        &self,
        name: &Name,
        answer: CommandAnswer,
        is_seen: impl Fn(&RequestFacts) -> bool,
    ) -> Result<ChatAnswer, Refused> {
        let asked = Instant::now();
        let found = loop {
            let found = self.look(name).await?;
            let settled = found.as_ref().is_some_and(|(facts, state)| {
                is_seen(facts) && !matches!(state, Stands::Planning(_)) && self.is_shown(facts, state)
            });
            if settled || answer.pull.is_some() || asked.elapsed() > PLANNED_WITHIN {
                break found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let pull = answer.pull.map(|(number, url)| ChatPull { number, url });
        Ok(match found {
            None => ChatAnswer {
                conversation: name.clone(),
                said: answer.message,
                state: None,
                why: String::new(),
                next: String::new(),
                questions: Vec::new(),
                plan: None,
                pull,
            },
            Some((facts, state)) => self.in_words(&facts, &state, answer.message, pull),
        })
    }

    /// Whether people can see the offer already.
    fn is_shown(&self, facts: &RequestFacts, state: &Stands) -> bool {
        let Some(offer) = chiffon_core::open_offer(facts).filter(|_| *state == Stands::Proposed) else { return true };
        match self.context.has_forge {
            true => facts.pull.as_ref().is_some_and(|pull| pull.plan == offer.plan_oid),
            false => offer.branch_commit.is_some(),
        }
    }

    fn in_words(&self, facts: &RequestFacts, state: &Stands, said: String, pull: Option<ChatPull>) -> ChatAnswer {
        let (why, next) = (self.context.words)(state, facts);
        let questions = match state {
            Stands::Blocked(Blocked::Questions { questions }) => questions.iter().map(asked).collect(),
            _ => Vec::new(),
        };
        let plan = chiffon_core::open_offer(facts)
            .map(|offer| (&offer.plan_oid, &offer.plan))
            .or_else(|| facts.run.as_ref().map(|run| (&run.plan_oid, &run.plan)));
        let known = facts.pull.as_ref().map(|pull| ChatPull { number: pull.number, url: pull.url.clone() });
        ChatAnswer {
            conversation: facts.name.clone(),
            said,
            state: Some(state.word().to_owned()),
            why,
            next,
            questions,
            plan: plan.map(|(oid, plan)| ChatPlan {
                oid: oid.clone(),
                revision: plan.metadata.revision,
                summary: plan.spec.summary.clone(),
                risk: plan.spec.risk.level,
                hosts: plan.spec.touches.hosts.iter().map(ToString::to_string).collect(),
            }),
            pull: pull.or(known),
        }
    }
}

fn asked(question: &Question) -> ChatAsked {
    ChatAsked {
        id: question.id.clone(),
        text: question.text.clone(),
        choices: question.choices.iter().map(|(value, _)| value.clone()).collect(),
    }
}

/// Whether a character can stand in a request's file (YAML 1.2, 5.1).
fn can_stand(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// Whether a message only asks how it stands.
fn is_status(message: &str) -> bool {
    let word = message.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation()).to_lowercase();
    ["status", "how does it stand", "how is it going", ""].contains(&word.as_str())
}

/// Answers in a message, one a line.
fn answers_in(message: &str, questions: &[Question]) -> Result<std::collections::BTreeMap<String, String>, String> {
    let lines: Vec<String> =
        message.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    answers_to(&lines, questions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_how_it_stands_changes_nothing() {
        for message in ["status", "Status?", " status. ", "?", "How does it stand?"] {
            assert!(is_status(message), "{message}");
        }
        for message in ["status page on nas01", "only on nas01", "change the status"] {
            assert!(!is_status(message), "{message}");
        }
    }

    #[test]
    fn several_answers_are_one_a_line() {
        let question = |id: &str| Question { id: id.to_owned(), text: String::new(), choices: Vec::new() };
        let questions = [question("hosts"), question("port")];
        let answers = answers_in("hosts = nas01\n\nport=80\n", &questions).unwrap();
        assert_eq!((answers["hosts"].as_str(), answers["port"].as_str()), ("nas01", "80"));
        assert!(answers_in("nas01", &questions).unwrap_err().contains("ID=VALUE"));
        assert_eq!(answers_in("nas01", &questions[..1]).unwrap()["hosts"], "nas01");
    }
}
