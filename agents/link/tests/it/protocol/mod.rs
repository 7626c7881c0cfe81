//! The protocol's own tests: the reconciler's part of `docs/protocol.md`, played over a real broker against an agent in a
//! process of its own.
//!
//! Each case of [`cases`] runs against both agents: the one in Python that was written from the page alone
//! (`tests/protocol/agent.py`), and `chiffon-agent`, which gets a requests and an infra repository of its own and runs
//! real playbooks of one task. The cases of [`chiffon_agent_only`] need what the Python agent leaves out: it asks no git.

mod cases;
mod lab;
mod reconciler;
mod subject;

use reconciler::Reconciler;
use subject::Kind;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        mod python_agent {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::cases::$name(super::Reconciler::of(super::Kind::Python).await).await;
            })*
        }
        mod chiffon_agent {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::cases::$name(super::Reconciler::of(super::Kind::Chiffon).await).await;
            })*
        }
    };
}

cases![
    a_life_begins_with_hello_and_goes_on_with_heartbeats,
    a_life_that_is_not_known_introduces_itself_again,
    an_order_is_claimed_and_nothing_starts_without_a_grant,
    r1_orders_and_grants_that_are_repeated_start_once,
    reports_rise_from_started_over_the_log_to_the_end,
    r1_a_grant_of_another_life_or_order_starts_nothing,
    r4_a_stale_fence_starts_nothing,
    s12_what_is_not_signed_for_this_agent_is_parked_and_nothing_is_claimed,
    r7_what_cannot_be_read_is_parked_with_its_reason,
    reports_are_sent_again_until_they_are_stored,
    r1_an_agent_that_was_killed_at_work_never_starts_again_and_says_so,
    an_agent_that_was_killed_after_its_claim_claims_again,
    an_end_that_was_not_stored_outlives_its_agent,
    r9_a_cancel_stops_what_runs,
    a_cancel_that_crosses_the_grant_starts_nothing,
    what_is_refused_is_forgotten,
    words_about_unknown_attempts_are_harmless,
    r5_a_broken_line_ends_no_life,
];

mod chiffon_agent_only {
    use super::{Kind, Reconciler, cases};

    #[tokio::test(flavor = "multi_thread")]
    async fn s1_an_order_that_git_does_not_bear_out_is_declined() {
        cases::s1_an_order_that_git_does_not_bear_out_is_declined(Reconciler::of(Kind::Chiffon).await).await;
    }
}
