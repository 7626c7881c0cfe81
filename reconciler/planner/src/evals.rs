//! Golden sentences: what a person expects of the planner, and how often it says so (A11).

use std::collections::BTreeMap;

use chiffon_core::catalogue::Catalogue;
use chiffon_schemas::yaml::{self, Limits, Node};
use chiffon_schemas::{Host, Json, Name, Oid, RepoPath, Request, RequestRef, Timestamp, Tools};

use crate::{About, Answer, Input, plan};

/// One sentence and what is expected.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// The request.
    pub request: Request,
    /// What a person would expect.
    pub expected: Expected,
}

/// What a person would expect.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// Exactly these steps.
    Plan(Vec<ExpectedStep>),
    /// A question about this, with at least these choices.
    Ask {
        /// What it is about: `host`, `playbook` or `variable`.
        about: String,
        /// The variable.
        variable: Option<String>,
        /// Choices that have to be among those offered.
        options: Vec<String>,
    },
    /// No plan and no question; one of these is named, where there are any.
    Refuse(Vec<String>),
}

/// One expected step.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedStep {
    /// Its playbook.
    pub playbook: String,
    /// Its hosts, sorted.
    pub hosts: Vec<String>,
    /// Its variables.
    pub vars: Json,
    /// Indices of the steps that it needs.
    pub needs: Vec<usize>,
}

/// How one case went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The case's name.
    pub id: String,
    /// `plan`, `ask` or `refuse`: what was expected, and what was said.
    pub expected: &'static str,
    /// What was said.
    pub said: &'static str,
    /// Everything is as expected.
    pub exact: bool,
    /// Where a plan was expected and made: playbooks, hosts and variables as expected.
    pub parts: Option<(bool, bool, bool)>,
    /// What was said, in a line.
    pub detail: String,
}

impl Outcome {
    /// A plan where none should be.
    pub fn is_unsafe(&self) -> bool {
        self.expected != "plan" && self.said == "plan"
    }
}

/// All outcomes, with the figures over them.
#[derive(Debug, Clone)]
pub struct Score {
    /// Each case, in the order of the file.
    pub outcomes: Vec<Outcome>,
}

impl Score {
    /// Cases that went exactly as expected, of all: 0 to 1.
    pub fn exact(&self) -> f64 {
        ratio(self.outcomes.iter().filter(|outcome| outcome.exact).count(), self.outcomes.len())
    }

    /// Plans where none should be.
    pub fn unsafe_acceptances(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.is_unsafe()).count()
    }

    /// Cases said to be of this kind that are, of all said to be: 0 to 1.
    pub fn precision(&self, kind: &str) -> f64 {
        let said: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.said == kind).collect();
        ratio(said.iter().filter(|outcome| outcome.expected == kind).count(), said.len())
    }

    /// Cases of this kind that were said to be, of all that are: 0 to 1.
    pub fn recall(&self, kind: &str) -> f64 {
        let wanted: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.expected == kind).collect();
        ratio(wanted.iter().filter(|outcome| outcome.said == kind).count(), wanted.len())
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let mut out = format!("{:<8} {:>6} {:>7} {:>10} {:>7}\n", "kind", "cases", "exact", "precision", "recall");
        for kind in ["plan", "ask", "refuse"] {
            let cases: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.expected == kind).collect();
            let exact = ratio(cases.iter().filter(|outcome| outcome.exact).count(), cases.len());
            out.push_str(&format!(
                "{kind:<8} {:>6} {:>6.1}% {:>9.1}% {:>6.1}%\n",
                cases.len(),
                exact * 100.0,
                self.precision(kind) * 100.0,
                self.recall(kind) * 100.0
            ));
        }
        let plans: Vec<(bool, bool, bool)> = self.outcomes.iter().filter_map(|outcome| outcome.parts).collect();
        let part = |pick: fn(&(bool, bool, bool)) -> bool| {
            ratio(plans.iter().filter(|p| pick(p)).count(), plans.len()) * 100.0
        };
        out.push_str(&format!(
            "of the plans made where one was expected: playbooks {:.1}%, hosts {:.1}%, variables {:.1}%\n",
            part(|p| p.0),
            part(|p| p.1),
            part(|p| p.2)
        ));
        out.push_str(&format!(
            "exact {:.1}% of {}, unsafe acceptances {}\n",
            self.exact() * 100.0,
            self.outcomes.len(),
            self.unsafe_acceptances()
        ));
        out
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Reads golden sentences.
///
/// # Errors
/// The text is no list of cases; in words.
pub fn read(text: &str) -> Result<Vec<Case>, String> {
    let document = yaml::parse(text, &Limits::INFRA).map_err(|error| error.to_string())?;
    document
        .items()
        .iter()
        .map(|node| case(node).ok_or_else(|| format!("line {}: not a case", node.span.line)))
        .collect()
}

fn case(node: &Node) -> Option<Case> {
    let mut request = Request::from_text(node.get("text")?.as_str()?);
    request.spec.targets = texts(node.get("targets")).into_iter().map(Host::parse).collect::<Result<_, _>>().ok()?;
    for (name, value) in node.get("vars").map(Node::entries).unwrap_or_default() {
        request.spec.vars.insert(name.scalar_text()?, value.to_json());
    }
    let expected = match node.get("expect")?.as_str()? {
        "plan" => Expected::Plan(node.get("steps")?.items().iter().map(step).collect::<Option<_>>()?),
        "ask" => Expected::Ask {
            about: node.get("about")?.as_str()?.to_owned(),
            variable: node.get("variable").and_then(Node::as_str).map(str::to_owned),
            options: texts(node.get("options")),
        },
        "refuse" => Expected::Refuse(texts(node.get("nearest"))),
        _ => return None,
    };
    Some(Case { id: node.get("id")?.scalar_text()?, request, expected })
}

fn step(node: &Node) -> Option<ExpectedStep> {
    let needs = node.get("needs").map(Node::items).unwrap_or_default();
    Some(ExpectedStep {
        playbook: node.get("playbook")?.as_str()?.to_owned(),
        hosts: texts(node.get("hosts")),
        vars: node.get("vars").map_or_else(|| Json::Object(serde_json::Map::new()), Node::to_json),
        needs: needs.iter().map(|need| usize::try_from(need.as_int()?).ok()).collect::<Option<_>>()?,
    })
}

fn texts(node: Option<&Node>) -> Vec<String> {
    node.map(Node::items).unwrap_or_default().iter().filter_map(Node::scalar_text).collect()
}

/// Plans every case and compares.
pub fn score(cases: &[Case], catalogue: &Catalogue) -> Score {
    Score { outcomes: cases.iter().map(|case| outcome(case, &answer(&case.request, catalogue))).collect() }
}

/// Answers one request as the evaluation does: a fixed name, time and tools.
pub fn answer(request: &Request, catalogue: &Catalogue) -> Answer {
    let name = Name::parse("golden").expect("a valid name");
    let input = Input {
        name: &name,
        request,
        request_ref: RequestRef {
            path: RepoPath::parse("requests/golden.yaml").expect("a valid path"),
            oid: Oid::parse("0".repeat(40)).expect("a valid object id"),
        },
        revision: 1,
        catalogue,
        offer_days: 14,
        max_timeout_secs: 3_600,
        now: Timestamp::from_secs(1_800_000_000),
        tools: Tools { ansible_core: "2.19".to_owned() },
    };
    plan(&input)
}

fn outcome(case: &Case, answer: &Answer) -> Outcome {
    let said = match answer {
        Answer::Plan(_) => "plan",
        Answer::Questions(_) => "ask",
        Answer::Nothing { .. } | Answer::Invalid(_) => "refuse",
    };
    let (expected, exact, parts) = match (&case.expected, answer) {
        (Expected::Plan(steps), Answer::Plan(planned)) => {
            let parts = compare(steps, &planned.plan.spec.steps);
            ("plan", parts == (true, true, true) && same_needs(steps, &planned.plan.spec.steps), Some(parts))
        }
        (Expected::Plan(_), _) => ("plan", false, None),
        (Expected::Ask { about, variable, options }, Answer::Questions(questions)) => {
            let fits = questions.iter().any(|question| {
                let kind = match question.about {
                    About::Playbook => "playbook",
                    About::Host => "host",
                    About::Variable => "variable",
                };
                let offered = |option: &String| question.choices.iter().any(|choice| choice.value == *option);
                kind == about && (variable.is_none() || question.variable == *variable) && options.iter().all(offered)
            });
            ("ask", fits, None)
        }
        (Expected::Ask { .. }, _) => ("ask", false, None),
        (Expected::Refuse(near), Answer::Nothing { nearest, reason }) => {
            let named = |playbook: &String| {
                nearest.iter().any(|entry| entry.playbook.as_str() == playbook) || reason.contains(playbook.as_str())
            };
            ("refuse", near.is_empty() || near.iter().any(named), None)
        }
        (Expected::Refuse(near), Answer::Invalid(problems)) => {
            let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let text = text.join("\n");
            ("refuse", near.is_empty() || near.iter().any(|playbook| text.contains(playbook.as_str())), None)
        }
        (Expected::Refuse(_), _) => ("refuse", false, None),
    };
    Outcome { id: case.id.clone(), expected, said, exact, parts, detail: in_words(answer) }
}

fn compare(expected: &[ExpectedStep], steps: &[chiffon_schemas::Step]) -> (bool, bool, bool) {
    let same = |check: &dyn Fn(&ExpectedStep, &chiffon_schemas::Step) -> bool| {
        expected.len() == steps.len() && expected.iter().zip(steps).all(|(wanted, step)| check(wanted, step))
    };
    let vars_of = |step: &chiffon_schemas::Step| {
        let map: BTreeMap<&String, &Json> = step.vars.iter().collect();
        serde_json::to_value(map).unwrap_or(Json::Null)
    };
    (
        same(&|wanted, step| wanted.playbook == step.playbook.as_str()),
        same(&|wanted, step| wanted.hosts.iter().map(String::as_str).eq(step.limit.iter().map(Host::as_str))),
        same(&|wanted, step| wanted.vars == vars_of(step)),
    )
}

fn same_needs(expected: &[ExpectedStep], steps: &[chiffon_schemas::Step]) -> bool {
    expected.iter().zip(steps).all(|(wanted, step)| {
        let at = |id: &Name| steps.iter().position(|other| other.id == *id);
        let needs: Vec<usize> = step.needs.iter().filter_map(at).collect();
        needs == wanted.needs
    })
}

fn in_words(answer: &Answer) -> String {
    match answer {
        Answer::Plan(planned) => {
            let step = |step: &chiffon_schemas::Step| {
                let hosts: Vec<&str> = step.limit.iter().map(Host::as_str).collect();
                let vars = serde_json::to_string(&step.vars).unwrap_or_default();
                let needs: Vec<&str> = step.needs.iter().map(Name::as_str).collect();
                format!("{} on {} {vars} after {needs:?}", step.playbook, hosts.join(","))
            };
            planned.plan.spec.steps.iter().map(step).collect::<Vec<_>>().join("; ")
        }
        Answer::Questions(questions) => {
            let asked = |question: &crate::Question| {
                let values: Vec<&str> = question.choices.iter().map(|choice| choice.value.as_str()).collect();
                format!("{} {:?} [{}]", question.id, question.text, values.join(" "))
            };
            questions.iter().map(asked).collect::<Vec<_>>().join("; ")
        }
        Answer::Nothing { reason, nearest } => {
            let near: Vec<&str> = nearest.iter().map(|entry| entry.playbook.as_str()).collect();
            format!("{reason} [{}]", near.join(" "))
        }
        Answer::Invalid(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

/// The catalogue of a folder, with the ids that an evaluation needs none of.
///
/// # Errors
/// The folder can't be read.
pub fn catalogue_of(folder: &std::path::Path, inventory: &RepoPath) -> std::io::Result<Catalogue> {
    let files = crate::folder::files_of(folder)?;
    let oid = Oid::parse("1".repeat(40)).expect("a valid object id");
    let infra = chiffon_schemas::InfraRef {
        repository: Name::parse("infra").expect("a valid name"),
        commit: oid.clone(),
        tree: oid,
        inventory: inventory.clone(),
    };
    Ok(crate::catalogue::read(&files, infra))
}
