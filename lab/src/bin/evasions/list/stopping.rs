//! Holding the daemon up from a container.

use super::{Part, deny, own, partly, probe, row, unit, whole};

pub const STOPPING: Part = Part {
    title: "Stopping the daemon from a container",
    rows: &[
        row(
            "a FIFO or a device in the place of a file that is read",
            &[
                whole("outside", "files_that_wait_for_a_reader_hold_nothing_up"),
                deny("gather", "traps_hold_up_no_reading_and_addresses_stay_in_their_namespaces"),
                unit("hostfile", "open::tests::only_regular_files_of_real_file_systems_are_opened"),
                unit("hostfile", "open::tests::links_stay_inside"),
            ],
        ),
        row(
            "a reader that is gone or stalls; SIGHUP",
            &[
                whole("outside", "who_closes_standard_output_stops_the_daemon_cleanly"),
                whole("outside", "a_stalled_reader_closed_errors_and_a_hangup_stop_nothing"),
                whole("outside", "a_hangup_is_told"),
            ],
        ),
        row(
            "a journal that is stopped, or kept from reading",
            &[
                whole("service", "a_service_manager_is_told_of_start_health_reload_and_stop"),
                whole("service", "a_standard_error_that_stalls_stops_no_sign_of_life"),
                own("daemon::watchdog::tests::standard_error_that_nobody_reads_stops_no_pulse"),
            ],
        ),
        row(
            "the metrics' port taken before the daemon comes, or held by idle connections",
            &[
                own(
                    "metrics::tests::a_port_that_somebody_else_has_holds_nothing_up_and_is_taken_once_it_is_free",
                ),
                own("metrics::tests::who_hangs_on_makes_room_for_who_asks"),
            ],
        ),
        row(
            "readers of the control socket that hold connections, or ask or send without end",
            &[
                own(
                    "control::server::tests::readers_hold_no_more_places_than_theirs_and_send_no_more_than_a_request",
                ),
                own(
                    "control::server::tests::what_readers_ask_again_at_once_is_not_asked_of_the_daemon",
                ),
            ],
        ),
        row(
            "a full or slow disk under the ledger; refusals without end that push all else out of it",
            &[
                unit(
                    "responder",
                    "ledger::tests::a_full_disk_holds_nobody_up_and_lines_come_when_there_is_room",
                ),
                unit("responder", "ledger::tests::its_size_is_capped_by_rotation"),
                unit(
                    "responder",
                    "quota::tests::who_is_refused_without_end_gets_a_line_a_second_and_then_a_count",
                ),
                unit(
                    "responder",
                    "ledger::tests::a_new_file_that_can_not_be_made_costs_no_line_and_no_file_before",
                ),
            ],
        ),
        row(
            "a disk that is full or stands still under everything else",
            &[
                deny("standing", "a_disk_that_stands_still_holds_up_no_decision"),
                deny(
                    "standing",
                    "on_a_full_disk_a_stop_lifts_everything_and_says_what_was_not_written",
                ),
                whole("scarce", "a_disk_that_stands_still_holds_up_no_window"),
                whole(
                    "scarce",
                    "without_an_inode_to_be_had_at_its_start_a_daemon_watches_all_the_same",
                ),
                whole(
                    "scarce",
                    "a_first_start_in_enforce_without_an_inode_is_told_and_writes_once_there_is_one",
                ),
                unit(
                    "sink",
                    "lines::tests::a_new_file_that_can_not_be_made_costs_none_of_the_others",
                ),
            ],
        ),
        partly(
            "a fork bomb that leaves no thread",
            &[whole(
                "scarce",
                "without_a_thread_to_be_had_windows_close_entries_refuse_and_a_stop_lifts_them",
            )],
            "sockets that stand are not destroyed then, their packets are dropped",
        ),
        row(
            "names so long that a file of the state can't be read back",
            &[
                unit(
                    "responder",
                    "protected::remembered::tests::files_that_a_flood_of_long_names_ran_are_read_back",
                ),
                unit(
                    "responder",
                    "protected::remembered::tests::peers_of_a_flood_of_long_names_are_read_back_and_what_found_no_room_is_no_target",
                ),
                deny(
                    "standing",
                    "what_normal_life_has_shown_and_can_not_be_read_denies_nothing_by_itself_until_somebody_says_so",
                ),
            ],
        ),
        row(
            "so many workloads that a new one can never be enforced",
            &[unit(
                "responder",
                "coverage::tests::a_flood_of_names_costs_who_makes_it_and_who_comes_later_has_its_week",
            )],
        ),
        row(
            "/proc/PID/cmdline hangs, or a container's description",
            &[
                probe("aside", "windows_close_while_a_containers_description_never_comes"),
                unit(
                    "probe",
                    "identity::aside::tests::who_asks_waits_a_moment_and_is_told_when_the_answer_comes",
                ),
                unit("hostfile", "reader::tests::no_more_than_four_are_left_behind"),
                unit(
                    "hostfile",
                    "whose::tests::the_namespaces_of_one_containers_root_are_one_owner",
                ),
            ],
        ),
        row(
            "a record that is begun and never finished",
            &[unit("probe", "epoch::tests::a_ring_that_stands_still_holds_no_window_up_for_ever")],
        ),
        row(
            "a stage that stands still for a reason that nobody thought of",
            &[
                own(
                    "daemon::watchdog::tests::a_stage_with_work_that_gets_nothing_done_is_told_once_and_again_when_it_goes_on",
                ),
                own("daemon::watchdog::tests::the_main_loop_says_what_it_is_at"),
            ],
        ),
        row(
            "an address in an own network namespace is one of the host's",
            &[unit(
                "responder",
                "protected::tests::what_a_namespace_names_protects_who_lives_there_and_nobody_else",
            )],
        ),
    ],
};
