//! The forge port over each adapter, against the test forge in that vendor's dialect.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Duration;

use chiffon_forge::{
    Address, Edit, Forge, GitHub, Gitea, Label, NewPull, Permission, Pull, PullState, Reaction, ReviewVerdict, Status,
    StatusState, Trouble,
};
use chiffon_schemas::Oid;
use chiffon_tests::forge::{Dialect, Fate, Fault, Host, RealGitea, Role, TestForge};

const BRANCH: &str = "chiffon/plan/journal";

/// A forge with a `main` and a plan branch, and the bot that may write there.
struct Bed {
    server: Server,
    bot: Box<dyn Forge>,
    head: Oid,
}

/// What stands behind it.
enum Server {
    Test(TestForge),
    Real(RealGitea),
}

impl Deref for Server {
    type Target = dyn Host;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Test(server) => server,
            Self::Real(server) => server,
        }
    }
}

impl Bed {
    fn new(server: Server) -> Self {
        server.commit("main", "requests/journal.yaml", "spec: {text: Deploy the journal}\n");
        let head = Oid::parse(server.commit(BRANCH, "plans/journal.yaml", "kind: Plan\n")).unwrap();
        server.settle();
        let bot = as_of(&*server, &server.account("bot", Role::Admin));
        Self { server, bot, head }
    }

    /// The test forge, where this is one: what can be made to go wrong there, a real one does when it likes.
    fn test(&self) -> Option<&TestForge> {
        match &self.server {
            Server::Test(server) => Some(server),
            Server::Real(_) => None,
        }
    }

    fn person(&self, login: &str, role: Role) -> Box<dyn Forge> {
        as_of(&*self.server, &self.server.account(login, role))
    }

    async fn opened(&self) -> u64 {
        self.bot.open(&new_pull(BRANCH)).await.unwrap().number
    }

    /// A pull request once it holds: what was pushed is taken in there in its own time.
    async fn once(&self, number: u64, holds: impl Fn(&Pull) -> bool) -> Pull {
        for _ in 0..1_000 {
            let pull = self.bot.pull(number).await.unwrap().unwrap();
            if holds(&pull) {
                return pull;
            }
        }
        panic!("pull request #{number} did not come to that");
    }
}

fn as_of(server: &dyn Host, token: &str) -> Box<dyn Forge> {
    let (url, slug) = (server.url(), server.slug().parse().unwrap());
    let address = |api| Address { url: &url, api, ca: None, insecure: false };
    match server.dialect() {
        Dialect::Gitea => Box::new(Gitea::new(address(Gitea::API), slug, token).unwrap()),
        Dialect::GitHub => Box::new(GitHub::new(address(""), slug, token).unwrap()),
    }
}

fn edit(title: &str, draft: bool) -> Edit {
    Edit { title: title.to_owned(), body: format!("<!-- chiffon:v1 -->\n{title}"), draft }
}

fn new_pull(branch: &str) -> NewPull {
    NewPull { head: branch.to_owned(), base: "main".to_owned(), edit: edit("plan: deploy journal", true) }
}

fn label(name: &str) -> Label {
    Label { name: name.to_owned(), color: "1d76db" }
}

fn labels(names: &[&str]) -> BTreeSet<Label> {
    names.iter().map(|name| label(name)).collect()
}

fn status(context: &str, state: StatusState, description: &str) -> Status {
    Status { context: context.to_owned(), state, description: description.to_owned(), url: None }
}

/// Every case over one adapter.
macro_rules! over {
    ($module:ident, $server:expr, $($case:ident),+ $(,)?) => {
        mod $module {
            use super::*;

            $(#[tokio::test]
            async fn $case() {
                if let Some(server) = $server {
                    super::$case(Bed::new(server)).await;
                }
            })+
        }
    };
}

macro_rules! over_each {
    ($($case:ident),+ $(,)?) => {
        over!(gitea, Some(Server::Test(TestForge::start(Dialect::Gitea))), $($case),+);
        over!(github, Some(Server::Test(TestForge::start(Dialect::GitHub))), $($case),+);
        over!(a_real_gitea, RealGitea::start().map(Server::Real), $($case),+);
    };
}

over_each!(
    who_speaks_and_what_it_may_do_is_known,
    a_pull_request_is_opened_once_and_looks_as_it_is_to,
    an_answer_that_is_lost_opens_nothing_twice,
    a_branch_that_was_just_pushed_is_waited_for,
    a_closed_pull_request_is_told_from_a_merged_one,
    a_merge_names_its_person_and_its_commit_and_takes_no_other_head,
    labels_of_ours_are_as_they_are_to_be_and_those_of_people_stay,
    comments_are_written_edited_and_read_since_a_time,
    the_newest_status_of_each_context_counts,
    a_review_of_an_older_head_counts_no_more,
    what_changed_since_is_found_over_all_pages,
    s4_what_comes_from_a_fork_is_told_apart,
    refusals_say_what_to_do,
    s11_a_redirect_is_named_and_not_followed,
);

async fn who_speaks_and_what_it_may_do_is_known(bed: Bed) {
    assert_eq!(bed.bot.identity().await.unwrap().login, "bot");
    let repository = bed.bot.repository().await.unwrap();
    assert_eq!((repository.full_name, repository.permission), (bed.server.slug(), Permission::Admin));
    assert_eq!(repository.default_branch, "main");
    bed.server.account("ann", Role::Write);
    bed.server.account("rea", Role::Read);
    for (login, may) in [
        ("bot", Permission::Admin),
        ("ann", Permission::Write),
        ("rea", Permission::Read),
        ("nobody", Permission::None),
    ] {
        assert_eq!(bed.bot.permission(login).await.unwrap(), may, "{login}");
    }
    // A bot that may change no settings learns who may write all the same.
    let small = bed.person("small", Role::Write);
    for (login, writes) in [("ann", true), ("ANN", true), ("rea", false), ("nobody", false)] {
        assert_eq!(small.permission(login).await.unwrap() >= Permission::Write, writes, "{login}");
    }
    if let Some(test) = bed.test().filter(|test| test.dialect() == Dialect::Gitea) {
        test.state().of_organization = true;
        let refused = small.permission("ann").await.unwrap_err();
        assert!(refused.to_string().contains("administers the repository"), "{refused}");
    }
}

async fn a_pull_request_is_opened_once_and_looks_as_it_is_to(bed: Bed) {
    assert_eq!(bed.bot.find(BRANCH).await.unwrap(), None);
    let opened = bed.bot.open(&new_pull(BRANCH)).await.unwrap();
    assert_eq!(
        (opened.title.as_str(), opened.draft, opened.state.clone()),
        ("plan: deploy journal", true, PullState::Open)
    );
    assert_eq!((opened.base.as_str(), opened.head.as_str(), opened.foreign), ("main", BRANCH, false));
    assert_eq!((opened.head_commit.as_ref(), opened.author.as_str()), (Some(&bed.head), "bot"));
    let again = bed.bot.open(&new_pull(BRANCH)).await.unwrap();
    assert_eq!(again.number, opened.number);
    assert_eq!(bed.bot.find(BRANCH).await.unwrap().unwrap().number, opened.number);
    let edited = bed.bot.edit(opened.number, &edit("plan: deploy journal (3 changes)", false)).await.unwrap();
    assert_eq!((edited.title.as_str(), edited.draft), ("plan: deploy journal (3 changes)", false));
    assert!(edited.body.starts_with("<!-- chiffon:v1 -->"));
    let there = bed.bot.pull(opened.number).await.unwrap().unwrap();
    assert_eq!(Pull { updated: edited.updated, ..there }, edited);
    assert_eq!(bed.bot.pull(99).await.unwrap(), None);
}

async fn an_answer_that_is_lost_opens_nothing_twice(bed: Bed) {
    let Some(test) = bed.test() else { return };
    test.fault(Fault::LoseAnswer);
    let lost = bed.bot.open(&new_pull(BRANCH)).await.unwrap_err();
    assert!(matches!(lost, Trouble::Unreachable { .. }) && lost.passes(), "{lost}");
    assert_eq!(bed.opened().await, 1);
    assert_eq!(bed.server.pulls(), 1);
}

/// A real Gitea knows it a moment later.
async fn a_branch_that_was_just_pushed_is_waited_for(bed: Bed) {
    if let Some(test) = bed.test().filter(|test| test.dialect() == Dialect::Gitea) {
        for _ in 0..2 {
            test.fault(Fault::Refuse(404, vec![]));
        }
    }
    assert_eq!(bed.opened().await, 1);
}

async fn a_closed_pull_request_is_told_from_a_merged_one(bed: Bed) {
    let number = bed.opened().await;
    for _ in 0..2 {
        bed.bot.close(number).await.unwrap();
    }
    assert_eq!(bed.bot.pull(number).await.unwrap().unwrap().state, PullState::Closed);
    let second = bed.bot.open(&new_pull(BRANCH)).await.unwrap();
    assert!(second.number > number, "a closed one is not opened again");
    bed.server.remove_branch(BRANCH);
    bed.once(second.number, |pull| pull.state == PullState::Closed).await;
    assert_eq!(bed.bot.find(BRANCH).await.unwrap().unwrap().number, second.number, "the newest of those that are over");
}

async fn a_merge_names_its_person_and_its_commit_and_takes_no_other_head(bed: Bed) {
    let (ann, rea) = (bed.person("ann", Role::Write), bed.person("rea", Role::Read));
    let number = bed.opened().await;
    let refused = ann.merge(number, &bed.head).await.unwrap_err();
    assert!(matches!(refused, Trouble::Conflict { .. }), "a draft: {refused}");
    bed.bot.edit(number, &edit("plan: deploy journal", false)).await.unwrap();
    let refused = rea.merge(number, &bed.head).await.unwrap_err();
    assert!(refused.to_string().contains("not allowed to merge"), "{refused}");
    let other = Oid::parse("a".repeat(40)).unwrap();
    let refused = ann.merge(number, &other).await.unwrap_err();
    assert!(refused.to_string().contains("out of date"), "{refused}");
    for test in [bed.test(), bed.test()].into_iter().flatten() {
        test.fault(Fault::StillComputing);
        let later = ann.merge(number, &bed.head).await.unwrap_err();
        assert!(matches!(later, Trouble::Later { after, .. } if after == Duration::from_secs(1)), "{later}");
    }
    let commit = loop {
        match ann.merge(number, &bed.head).await {
            Err(Trouble::Later { .. }) => {}
            merged => break merged.unwrap(),
        }
    };
    assert_eq!(bed.server.tip("main").as_deref(), Some(commit.as_str()));
    let merged = bed.bot.pull(number).await.unwrap().unwrap();
    assert_eq!(merged.state, PullState::Merged { commit: Some(commit), by: Some("ann".to_owned()) });
    bed.bot.close(number).await.unwrap();
    assert!(ann.merge(number, &bed.head).await.is_err(), "once");
}

async fn labels_of_ours_are_as_they_are_to_be_and_those_of_people_stay(bed: Bed) {
    let number = bed.opened().await;
    let names = async || bed.bot.pull(number).await.unwrap().unwrap().labels;
    bed.bot.set_labels(number, &labels(&["chiffon", "risk:low", "state:proposed"])).await.unwrap();
    bed.server.label(number, "help wanted");
    bed.bot.set_labels(number, &labels(&["chiffon", "risk:high", "state:proposed"])).await.unwrap();
    let all = ["chiffon", "help wanted", "risk:high", "state:proposed"].map(str::to_owned);
    assert_eq!(names().await, BTreeSet::from(all));
    assert_eq!(bed.server.labels(), 5, "none is made twice");
    let asked = || bed.test().map_or(0, |test| test.state().asked.len());
    let before = asked();
    bed.bot.set_labels(number, &labels(&["chiffon", "risk:high", "state:proposed"])).await.unwrap();
    assert!(asked() - before <= 1, "what is so already costs a look");
}

async fn comments_are_written_edited_and_read_since_a_time(bed: Bed) {
    let ann = bed.person("ann", Role::Write);
    let number = bed.opened().await;
    let sticky = bed.bot.comment(number, "<!-- chiffon:run -->\nrunning").await.unwrap();
    let command = ann.comment(number, "/chiffon retry").await.unwrap();
    assert!(bed.bot.edit_comment(sticky.id, "<!-- chiffon:run -->\nsucceeded").await.unwrap());
    let all = bed.bot.comments(number, None).await.unwrap();
    let shown: Vec<_> = all.iter().map(|comment| (comment.author.as_str(), comment.body.as_str())).collect();
    assert_eq!(shown, [("bot", "<!-- chiffon:run -->\nsucceeded"), ("ann", "/chiffon retry")]);
    assert_eq!(all[1].created, command.created);
    let since = command.created.plus_secs(bed.test().is_some().into());
    let late: Vec<_> = bed.bot.comments(number, Some(since)).await.unwrap().iter().map(|comment| comment.id).collect();
    assert_eq!((late[0], late.len() <= 2), (sticky.id, true), "changed since");
    if bed.test().is_some() {
        assert_eq!(late, [sticky.id], "and nothing else");
    }
    assert!(!bed.bot.edit_comment(999, "gone").await.unwrap());
    for _ in 0..2 {
        bed.bot.react(command.id, Reaction::Eyes).await.unwrap();
    }
    assert_eq!(bed.server.reactions(command.id), BTreeSet::from([("bot".to_owned(), "eyes".to_owned())]));
}

async fn the_newest_status_of_each_context_counts(bed: Bed) {
    for set in [
        status("chiffon/plan", StatusState::Pending, "planning"),
        status("chiffon/fresh", StatusState::Success, "inputs unchanged"),
        status("chiffon/plan", StatusState::Failure, "denied"),
    ] {
        bed.bot.set_status(&bed.head, &set).await.unwrap();
    }
    let mut found = bed.bot.statuses(&bed.head).await.unwrap();
    found.sort_by(|one, other| one.context.cmp(&other.context));
    assert_eq!(
        found,
        [
            status("chiffon/fresh", StatusState::Success, "inputs unchanged"),
            status("chiffon/plan", StatusState::Failure, "denied"),
        ]
    );
    let nowhere = Oid::parse("b".repeat(40)).unwrap();
    let refused = bed.bot.set_status(&nowhere, &status("chiffon/plan", StatusState::Success, "")).await.unwrap_err();
    // Some servers fail at it.
    assert!(matches!(refused, Trouble::NotFound { .. }) || bed.test().is_none(), "{refused}");
}

async fn a_review_of_an_older_head_counts_no_more(bed: Bed) {
    let number = bed.opened().await;
    bed.server.account("ann", Role::Write);
    bed.server.review("ann", number, "APPROVED");
    let edited = bed.server.commit(BRANCH, "plans/journal.yaml", "kind: Plan # edited\n");
    bed.once(number, |pull| pull.head_commit.as_ref().is_some_and(|head| head.as_str() == edited)).await;
    // Not every forge says that a review is old; the commit does. A real one may take a moment until reviews are of what
    // was pushed.
    let reviews = loop {
        bed.server.review("ann", number, "REQUEST_CHANGES");
        let reviews = bed.bot.reviews(number).await.unwrap();
        if bed.test().is_some() || reviews.last().unwrap().commit.as_ref().unwrap().as_str() == edited {
            break reviews;
        }
    };
    let shown: Vec<_> = reviews.iter().map(|review| (review.verdict, review.commit.clone().unwrap())).collect();
    assert_eq!(shown[0], (ReviewVerdict::Approved, bed.head.clone()));
    assert_eq!(*shown.last().unwrap(), (ReviewVerdict::ChangesRequested, Oid::parse(edited).unwrap()));
}

async fn what_changed_since_is_found_over_all_pages(bed: Bed) {
    for number in 0..120 {
        let branch = format!("chiffon/plan/p{number}");
        bed.server.commit(&branch, "plans/p.yaml", &format!("{number}\n"));
        bed.bot.open(&new_pull(&branch)).await.unwrap();
    }
    let open = bed.bot.changed(None).await.unwrap();
    assert_eq!(open.len(), 120);
    let newest = open.iter().map(|pull| pull.updated).max().unwrap();
    bed.bot.close(7).await.unwrap();
    bed.bot.comment(9, "hello").await.unwrap();
    // Each change takes the test forge a second; all of them may fall into one of a real server.
    let since = if bed.test().is_some() { newest.plus_secs(1) } else { newest };
    let changed = bed.bot.changed(Some(since)).await.unwrap();
    let of = |number| changed.iter().find(|pull| pull.number == number).unwrap();
    assert_eq!((of(7).state.clone(), of(9).state.clone()), (PullState::Closed, PullState::Open));
    if bed.test().is_some() {
        assert_eq!(changed.iter().map(|pull| pull.number).collect::<Vec<_>>(), [9, 7], "the latest first");
    }
}

async fn s4_what_comes_from_a_fork_is_told_apart(bed: Bed) {
    bed.server.account("mallory", Role::Read);
    let number = bed.server.open_from_fork("mallory", BRANCH);
    assert!(bed.bot.pull(number).await.unwrap().unwrap().foreign);
    assert_eq!(
        bed.bot.find(BRANCH).await.unwrap(),
        None,
        "it is no pull request of ours, whatever its branch is called"
    );
}

async fn refusals_say_what_to_do(bed: Bed) {
    let nobody = as_of(&*bed.server, "no-such-token");
    let refused = nobody.identity().await.unwrap_err();
    assert!(matches!(refused, Trouble::Unauthorized { .. }) && !refused.passes(), "{refused}");
    assert!(refused.to_string().contains("forge.token_file"), "{refused}");
    let Some(test) = bed.test() else { return };
    type Headers<'a> = &'a [(&'static str, &'a str)];
    let answers: [(u16, Headers<'_>, &str); 5] = [
        (403, &[], "it needs "),
        (429, &[("retry-after", "7")], "asks to wait 7 s"),
        (403, &[("x-ratelimit-remaining", "0")], "asks to wait 60 s"),
        (500, &[], "failed to read the repository: 500"),
        (301, &[("location", "http://127.0.0.1:1/elsewhere")], "set `forge` to that"),
    ];
    for (code, headers, says) in answers {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        test.fault(Fault::Refuse(code, headers));
        let refused = bed.bot.repository().await.unwrap_err();
        assert!(refused.to_string().contains(says), "{code}: {refused}");
    }
    assert!(bed.bot.repository().await.is_ok(), "each was for one answer");
    assert_eq!(test.state().pulls.values().filter(|pull| pull.fate != Fate::Open).count(), 0);
}

async fn s11_a_redirect_is_named_and_not_followed(bed: Bed) {
    let Some(test) = bed.test() else { return };
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let elsewhere = [
        format!("http://{}/", trap.local_addr().unwrap()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://127.0.0.1:5432/".to_owned(),
        format!("{}/elsewhere", test.url()),
    ];
    let number = bed.opened().await;
    for (code, to) in [301, 302, 303, 307, 308].into_iter().flat_map(|code| elsewhere.iter().map(move |to| (code, to)))
    {
        test.fault(Fault::Refuse(code, vec![("location", to.clone())]));
        let asked = test.state().asked.len();
        let read = bed.bot.pull(number).await.unwrap_err();
        test.fault(Fault::Refuse(code, vec![("location", to.clone())]));
        let written = bed.bot.comment(number, "hello").await.unwrap_err();
        assert_eq!(test.state().asked.len() - asked, 2, "each was asked once");
        assert!(matches!(&read, Trouble::Moved { to: said, .. } if said == to), "it is not taken for gone: {read}");
        assert!(written.to_string().contains(&format!("it is at {to} now")), "{written}");
    }
    assert!(trap.accept().is_err(), "nobody came");
    assert_eq!(bed.bot.comments(number, None).await.unwrap(), []);
}

/// What is asked again and is as it was comes without a body, and GitHub does not count it.
#[tokio::test]
async fn an_answer_that_is_as_it_was_is_not_sent_again() {
    let bed = Bed::new(Server::Test(TestForge::start(Dialect::GitHub)));
    let number = bed.opened().await;
    let unchanged = || bed.test().unwrap().state().unchanged;
    let first = bed.bot.pull(number).await.unwrap();
    let before = unchanged();
    for times in 1..=3 {
        assert_eq!(bed.bot.pull(number).await.unwrap(), first);
        assert_eq!(unchanged(), before + times);
    }
    bed.bot.edit(number, &edit("plan: otherwise", true)).await.unwrap();
    let edited = bed.bot.pull(number).await.unwrap();
    assert_eq!(edited.unwrap().title, "plan: otherwise");
}
