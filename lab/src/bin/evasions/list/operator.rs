//! Wrong blocks, and orders that do something else than they say.

use super::{Part, Test, deny, own, row, unit, whole};

pub const OPERATOR: Part = Part {
    title: "Wrong blocks, and what the operator is told",
    rows: &[
        row(
            "the main process of a unit is a narrow target",
            &[deny(
                "standing",
                "the_main_process_of_a_unit_is_held_a_minute_and_what_runs_beside_it_is_not",
            )],
        ),
        row(
            "a spinning denied process takes a service's listener, or the kernel's answers, along",
            &[
                deny(
                    "bystanders",
                    "a_listener_that_answers_while_a_denied_process_runs_goes_on_listening",
                ),
                deny(
                    "bystanders",
                    "what_the_kernel_itself_answers_while_a_denied_process_runs_is_sent",
                ),
            ],
        ),
        row(
            "an entry for one peer refuses a socket all others",
            &[deny("deny", "a_socket_that_was_refused_one_peer_sends_to_others")],
        ),
        row(
            "an entry for the network of a program stands in the way of one that stops it",
            &[deny(
                "deny",
                "a_program_that_may_not_run_and_its_network_are_two_entries_in_either_order",
            )],
        ),
        row(
            "who orders it is refused the network himself, where no login is known",
            &[
                unit(
                    "responder",
                    "protected::users::tests::who_may_be_the_one_that_orders_it_is_refused_by_force_alone",
                ),
                whole(
                    "killed",
                    "an_operators_entry_is_refused_where_it_is_too_wide_or_the_host_itself_needs_it",
                ),
            ],
        ),
        row(
            "the number of a process that has exited is refused to the next",
            &[unit(
                "responder",
                "kernel::tests::trees::who_has_exited_dooms_no_later_process_of_its_number",
            )],
        ),
        row(
            "a restart forgets the baseline; the host's root cgroup is a target",
            &[
                unit(
                    "responder",
                    "protected::remembered::tests::what_normal_life_used_is_known_after_a_restart",
                ),
                unit("responder", "target::tests::init_and_the_root_cgroup_are_never_a_target"),
                unit(
                    "responder",
                    "policy::tests::the_hosts_root_cgroup_is_no_target_the_process_in_it_is",
                ),
            ],
        ),
        row(
            "orders that do more, or less, than they say",
            &[
                deny("standing", "modes_and_allowed_addresses_outlive_stops_kills_and_reboots"),
                whole(
                    "killed",
                    "disarm_works_beside_a_daemon_and_after_it_and_remove_takes_everything_away",
                ),
                own("names::tests::a_beginning_that_fits_several_is_refused_with_the_candidates"),
                own(
                    "control::server::tests::a_request_that_was_refused_for_time_is_never_executed",
                ),
                own("control::server::tests::a_request_whose_client_has_gone_is_never_executed"),
            ],
        ),
        row(
            "a user or program is denied that the host, or the operator, stands on",
            &[
                deny("deny", "nobody_whom_the_host_stands_on_is_refused_by_user"),
                unit("responder", "protected::users::tests::only_people_can_be_refused_by_user"),
                own(
                    "daemon::targets::tests::logins_and_what_the_host_stands_on_are_spared_scripts_too",
                ),
            ],
        ),
        row(
            "a clock that is set prolongs maintenance, a mute or an allowance",
            &[own("daemon::orders::tests::a_clock_that_is_set_prolongs_and_ends_nothing")],
        ),
        row(
            "enforce without its hooks; entries lifted by a restart",
            &[
                whole("killed", "enforce_that_was_ordered_and_can_not_be_is_a_finding"),
                whole(
                    "killed",
                    "a_service_managers_stop_keeps_entries_to_their_expiry_and_leaves_nothing_without_any",
                ),
            ],
        ),
        row(
            "a torn ledger line, a full disk",
            &[
                unit("responder", "ledger::tests::a_torn_line_is_healed_and_the_file_is_private"),
                deny("standing", "a_line_that_was_lost_is_written_when_its_entry_is_adopted"),
            ],
        ),
        row(
            "secrets on disk and in Kafka",
            &[
                unit("event", "gate::tests::a_secret_is_taken_out_and_the_rest_stays"),
                unit("event", "gate::tests::a_secret_is_taken_out_of_a_joined_line_too"),
                unit("sink", "kafka::config::tests::a_value_that_the_client_refuses_is_not_told"),
            ],
        ),
        row(
            "a name that writes on the operator's terminal",
            &[
                unit(
                    "event",
                    "gate::tests::a_terminal_is_told_of_control_characters_and_obeys_none",
                ),
                own("text::tests::a_name_with_control_characters_forges_no_line"),
            ],
        ),
        row(
            "names and paths so long that a finding is too large to be sent",
            &[
                own("daemon::process::tests::no_path_is_told_longer_than_the_kernel_tells_one"),
                unit(
                    "probe",
                    "identity::workload::tests::a_long_name_keeps_its_head_and_is_told_from_others",
                ),
                Test(
                    "sink",
                    "ocsf",
                    "nobody_keeps_a_finding_about_himself_from_being_sent_by_what_he_calls_things",
                ),
            ],
        ),
        row(
            "running from memory while `hedgerow test` does, so that it lifts the entry",
            &[own("commands::test::tests::what_others_run_from_memory_is_not_the_incident")],
        ),
        row(
            "a state directory that others can write to; two daemons",
            &[
                whole("outside", "two_daemons_never_share_a_state_directory"),
                own(
                    "host::tests::a_state_directory_that_others_can_touch_is_refused_with_the_way_out",
                ),
                own(
                    "host::tests::a_capture_is_made_only_where_nobody_else_chooses_what_is_learned",
                ),
            ],
        ),
        row("wrong namespaces", &[whole("outside", "wrong_namespaces_are_refused_by_name")]),
        row(
            "allowing most of the world; a misspelt name",
            &[
                unit(
                    "responder",
                    "allow::tests::no_allowance_exempts_most_of_the_world_but_an_old_one_can_be_taken_back",
                ),
                whole(
                    "killed",
                    "an_operators_entry_is_refused_where_it_is_too_wide_or_the_host_itself_needs_it",
                ),
                own("names::tests::a_misspelt_name_is_refused_with_the_nearest"),
            ],
        ),
        row(
            "a capture that is killed loses all since its last rotation",
            &[whole(
                "captures",
                "a_killed_capture_loses_seconds_and_nobody_else_writes_beside_a_live_one",
            )],
        ),
    ],
};
