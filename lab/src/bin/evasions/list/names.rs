//! Names that are forged, and evidence that is hidden.

use super::{Part, own, partly, probe, row, unit};

pub const NAMES: Part = Part {
    title: "Names and evidence",
    rows: &[
        row(
            "a path that doesn't fit names another program by its tail",
            &[
                probe("deeds", "a_path_that_is_too_long_names_nothing"),
                probe("decode", "paths_that_were_cut_say_so"),
                unit(
                    "detect",
                    "deeds::tests::execs::a_path_that_was_cut_is_told_and_is_no_other_programs",
                ),
            ],
        ),
        row(
            "a file that can't be read counts as unchanged",
            &[
                unit(
                    "probe",
                    "identity::digest::tests::a_known_path_whose_new_content_cant_be_had_is_told_once_and_never_taken_for_unchanged",
                ),
                unit("probe", "identity::digest::reader::tests::a_large_file_is_not_read"),
                unit("hostfile", "reader::tests::who_hangs_is_refused_and_others_are_read"),
            ],
        ),
        partly(
            "a protected program's path on another file",
            &[
                probe(
                    "tenants",
                    "a_path_is_what_it_says_in_the_hosts_root_only_run_by_root_and_without_other_code",
                ),
                unit(
                    "responder",
                    "protected::tests::programs_that_keep_the_host_reachable_are_protected_where_they_belong",
                ),
                unit(
                    "responder",
                    "protected::tests::a_script_is_protected_by_its_own_path_and_not_by_its_interpreters",
                ),
            ],
            "of what ran before the sensor only the path is known; root of the host can put his own file there",
        ),
        row(
            "ids that can be inverted; a file really named `x (deleted)`",
            &[
                probe("deeds", "programs_have_ids_that_nobody_can_compute_without_the_key"),
                own("host::tests::the_key_is_made_once_for_root_alone_and_another_file_is_none"),
                unit(
                    "probe",
                    "identity::aside::tests::a_file_that_is_really_named_deleted_is_another_program",
                ),
                unit("probe", "identity::aside::tests::another_process_of_the_same_number_is_gone"),
            ],
        ),
        row(
            "long arguments name a program otherwise after a restart",
            &[unit("probe", "identity::program::tests::the_word_that_the_limit_cuts_is_none")],
        ),
        row(
            "a connect that a signal interrupts is no call",
            &[probe("deeds", "a_connect_that_a_signal_interrupts_is_told")],
        ),
        row(
            "SQPOLL: what the polling thread does is n-gram checked by nobody",
            &[probe(
                "deeds",
                "an_open_by_io_uring_tells_its_name_and_a_polling_thread_is_of_its_program",
            )],
        ),
        row(
            "threads that end at once are counted more than once",
            &[probe("deeds", "threads_that_end_at_once_end_their_process_once")],
        ),
        row(
            "exec and fork without a row are dropped in silence",
            &[
                unit("probe", "drain::tests::what_no_row_could_be_made_for_is_lost"),
                probe("calls", "every_record_is_received_or_counted_as_lost"),
            ],
        ),
        row(
            "what a short-lived cgroup does is the host's",
            &[unit(
                "probe",
                "identity::resolver::tests::a_cgroup_that_is_gone_keeps_the_name_that_its_making_told",
            )],
        ),
        row(
            "an io_uring set up or used by who never did",
            &[unit(
                "detect",
                "deeds::tests::calls::io_uring_is_told_by_its_set_up_or_by_its_requests",
            )],
        ),
        row(
            "packet sockets, clone3's namespaces, code in anonymous memory, rights that grew",
            &[
                probe("deeds", "packet_sockets_are_told_and_others_are_not"),
                probe("deeds", "clone3_tells_the_namespaces_that_the_child_has"),
                probe("deeds", "anonymous_executable_memory_is_told_and_a_library_is_not"),
                probe("deeds", "rights_that_grow_without_a_call_are_told"),
                probe("deeds", "rights_that_change_by_calls_are_none_that_grew"),
            ],
        ),
        row(
            "a stream over SCTP is no flow",
            &[probe("flow_sockets", "a_stream_over_sctp_is_a_flow")],
        ),
        row(
            "openat2, renames and links where it is decided what runs",
            &[
                probe("deeds", "openat2_tells_how_its_file_is_open"),
                probe("deeds", "renames_and_links_tell_the_new_name_in_its_directory"),
                unit(
                    "detect",
                    "deeds::tests::files::a_file_that_is_renamed_or_linked_to_where_it_is_decided_what_runs_is_told",
                ),
            ],
        ),
        row("a hook that fails is never counted", &[probe("calls", "every_hook_is_proved")]),
        row(
            "a path buffer that is rewritten behind the kernel's back",
            &[probe("evidence", "a_rewritten_path_buffer_deceives_nobody")],
        ),
    ],
};
