//! The suite that every adapter of the store must pass, so that nothing above can tell them apart.
//!
//! An adapter's test gives a [`Fixture`] and calls [`crate::store_conformance!`]; each behaviour becomes a test. Only
//! the port is used here: what one adapter's tables hold is that adapter's own test.

mod bed;
mod sample;

pub mod attempts;
pub mod commands;
pub mod enrolments;
pub mod events;
pub mod locks;
pub mod logs;
pub mod offers;
pub mod outbox;
pub mod repositories;
pub mod requests;
pub mod runs;

pub use bed::{Bed, Fixture, command, ended, granted, key, kuma, message, moved, ordered, recorded, seen};
pub use sample::{at, boot, host, hosts, name, offer, oid, outcome, path, plan, plan_oid, run, run_id};

/// Makes a test of each behaviour; the expression gives a fresh [`Fixture`] and may await.
#[macro_export]
macro_rules! store_conformance {
    ($fixture:expr) => {
        $crate::store_conformance!(@ $fixture; repositories;
            a_repository_keeps_its_id,
            repositories_share_nothing_but_their_names,
            events_of_another_repository_are_not_marked,
            a_run_is_changed_only_in_its_own_repository,
        );
        $crate::store_conformance!(@ $fixture; requests;
            main_is_moved_only_from_where_it_was,
            files_come_back_as_they_were_seen,
            a_plan_without_a_request_is_known,
            since_is_kept_while_the_content_is_the_same,
            what_is_said_of_a_request_comes_back_whole,
            what_is_not_there_is_not_changed,
            files_that_are_not_read_are_listed,
            r3_a_change_between_looking_and_settling_is_not_forgotten,
            r3_every_change_wakes_a_request_at_rest,
            r3_every_step_of_an_attempt_is_a_change_of_its_request,
            what_waits_for_time_is_always_looked_at,
            a_failure_is_always_looked_at,
            active_requests_come_by_priority_and_age,
            archived_requests_are_listed_only_when_asked_for,
            a_deleted_request_without_a_run_is_archived,
            a_refused_plan_without_a_request_is_no_archive_matter,
        );
        $crate::store_conformance!(@ $fixture; offers;
            an_offer_comes_back_whole,
            an_offer_without_main_comes_back_whole,
            s2_only_one_offer_is_open,
            revisions_rise_by_one,
            an_edited_offer_replaces_the_open_one,
            an_offer_clears_what_was_in_its_way,
            an_offer_is_shown,
            s2_a_closed_offer_stays_closed,
            r1_an_offer_is_approved_once,
            s2_an_approval_is_of_its_own_request,
            r1_a_run_id_is_used_once,
        );
        $crate::store_conformance!(@ $fixture; runs;
            a_run_comes_back_whole,
            an_approval_by_nobody_known_comes_back_so,
            a_run_ends_once,
            a_voided_run_says_so,
            only_a_lost_run_is_resolved,
            a_run_that_is_over_is_reopened_in_the_next_round,
            a_run_is_asked_to_stop_while_it_goes_on,
            an_unknown_run_is_not_changed,
            the_last_run_is_the_one_of_the_facts,
            the_first_grant_is_remembered,
            history_is_found_by_playbook,
        );
        $crate::store_conformance!(@ $fixture; attempts;
            an_order_comes_back_whole,
            r4_an_order_goes_to_another_agent_before_its_grant,
            r1_an_attempt_is_ordered_once,
            r1_a_run_that_is_over_orders_nothing,
            an_order_of_an_unknown_run_is_a_conflict,
            attempts_come_in_the_order_of_the_plan,
            r6_an_attempt_moves_only_along_the_allowed_graph,
            r6_an_attempt_moves_only_from_where_it_is,
            r1_only_a_grant_grants,
            an_unknown_attempt_does_not_move,
            a_grant_of_an_unknown_attempt_is_a_conflict,
            a_claim_is_of_one_life,
            r1_a_grant_is_given_once_and_sent_with_its_fence,
            only_grants_give_out_fences,
            r11_fences_never_come_twice_and_rise,
            r4_a_stale_fence_moves_nothing,
            r4_a_fence_before_the_grant_moves_nothing,
            r4_what_was_lost_is_settled_by_its_fence,
            moving_on_keeps_what_is_known,
            r4_a_new_life_takes_over_what_it_will_report,
        );
        $crate::store_conformance!(@ $fixture; locks;
            a_grant_locks_its_hosts,
            r1_locks_are_taken_all_at_once_or_not_at_all,
            attempts_of_one_run_share_its_locks,
            the_end_of_the_run_frees_the_locks,
            r4_the_end_of_a_lost_run_frees_nothing,
            r4_a_lost_attempt_keeps_its_locks,
            an_attempt_that_never_started_can_be_granted_again,
            a_person_frees_one_lock,
            an_end_frees_only_its_own_locks,
            a_refused_grant_locks_nothing,
        );
        $crate::store_conformance!(@ $fixture; logs;
            reports_in_order_are_stored,
            r7_a_report_is_stored_once,
            n7_after_a_gap_nothing_is_stored,
            n7_a_chunk_is_stored_once,
            r4_a_report_under_another_fence_is_refused,
            r4_a_late_report_is_stored,
            s12_a_report_of_another_agent_is_refused,
            old_logs_are_forgotten_and_those_of_runs_that_go_on_are_not,
            a_new_grant_begins_to_count_anew,
            a_log_is_read_in_pages,
        );
        $crate::store_conformance!(@ $fixture; outbox;
            messages_wait_in_the_order_in_which_they_were_sent,
            messages_come_back_whole,
            r5_a_message_waits_until_it_is_marked,
            r5_a_late_mark_loses_no_later_message,
            r7_what_was_put_aside_comes_back_whole_and_is_bounded,
        );
        $crate::store_conformance!(@ $fixture; enrolments;
            s12_an_invitation_is_used_once,
            s12_what_is_over_or_taken_back_invites_nobody,
            an_agent_that_is_invited_again_has_no_place_until_it_comes,
        );
        $crate::store_conformance!(@ $fixture; events;
            an_event_comes_back_whole,
            events_keep_their_order,
            an_event_is_appended_at_most_once,
            r3_a_change_and_its_events_are_one,
            r3_events_come_again_until_they_are_on_a_commit,
            marking_events_again_is_harmless,
            the_infra_cursor_moves_alone,
            events_come_newest_first,
            each_field_of_a_filter_narrows,
            the_fields_of_a_filter_narrow_together,
        );
        $crate::store_conformance!(@ $fixture; commands;
            commands_wait_in_order,
            a_command_is_answered_once,
            any_json_is_an_answer,
            an_unknown_command_has_no_answer,
            an_agent_is_known_by_what_was_heard_last,
        );
    };
    (@ $fixture:expr; $module:ident; $($(#[$meta:meta])* $name:ident),* $(,)?) => {
        mod $module {
            use super::*;
            $($(#[$meta])*
            #[tokio::test]
            async fn $name() {
                $crate::conformance::$module::$name(&$fixture).await;
            })*
        }
    };
}
