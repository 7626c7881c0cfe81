//! The audit branch: written once for each event, and noticed when anybody else wrote it (S2).

use chiffon_requests::{
    AuditCommit, Error, Expect, OpenOffer, RefName, Signature, TipState, Trailer, append, check_tip, find_event, offer,
    offers,
};
use chiffon_schemas::{EventId, Oid, Timestamp, ulid};

use crate::bed::{Bed, NOW, edit, oid, path};

fn event(number: u64) -> EventId {
    EventId::parse(ulid(number, 7)).unwrap()
}

fn commit(number: u64) -> AuditCommit {
    AuditCommit {
        subject: format!("kuma: event {number}"),
        body: String::new(),
        trailers: vec![
            Trailer { key: "Chiffon-Event".to_owned(), value: format!("{} plan-offered", event(number)) },
            Trailer { key: "Chiffon-Request".to_owned(), value: "kuma".to_owned() },
        ],
        files: vec![(path(&format!("events/{number}.json")), Some(b"{}".to_vec()))],
        time: NOW,
    }
}

fn foreign(state: &TipState) -> bool {
    matches!(state, TipState::Foreign { .. })
}

#[test]
fn an_event_that_is_written_twice_makes_one_commit() {
    let bed = Bed::new();
    let repo = bed.repo();
    let one = append(&repo, &commit(1), None).unwrap();
    assert_eq!(append(&repo, &commit(1), None).unwrap(), one);
    assert_eq!(append(&repo, &commit(1), Some(&one)).unwrap(), one);
    let two = append(&repo, &commit(2), Some(&one)).unwrap();
    assert_eq!(repo.parents(&two).unwrap(), vec![one.clone()]);
    assert!(matches!(append(&repo, &commit(3), Some(&one)), Err(Error::Moved { .. })));
    assert!(matches!(append(&repo, &commit(3), None), Err(Error::Moved { .. })));
    assert_eq!(bed.git(&["rev-list", "--count", "refs/heads/chiffon/audit"]), "2");
    assert_eq!(find_event(&repo, &event(1), 5).unwrap(), Some(one));
    assert_eq!(find_event(&repo, &event(1), 1).unwrap(), None);
    assert_eq!(find_event(&repo, &event(9), 5).unwrap(), None);
    bed.fsck();
}

#[test]
fn git_alone_answers_who_did_what() {
    let bed = Bed::new();
    let mut commit = commit(1);
    commit.subject = "kuma: done\n\nChiffon-Request: forged".to_owned();
    commit.body = "first\nChiffon-Request: forged\n---\n\u{1b}[2Jlast".to_owned();
    commit
        .trailers
        .push(Trailer { key: "Chiffon-Host".to_owned(), value: "nas01\nChiffon-Request: forged".to_owned() });
    commit.trailers.push(Trailer { key: "Chiffon-\nRequest: forged".to_owned(), value: String::new() });
    append(&bed.repo(), &commit, None).unwrap();
    let tip = "refs/heads/chiffon/audit";
    let trailers = |key: &str| bed.git(&["log", "-1", &format!("--format=%(trailers:key={key},valueonly)"), tip]);
    assert_eq!(trailers("Chiffon-Event").trim(), format!("{} plan-offered", event(1)));
    assert_eq!(trailers("Chiffon-Request").trim(), "kuma");
    assert_eq!(trailers("Chiffon-Host").trim(), "nas01 Chiffon-Request: forged");
    let message = bed.git(&["log", "-1", "--format=%B", tip]);
    assert_eq!(bed.git_with(&["interpret-trailers", "--parse"], message.as_bytes()).lines().count(), 4);
    assert_eq!(bed.git(&["log", "--format=%h", "--grep=^Chiffon-Request: forged", tip]), "");
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
    assert_eq!(
        bed.git(&["log", "-1", "--format=%an <%ae> %at %cn", tip]),
        format!("Chiffon <chiffon@localhost> {} Chiffon", NOW.secs())
    );
    bed.fsck();
}

#[test]
fn a_subject_alone_is_no_trailer() {
    let bed = Bed::new();
    let mut forged = commit(1);
    forged.subject = format!("Chiffon-Event: {} forged", event(2));
    forged.trailers.clear();
    append(&bed.repo(), &forged, None).unwrap();
    assert_eq!(find_event(&bed.repo(), &event(2), 5).unwrap(), None);
    assert_eq!(bed.git(&["log", "--format=%h", "--grep=^Chiffon-Event", "refs/heads/chiffon/audit"]), "");
}

#[test]
fn s2_only_the_recorded_tip_and_our_own_commits_on_it_are_ours() {
    let bed = Bed::new();
    let repo = bed.repo();
    assert_eq!(check_tip(&repo, None, &[]).unwrap(), TipState::AsRecorded);
    let one = append(&repo, &commit(1), None).unwrap();
    let two = append(&repo, &commit(2), Some(&one)).unwrap();
    let three = append(&repo, &commit(3), Some(&two)).unwrap();
    assert_eq!(check_tip(&repo, Some(&three), &[]).unwrap(), TipState::AsRecorded);
    let ahead = TipState::OursAhead { commits: vec![(two.clone(), vec![event(2)]), (three.clone(), vec![event(3)])] };
    assert_eq!(check_tip(&repo, Some(&one), &[event(3), event(2), event(4)]).unwrap(), ahead);
    let all = check_tip(&repo, None, &[event(1), event(2), event(3)]).unwrap();
    assert!(matches!(all, TipState::OursAhead { commits } if commits.len() == 3));
    // One of the events is not waiting.
    assert!(foreign(&check_tip(&repo, Some(&one), &[event(3)]).unwrap()));
    assert!(foreign(&check_tip(&repo, None, &[event(2), event(3)]).unwrap()));
    // Moved back, or gone.
    repo.set_ref(&RefName::audit(), &two, Some(&three)).unwrap();
    assert!(foreign(&check_tip(&repo, Some(&three), &[event(1), event(2)]).unwrap()));
    repo.delete_ref(&RefName::audit(), &two).unwrap();
    assert!(foreign(&check_tip(&repo, Some(&three), &[event(3)]).unwrap()));
}

#[test]
fn s2_a_strangers_commit_on_the_audit_branch_is_noticed() {
    let bed = Bed::new();
    let repo = bed.repo();
    let one = append(&repo, &commit(1), None).unwrap();
    let plain = edit("chiffon/audit", Expect::Tip(one.clone()), &[("offers/x.yaml", Some("plan: 1"))]);
    let claimed = format!("x\n\nChiffon-Event: {} run-ok\n", event(2));
    let chiffon = Signature::chiffon(NOW);
    let with = |message: &str, by: &Signature, parents: Option<Vec<Oid>>| {
        let mut edit = plain.clone();
        edit.message = message.to_owned();
        (edit.author, edit.committer, edit.parents) = (by.clone(), by.clone(), parents);
        let done = repo.commit(&edit).unwrap().commit;
        let state = check_tip(&repo, Some(&one), &[event(2)]).unwrap();
        repo.set_ref(&RefName::audit(), &one, Some(&done)).unwrap();
        state
    };
    assert!(foreign(&with("no event", &chiffon, None)));
    assert!(foreign(&with(&claimed, &crate::bed::person(), None)), "an event of ours by somebody else");
    assert!(foreign(&with(&claimed, &chiffon, Some(vec![one.clone(), one.clone()]))), "a merge");
    assert!(foreign(&with(&claimed, &chiffon, Some(vec![]))), "another beginning");
    assert!(foreign(&with(&format!("{claimed}Chiffon-Event: {} x\n", event(3)), &chiffon, None)), "one event too many");
    assert!(!foreign(&with(&claimed, &chiffon, None)), "the one that we were about to make");
    // Our event, recorded twice.
    let two = append(&repo, &commit(2), Some(&one)).unwrap();
    let mut again = plain.clone();
    (again.message, again.author, again.committer) = (claimed.clone(), chiffon.clone(), chiffon.clone());
    again.expect = Expect::Tip(two);
    repo.commit(&again).unwrap();
    assert!(foreign(&check_tip(&repo, Some(&one), &[event(2)]).unwrap()));
}

#[test]
fn s2_offers_are_read_from_the_audit_branch() {
    let bed = Bed::new();
    let repo = bed.repo();
    assert!(offers(&repo).unwrap().is_empty());
    let plan = oid(&bed.blob(b"plan"));
    let expires = Timestamp::parse("2026-12-06T09:00:00Z").unwrap();
    let good = format!("plan: {plan}\nrevision: 2\nexpires: {expires}\n");
    let mut commit = commit(1);
    let files = [
        ("offers/kuma.yaml", good.as_str()),
        ("offers/media/tv.yaml", &format!("plan: {plan}\nrevision: 2\nexpires: \"{expires}\"\n")),
        ("offers/broken.yaml", "plan: nothing\n"),
        ("offers/bomb.yaml", &"[".repeat(3000)),
        ("offers/large.yaml", &format!("{good}# {}\n", "x".repeat(5000))),
        ("plans/kuma.yaml", "not here"),
    ];
    commit.files = files.iter().map(|(at, text)| (path(at), Some(text.as_bytes().to_vec()))).collect();
    append(&repo, &commit, None).unwrap();
    let open = OpenOffer { plan, revision: 2, expires };
    let found: Vec<(String, OpenOffer)> =
        offers(&repo).unwrap().into_iter().map(|(at, o)| (at.to_string(), o)).collect();
    let expected = vec![("plans/kuma.yaml".to_owned(), open.clone()), ("plans/media/tv.yaml".to_owned(), open.clone())];
    assert_eq!(found, expected);
    assert_eq!(offer(&repo, &path("plans/media/tv.yaml")).unwrap(), Some(open));
    for none in ["plans/none.yaml", "plans/broken.yaml", "requests/kuma.yaml", "plans/media"] {
        assert_eq!(offer(&repo, &path(none)).unwrap(), None, "{none}");
    }
}
