//! The words of each entry, where they stand, and how rare they are: what sentences are matched against.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{Catalogue, Entry};

use crate::lexicon::{self, Intent};
use crate::words;

/// The words of one entry.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// Stems from its file name, services and titles.
    pub(crate) strong: BTreeSet<String>,
    /// Stems from its description, tags, patterns and variables.
    pub(crate) weak: BTreeSet<String>,
    /// What its file name says is done.
    pub(crate) stem_intents: BTreeSet<Intent>,
    /// What its titles begin with, on top.
    pub(crate) title_intents: BTreeSet<Intent>,
    /// The words that make it this one: its main service, or its file name without verbs; one of these sets is enough.
    pub(crate) names: Vec<BTreeSet<String>>,
    /// Stems of the titles that are no verbs.
    pub(crate) objects: BTreeSet<String>,
    /// Words of the file name that neither a service nor a verb explains: `config`, `dashboards`, `model`.
    pub(crate) extra: BTreeSet<String>,
}

/// All entries' words.
pub(crate) struct Index<'c> {
    pub(crate) catalogue: &'c Catalogue,
    pub(crate) terms: Vec<Terms>,
    /// In how many entries a stem is.
    frequency: BTreeMap<String, usize>,
    /// Words that make clauses of their own: those of services and file names.
    pub(crate) anchors: BTreeSet<String>,
    /// Compounds and their parts: `pihole` → `pi`, `hole`.
    compounds: BTreeMap<String, Vec<String>>,
    average: f64,
}

impl<'c> Index<'c> {
    pub(crate) fn new(catalogue: &'c Catalogue) -> Self {
        let mut compounds = BTreeMap::new();
        let terms: Vec<Terms> = catalogue.entries.iter().map(|entry| terms_of(entry, &mut compounds)).collect();
        let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for terms in &terms {
            for word in terms.strong.union(&terms.weak) {
                *frequency.entry(word.clone()).or_default() += 1;
            }
            anchors.extend(terms.names.iter().flatten().cloned());
            anchors.extend(terms.strong.iter().cloned());
        }
        let total: usize = terms.iter().map(|terms| terms.strong.len() + terms.weak.len()).sum();
        let average = total as f64 / terms.len().max(1) as f64;
        Self { catalogue, terms, frequency, anchors, compounds, average }
    }

    /// Whether any entry knows a stem.
    pub(crate) fn knows(&self, stem: &str) -> bool {
        self.frequency.contains_key(stem)
    }

    pub(crate) fn vocabulary(&self) -> impl Iterator<Item = &str> {
        self.anchors.iter().map(String::as_str)
    }

    /// The parts of a compound: `uptimekuma` → `uptime`, `kuma`.
    pub(crate) fn parts_of(&self, word: &str) -> Option<&[String]> {
        self.compounds.get(word).map(Vec::as_slice)
    }

    /// How well an entry fits some stems: BM25 with a strong word counted three times.
    pub(crate) fn score(&self, entry: usize, stems: &[String]) -> f64 {
        const K1: f64 = 1.2;
        const B: f64 = 0.3;
        let terms = &self.terms[entry];
        let length = (terms.strong.len() + terms.weak.len()) as f64;
        let total = self.terms.len() as f64;
        let mut score = 0.0;
        for stem in stems {
            let tf =
                f64::from(u8::from(terms.weak.contains(stem))) + 3.0 * f64::from(u8::from(terms.strong.contains(stem)));
            let df = *self.frequency.get(stem).unwrap_or(&0) as f64;
            let idf = ((total - df + 0.5) / (df + 0.5) + 1.0).ln();
            score += idf * tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length / self.average.max(1.0)));
        }
        score
    }
}

fn terms_of(entry: &Entry, compounds: &mut BTreeMap<String, Vec<String>>) -> Terms {
    let mut terms = Terms::default();
    let base = words::without_intents(entry.playbook.stem());
    let mut add_strong = |text: &str, strong: &mut BTreeSet<String>| {
        let parts = words::split(text);
        for word in &parts {
            strong.insert(words::stem(word));
            strong.extend(lexicon::intents_of(word).iter().map(|intent| format!("@{intent:?}")));
        }
        for size in 2..=3 {
            for run in parts.windows(size).filter(|run| run.iter().all(|word| !lexicon::is_stop(word))) {
                compounds.entry(run.concat()).or_insert_with(|| run.to_vec());
            }
        }
    };
    add_strong(entry.playbook.stem(), &mut terms.strong);
    entry.services.iter().for_each(|service| add_strong(service, &mut terms.strong));
    let titles = std::iter::once(&entry.title).chain(entry.plays.iter().map(|play| &play.name));
    for title in titles {
        add_strong(title, &mut terms.strong);
        read_title(title, &mut terms);
    }
    for word in words::split(entry.playbook.stem()) {
        terms.stem_intents.extend(lexicon::intents_of(&word));
    }
    let mut weak_texts: Vec<&str> = vec![&entry.description];
    weak_texts.extend(entry.tags.iter().map(String::as_str));
    weak_texts.extend(entry.plays.iter().map(|play| play.pattern.as_str()));
    weak_texts.extend(entry.playbook.as_str().split('/').filter(|part| *part != "playbooks" && !part.contains('.')));
    for word in weak_texts.into_iter().flat_map(words::split) {
        terms.weak.extend(lexicon::intents_of(&word).iter().map(|intent| format!("@{intent:?}")));
        terms.weak.insert(words::stem(&word));
    }
    let counts = |word: &str| !lexicon::is_stop(word) && !lexicon::ALL.contains(&word);
    terms.strong.retain(|word| counts(word));
    terms.weak.retain(|word| counts(word) && !terms.strong.contains(word));
    let stems_of = |text: &str| words::split(text).iter().map(|word| words::stem(word)).collect::<BTreeSet<_>>();
    let services: Vec<BTreeSet<String>> = entry.services.iter().take(1).map(|service| stems_of(service)).collect();
    if !base.is_empty() {
        terms.names.push(stems_of(&base));
    }
    terms.names.extend(services);
    let said: BTreeSet<String> = entry.services.iter().flat_map(|service| stems_of(service)).collect();
    terms.extra = stems_of(&base).difference(&said).cloned().collect();
    terms
}

/// Verbs that a title begins with, or has after "and"; all other words are what it is about.
fn read_title(title: &str, terms: &mut Terms) {
    let words = crate::sentence::with_phrases(words::split(title));
    for (index, word) in words.iter().enumerate() {
        let leads = index == 0 || lexicon::AND.contains(&words[index - 1].as_str());
        let intents = lexicon::intents_of(word);
        if leads && !intents.is_empty() {
            terms.title_intents.extend(intents);
        } else if !lexicon::is_stop(word) {
            terms.objects.insert(words::stem(word));
        }
    }
}
