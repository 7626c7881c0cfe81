//! Facts of a request about which nothing is known yet, and offers of a plan.

use chiffon_core::facts::{Offer, OfferState, RequestFacts, RequestFile};
use chiffon_schemas::{Plan, Timestamp, blob_oid, plan_bytes};

use crate::plans::{name, oid, path};

pub const OFFER_STATES: [OfferState; 10] = [
    OfferState::Open,
    OfferState::Approved,
    OfferState::Rejected,
    OfferState::Withdrawn,
    OfferState::Edited,
    OfferState::Stale,
    OfferState::Expired,
    OfferState::Replaced,
    OfferState::ChangeAskedFor,
    OfferState::Refused,
];

/// A request that was just pushed.
pub fn request(text: &str) -> RequestFacts {
    RequestFacts {
        name: name(text),
        path: path(&format!("requests/{text}.yaml")),
        file: RequestFile::Valid { oid: oid('3'), priority: 3 },
        since: Timestamp::from_secs(0),
        plan_on_main: None,
        plan_branch: None,
        offers: Vec::new(),
        unplanned: None,
        refusal: None,
        run: None,
        pause: None,
        replan_after: None,
        pull: None,
    }
}

pub fn offer(plan: &Plan, state: OfferState) -> Offer {
    Offer {
        plan_oid: blob_oid(&plan_bytes(plan)),
        plan: plan.clone(),
        path: path("plans/kuma.yaml"),
        main: None,
        branch_commit: None,
        at: Timestamp::from_secs(0),
        state,
    }
}
