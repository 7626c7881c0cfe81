//! Words as data: verbs and what they ask for, words without content, and the like, in four languages.
//!
//! Nothing here names a service: those come from the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What a verb asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent {
    /// Make it be there.
    Deploy,
    /// Bring it to a newer version.
    Update,
    /// Take it away.
    Remove,
    /// Stop and start it.
    Restart,
    /// Stop it.
    Stop,
    /// Keep a copy.
    Backup,
    /// Bring a copy back.
    Restore,
    /// Change how it is set up.
    Configure,
    /// Put one more thing in.
    Add,
    /// Look whether it is well.
    Check,
    /// Fetch something.
    Pull,
    /// Keep something out.
    Block,
    /// Go back to how it was.
    Rollback,
}

/// Phrases that count as one word, longest first; the second word is what they become.
pub(crate) const PHRASES: &[(&[&str], &str)] = &[
    (&["up", "and", "running"], "deploy"),
    (&["up", "to", "date"], "update"),
    (&["get", "rid", "of"], "remove"),
    (&["set", "up"], "deploy"),
    (&["sets", "up"], "deploy"),
    (&["setting", "up"], "deploy"),
    (&["roll", "out"], "deploy"),
    (&["spin", "up"], "deploy"),
    (&["bring", "up"], "deploy"),
    (&["roll", "back"], "rollback"),
    (&["back", "up"], "backup"),
    (&["backs", "up"], "backup"),
    (&["backing", "up"], "backup"),
    (&["shut", "down"], "stop"),
    (&["turn", "off"], "stop"),
    (&["switch", "off"], "stop"),
    (&["tear", "down"], "remove"),
    (&["neu", "starten"], "restart"),
    (&["neu", "start"], "restart"),
    (&["starte", "neu"], "restart"),
    (&["mettre", "a", "jour"], "update"),
    (&["mets", "a", "jour"], "update"),
    (&["copia", "de", "seguridad"], "backup"),
    (&["as", "well", "as"], "and"),
    (&["and", "then"], "then"),
    (&["after", "that"], "then"),
    (&["und", "dann"], "then"),
    (&["et", "puis"], "then"),
    (&["y", "luego"], "then"),
];

/// Verbs, and the nouns made of them, with what they ask for.
const INTENTS: &[(Intent, &str)] = &[
    (
        Intent::Deploy,
        "deploy deploys deployed deploying deployment redeploy install installs installed installing \
         installation setup provision create host rollout installiere installieren installiert einrichten \
         aufsetzen ausrollen bereitstellen installer installe installez deployer deploie deployez instalar \
         instala instale desplegar despliega despliegue",
    ),
    (
        Intent::Update,
        "update updates updated updating upgrade upgrades upgraded patch refresh aktualisiere aktualisieren \
         aktualisierung actualiser actualise actualizar actualiza bump",
    ),
    (
        Intent::Remove,
        "remove removes removed removal uninstall uninstalls delete deletes destroy purge undeploy \
         decommission entferne entfernen deinstalliere deinstallieren losche loschen supprimer supprime \
         desinstaller desinstalle eliminar elimina desinstalar desinstala quitar wipe drop",
    ),
    (
        Intent::Restart,
        "restart restarts restarted restarting reboot reload bounce neustarten neustart redemarrer redemarre \
         reiniciar reinicia",
    ),
    (
        Intent::Stop,
        "stop stops halt disable shutdown poweroff stoppe stoppen anhalten arreter arrete parar detener deten \
         pause kill",
    ),
    (
        Intent::Backup,
        "backup backups snapshotting archive sichere sichern sicherung sicherungen sauvegarder sauvegarde \
         respaldar respaldo",
    ),
    (Intent::Restore, "restore restores restored recover wiederherstellen restaurer restaure restaurar restaura"),
    (
        Intent::Configure,
        "configure configures config configuration configurations reconfigure settings change modify adjust \
         set konfiguriere konfigurieren konfiguration configurer configurar configura configuracion",
    ),
    (
        Intent::Add,
        "add adds register registers registering enter include append trage eintragen hinzufugen registriere \
         registrieren ajouter ajoute enregistrer anadir anade agregar agrega registrar",
    ),
    (
        Intent::Check,
        "check checks test tests verify validate prufe prufen uberprufe verifier verifie verificar comprobar \
         healthcheck probe",
    ),
    (Intent::Pull, "pull pulls download downloads fetch herunterladen telecharger descargar"),
    (Intent::Block, "block blocks ban blockiere blockieren sperre sperren bloquer bloquear"),
    (Intent::Rollback, "rollback revert undo downgrade zuruckrollen"),
];

static BY_WORD: LazyLock<BTreeMap<&'static str, Intent>> = LazyLock::new(|| {
    INTENTS.iter().flat_map(|(intent, words)| words.split_whitespace().map(move |word| (word, *intent))).collect()
});

static STOP_WORDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| STOP.split_whitespace().collect());

/// What a folded word asks for, as a verb or as a noun; empty where it asks for nothing.
pub fn intents_of(word: &str) -> &'static [Intent] {
    if word == "put" {
        // "put X on the machine" deploys, "put X behind Y" adds: the catalogue decides.
        return &[Intent::Deploy, Intent::Add];
    }
    BY_WORD.get(word).map(std::slice::from_ref).unwrap_or_default()
}

/// Every verb of the table, for spelling.
pub(crate) fn all_verbs() -> impl Iterator<Item = &'static str> {
    BY_WORD.keys().copied()
}

/// Verbs that say "do it" and leave what to the next word.
pub(crate) const NEUTRAL: &[&str] = &[
    "run",
    "runs",
    "execute",
    "perform",
    "make",
    "do",
    "take",
    "bring",
    "get",
    "start",
    "launch",
    "trigger",
    "apply",
    "mach",
    "mache",
    "machen",
    "fuhre",
    "starte",
    "starten",
    "ausfuhren",
    "fais",
    "faire",
    "lancer",
    "lance",
    "haz",
    "hacer",
    "ejecutar",
    "ejecuta",
    "perform",
];

/// Wishes: they ask for something to be there unless a verb says otherwise.
pub(crate) const WISHES: &[&str] = &["want", "need", "mochte", "brauche", "veux", "quiero", "necesito"];

/// Words without content.
const STOP: &str = "a an the this that these those my our your its their us me i we you to on at in into onto of for from with \
    by as is are be it them please thanks thank hey hi hello could can would will should like let lets also too \
    now just only so have has already which there here new first finally next again ok okay kindly up using via \
    behind under across over called named use instead well one der die das den dem des ein eine einen einem \
    einer eines bitte danke auf im am ins zu zum zur mit fur von vom aus bei ich wir mir uns auch noch jetzt nur \
    es sie ihn hallo kannst konntest du mal haben le la les un une de sur dans avec pour s il vous plait merci \
    bonjour au aux sil te el los las una unos unas en con para por favor gracias del al hola";

/// Whether a folded word carries no content.
pub(crate) fn is_stop(word: &str) -> bool {
    STOP_WORDS.contains(word)
}

/// Nouns so general that any entry explains them.
pub(crate) const GENERAL: &[&str] = &[
    "service",
    "services",
    "app",
    "application",
    "container",
    "containers",
    "playbook",
    "playbooks",
    "instance",
    "stack",
    "role",
    "software",
    "tool",
    "dienst",
    "anwendung",
    "servicio",
];

/// Words that mean "not": no plan is ever made from a sentence with one.
pub(crate) const NEGATIONS: &[&str] = &[
    "not",
    "never",
    "don't",
    "dont",
    "doesn't",
    "shouldn't",
    "won't",
    "cannot",
    "can't",
    "no",
    "without",
    "except",
    "unless",
    "avoid",
    "neither",
    "nor",
    "nicht",
    "kein",
    "keine",
    "keinen",
    "keinem",
    "nie",
    "niemals",
    "ohne",
    "ausser",
    "pas",
    "jamais",
    "sans",
    "ne",
    "nunca",
    "sin",
    "excepto",
    "jamas",
];

/// Joins two clauses.
pub(crate) const AND: &[&str] = &["and", "&", "und", "et", "y", "sowie", "plus"];

/// Joins two clauses in order.
pub(crate) const THEN: &[&str] =
    &["then", "dann", "danach", "anschliessend", "puis", "ensuite", "luego", "despues", "afterwards"];

/// Words before a place.
pub(crate) const PLACE: &[&str] =
    &["on", "to", "at", "onto", "across", "from", "in", "for", "auf", "im", "am", "bei", "sur", "dans", "en", "von"];

/// Words between a preposition and a place.
pub(crate) const DETERMINERS: &[&str] = &[
    "the", "my", "our", "all", "every", "each", "both", "this", "that", "these", "those", "only", "host", "hosts",
    "machine", "machines", "server", "group", "node", "der", "die", "den", "dem", "das", "alle", "allen", "le", "la",
    "les", "el", "los", "las", "todos", "todas", "of", "just", "one", "any", "some", "either", "einem", "einen",
    "einer", "un", "uno", "una", "une",
];

/// Every one of something.
pub(crate) const ALL: &[&str] = &[
    "all", "every", "each", "whole", "entire", "alle", "allen", "jede", "jeden", "jeder", "tous", "toutes", "chaque",
    "todos", "todas", "cada",
];

/// Machines in general.
pub(crate) const MACHINES: &[&str] = &[
    "machine",
    "machines",
    "host",
    "hosts",
    "node",
    "nodes",
    "server",
    "servers",
    "box",
    "boxes",
    "computer",
    "computers",
    "maschine",
    "maschinen",
    "rechner",
    "hosts",
    "machines",
    "maquina",
    "maquinas",
    "serveurs",
    "servidores",
];

/// Words for what the repository already says.
pub(crate) const EXISTING: &[&str] = &[
    "existing",
    "current",
    "known",
    "all",
    "already",
    "vorhandenen",
    "vorhandene",
    "bestehenden",
    "bestehende",
    "alle",
    "existants",
    "existantes",
    "existentes",
    "existente",
    "actuales",
];

/// Forms of verbs that may as well be nouns or say what was done: alone they ask for nothing.
pub(crate) const NOMINAL: &[&str] = &[
    "updates",
    "updated",
    "upgrades",
    "upgraded",
    "backups",
    "installation",
    "installed",
    "deployment",
    "deployed",
    "setup",
    "rollout",
    "removal",
    "removed",
    "restarted",
    "restored",
    "config",
    "configuration",
    "configurations",
    "settings",
    "host",
    "checks",
    "tests",
    "probe",
    "archive",
    "downloads",
    "blocks",
    "konfiguration",
    "sicherungen",
    "aktualisierung",
    "installiert",
    "neustart",
    "configuracion",
];

/// A sentence that begins with one of these asks for an answer, not for a change.
pub(crate) const QUESTIONS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "did", "does", "should", "must", "may", "what", "when", "which",
    "who", "why", "how", "where", "whose", "ist", "sind", "war", "hat", "wie", "was", "wann", "wer", "warum", "wo",
    "welche", "est", "sont", "quand", "quel", "quelle", "comment", "pourquoi", "que", "cuando", "como", "quien",
    "esta", "estan",
];

/// Verbs in two parts, the second at the clause's end, and what they become.
pub(crate) const SEPARABLE: &[(&str, &str, &str)] = &[
    ("starte", "neu", "restart"),
    ("trage", "ein", "add"),
    ("richte", "ein", "deploy"),
    ("setze", "auf", "deploy"),
    ("rolle", "aus", "deploy"),
    ("fahre", "herunter", "stop"),
    ("schalte", "ab", "stop"),
    ("lade", "herunter", "pull"),
];
