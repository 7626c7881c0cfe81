//! Offers: at most one is open, revisions rise by one, and a closed one stays closed.

use chiffon_core::facts::{Blocked, OfferState, Unplanned};

use super::bed::{Bed, Fixture, kuma, recorded};
use super::sample::{at, name, offer, oid, path, plan_oid, run, run_id};
use crate::{Change, Error};

fn closed(revision: u32, state: OfferState) -> Change {
    Change::OfferClosed { name: kuma(), plan: plan_oid(revision), state }
}

fn in_place_of(replaces: u32, revision: u32) -> Change {
    Change::OfferRecorded {
        name: kuma(),
        replaces: Some(plan_oid(replaces)),
        offer: Box::new(offer(&kuma(), revision)),
    }
}

/// Every field of an offer and of its plan comes back, also to another process.
pub async fn an_offer_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let offer = bed.offered(&kuma()).await;
    assert_eq!(bed.facts(&kuma()).await.offers, std::slice::from_ref(&offer));
    let again = fixture.reopen().await;
    let facts = again.facts(bed.repository, &kuma()).await.expect("facts").expect("it is there");
    assert_eq!(facts.offers, std::slice::from_ref(&offer));
    assert_eq!(facts.plan_branch, None, "only git knows");
    let bytes = |plan| chiffon_schemas::plan_bytes(plan);
    assert_eq!(bytes(&facts.offers[0].plan), bytes(&offer.plan));
}

/// An offer that was recorded without a `main` says so later.
pub async fn an_offer_without_main_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let mut offer = offer(&kuma(), 1);
    (offer.main, offer.path) = (None, path("plans/media/kuma.yaml"));
    bed.apply(recorded(&kuma(), &offer)).await;
    assert_eq!(bed.facts(&kuma()).await.offers, [offer]);
}

/// While one is open there is no second.
pub async fn s2_only_one_offer_is_open(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.offered(&kuma()).await;
    bed.conflict(recorded(&kuma(), &offer(&kuma(), 2)), "kuma").await;
    bed.offered(&name("other")).await;
    assert_eq!(bed.facts(&kuma()).await.offers.len(), 1);
}

/// A revision is the last plus one, never the same and never further.
pub async fn revisions_rise_by_one(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    bed.conflict(recorded(&kuma(), &offer(&kuma(), 2)), "kuma").await;
    bed.apply(recorded(&kuma(), &offer(&kuma(), 1))).await;
    bed.apply(closed(1, OfferState::Stale)).await;
    for wrong in [0, 1, 3, 4_000_000_000] {
        bed.conflict(recorded(&kuma(), &offer(&kuma(), wrong)), "kuma").await;
    }
    bed.apply(recorded(&kuma(), &offer(&kuma(), 2))).await;
    let offers = bed.facts(&kuma()).await.offers;
    assert_eq!(offers.iter().map(|offer| offer.revision()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((offers[0].state, offers[1].state), (OfferState::Stale, OfferState::Open));
}

/// An offer made of a person's edit takes the place of the open one, in one step.
pub async fn an_edited_offer_replaces_the_open_one(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.offered(&kuma()).await;
    // The first half could be done, the second can't.
    bed.conflict(in_place_of(1, 3), "kuma").await;
    assert_eq!(bed.facts(&kuma()).await.offers[0].state, OfferState::Open);
    bed.conflict(in_place_of(7, 2), plan_oid(7).as_str()).await;
    bed.apply(in_place_of(1, 2)).await;
    let states: Vec<_> = bed.facts(&kuma()).await.offers.iter().map(|offer| offer.state).collect();
    assert_eq!(states, [OfferState::Replaced, OfferState::Open]);
    bed.conflict(in_place_of(1, 3), plan_oid(1).as_str()).await;
}

/// An offer says that planning ended: what kept it from it is over, and so is the wish for another plan.
pub async fn an_offer_clears_what_was_in_its_way(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let unplanned = Unplanned { request: oid(1), infra: None, reason: Blocked::EditedPlanStale, at: at(1) };
    bed.apply(Change::Unplanned { name: kuma(), unplanned }).await;
    bed.apply(Change::ReplanAsked { name: kuma(), after: 0 }).await;
    bed.apply(recorded(&kuma(), &offer(&kuma(), 1))).await;
    let facts = bed.facts(&kuma()).await;
    assert_eq!((facts.unplanned, facts.replan_after), (None, None));
}

/// The commit that shows an offer is noted, open or not, and only of an offer that exists.
pub async fn an_offer_is_shown(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.offered(&kuma()).await;
    let shown = |plan, commit: u32| Change::OfferShown { name: kuma(), plan, commit: oid(commit) };
    bed.conflict(shown(plan_oid(2), 5), plan_oid(2).as_str()).await;
    for commit in [5, 6] {
        bed.apply(shown(plan_oid(1), commit)).await;
        assert_eq!(bed.facts(&kuma()).await.offers[0].branch_commit, Some(oid(commit)));
    }
}

/// Each reason for closing is kept, and what is closed is not closed, opened or approved again.
pub async fn s2_a_closed_offer_stays_closed(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let states = [
        OfferState::Rejected,
        OfferState::Withdrawn,
        OfferState::Edited,
        OfferState::Stale,
        OfferState::Expired,
        OfferState::Replaced,
        OfferState::ChangeAskedFor,
        OfferState::Refused,
    ];
    for (revision, state) in (1..).zip(states) {
        let offer = offer(&kuma(), revision);
        bed.apply(recorded(&kuma(), &offer)).await;
        bed.apply(closed(revision, state)).await;
        assert_eq!(bed.facts(&kuma()).await.offers.last().expect("an offer").state, state);
        for again in states {
            bed.conflict(closed(revision, again), offer.plan_oid.as_str()).await;
        }
        let run = run(&run_id(u64::from(revision)), &offer);
        bed.conflict(Change::Approved { name: kuma(), run: Box::new(run) }, offer.plan_oid.as_str()).await;
    }
    assert_eq!(bed.facts(&kuma()).await.run, None);
    bed.conflict(closed(99, OfferState::Stale), plan_oid(99).as_str()).await;
}

/// An approval closes the offer and makes the run, once.
pub async fn r1_an_offer_is_approved_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let offer = bed.offered(&kuma()).await;
    let approved = |number| Change::Approved { name: kuma(), run: Box::new(run(&run_id(number), &offer)) };
    bed.apply(approved(1)).await;
    assert_eq!(bed.facts(&kuma()).await.offers[0].state, OfferState::Approved);
    for number in [1, 2] {
        bed.conflict(approved(number), offer.plan_oid.as_str()).await;
    }
    assert_eq!(bed.run().await, run(&run_id(1), &offer));
}

/// An offer of another request is no offer, whatever its bytes.
pub async fn s2_an_approval_is_of_its_own_request(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let offer = bed.offered(&kuma()).await;
    bed.request(&name("other")).await;
    let change = Change::Approved { name: name("other"), run: Box::new(run(&run_id(1), &offer)) };
    bed.conflict(change, "other").await;
}

/// The id of a run is given once; the offer whose approval carries a used one stays open.
pub async fn r1_a_run_id_is_used_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.running(&kuma(), 1).await;
    let offer = bed.offered(&name("other")).await;
    let error = bed.refused(Change::Approved { name: name("other"), run: Box::new(run(&run_id(1), &offer)) }).await;
    assert!(matches!(error, Error::Conflict { .. } | Error::Database(_)), "{error:?}");
    assert_eq!(bed.facts(&name("other")).await.offers[0].state, OfferState::Open);
}
