//! The ways around Hedgerow that are known, each with the tests that guard against it.

/// A test: directory of its package, target (`lib` for a library's unit test), name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Test(pub &'static str, pub &'static str, pub &'static str);

/// One way around.
#[derive(Debug)]
pub struct Row {
    pub what: &'static str,
    pub guards: &'static [Test],
    /// What stays open, or what a kernel can't do; a row without a guard is open.
    pub open: &'static str,
}

/// A part of the table.
#[derive(Debug)]
pub struct Part {
    pub title: &'static str,
    pub rows: &'static [Row],
}

const fn row(what: &'static str, guards: &'static [Test]) -> Row {
    Row { what, guards, open: "" }
}

const fn partly(what: &'static str, guards: &'static [Test], open: &'static str) -> Row {
    Row { what, guards, open }
}

const fn open(what: &'static str, open: &'static str) -> Row {
    Row { what, guards: &[], open }
}

const fn unit(package: &'static str, name: &'static str) -> Test {
    Test(package, "lib", name)
}

const fn probe(target: &'static str, name: &'static str) -> Test {
    Test("probe", target, name)
}

const fn deny(target: &'static str, name: &'static str) -> Test {
    Test("responder", target, name)
}

const fn whole(target: &'static str, name: &'static str) -> Test {
    Test(".", target, name)
}

/// A unit test of the program itself.
const fn own(name: &'static str) -> Test {
    Test(".", "hedgerow", name)
}

pub const TABLE: &[Part] = &[
    Part {
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
                &[unit(
                    "responder",
                    "protected::tests::programs_that_keep_the_host_reachable_are_protected_where_they_belong",
                )],
                "a container's own /usr/bin/conmon, and loader overrides, have no guard yet",
            ),
            row(
                "ids that can be inverted; a file really named `x (deleted)`",
                &[
                    probe("deeds", "programs_have_ids_that_nobody_can_compute_without_the_key"),
                    own(
                        "host::tests::the_key_is_made_once_for_root_alone_and_another_file_is_none",
                    ),
                    unit(
                        "probe",
                        "identity::aside::tests::a_file_that_is_really_named_deleted_is_another_program",
                    ),
                    unit(
                        "probe",
                        "identity::aside::tests::another_process_of_the_same_number_is_gone",
                    ),
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
            partly(
                "packet sockets, clone3's namespaces, code in anonymous memory, rights that grew",
                &[
                    probe("deeds", "packet_sockets_are_told_and_others_are_not"),
                    probe("deeds", "clone3_tells_the_namespaces_that_the_child_has"),
                    probe("deeds", "anonymous_executable_memory_is_told_and_a_library_is_not"),
                    probe("deeds", "rights_that_grow_without_a_call_are_told"),
                    probe("deeds", "rights_that_change_by_calls_are_none_that_grew"),
                ],
                "flows of SCTP are counted where the kernel has it, and have no guard yet",
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
    },
    Part {
        title: "Being busy, or loud",
        rows: &[
            row(
                "noise beside a theft makes its evidence incomplete",
                &[
                    whole(
                        "incident",
                        "an_incident_is_shown_end_to_end_and_a_replaced_program_relearns",
                    ),
                    probe("calls", "what_the_token_bucket_holds_back_is_limited_and_not_lost"),
                ],
            ),
            open("one workload's evidence fills the rings of all", "no guard yet"),
            partly(
                "tables that fill for ever, in silence",
                &[
                    unit("probe", "identity::resolver::tests::caches_stay_bounded"),
                    unit(
                        "probe",
                        "identity::service::tests::a_name_stands_and_what_finds_no_room_is_counted",
                    ),
                    unit(
                        "responder",
                        "limits::tests::no_workload_takes_more_than_it_leaves_to_the_others",
                    ),
                ],
                "workload names have no guard yet",
            ),
            row(
                "decoys trip the breaker, and nothing is denied until a person comes",
                &[unit(
                    "responder",
                    "kernel::tests::decoys_trip_the_breaker_for_wide_entries_and_shield_no_narrow_offender",
                )],
            ),
            row(
                "a monitored tree whose table is full is killed",
                &[unit(
                    "responder",
                    "kernel::tests::a_monitored_tree_without_room_is_neither_refused_nor_killed",
                )],
            ),
            row(
                "packets and tries keep a wrong block for ever; --for is not what is asked",
                &[
                    deny("order", "packets_from_outside_are_dropped_and_keep_no_entry"),
                    deny(
                        "order",
                        "tries_alone_keep_an_entry_for_an_hour_and_only_a_fresh_finding_opens_it_again",
                    ),
                    deny("order", "an_operators_entry_stands_exactly_as_long_as_was_asked"),
                ],
            ),
        ],
    },
    Part {
        title: "Stopping the daemon from a container",
        rows: &[
            row(
                "a FIFO or a device in the place of a file that is read",
                &[
                    whole("outside", "files_that_wait_for_a_reader_hold_nothing_up"),
                    deny(
                        "gather",
                        "traps_hold_up_no_reading_and_addresses_stay_in_their_namespaces",
                    ),
                    unit(
                        "hostfile",
                        "open::tests::only_regular_files_of_real_file_systems_are_opened",
                    ),
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
                "a full or slow disk under the ledger",
                &[
                    unit(
                        "responder",
                        "ledger::tests::a_full_disk_holds_nobody_up_and_lines_come_when_there_is_room",
                    ),
                    unit("responder", "ledger::tests::its_size_is_capped_by_rotation"),
                ],
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
                ],
            ),
            row(
                "a record that is begun and never finished",
                &[unit(
                    "probe",
                    "epoch::tests::a_ring_that_stands_still_holds_no_window_up_for_ever",
                )],
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
    },
    Part {
        title: "Ways out of a denial",
        rows: &[
            row(
                "subflows of MPTCP",
                &[deny(
                    "escape",
                    "subflows_of_mptcp_carry_nothing_once_their_tree_or_peer_is_denied",
                )],
            ),
            row(
                "double fork",
                &[deny("escape", "who_left_the_tree_by_forking_twice_is_inside_all_the_same")],
            ),
            row(
                "orphans of who has exited",
                &[deny(
                    "escape",
                    "a_process_that_has_exited_is_denied_in_what_it_forked_and_refused_without",
                )],
            ),
            row(
                "an inherited listener whose maker has exited",
                &[deny(
                    "escape",
                    "a_listener_that_a_denied_tree_holds_accepts_no_more_also_once_its_maker_has_exited",
                )],
            ),
            row(
                "a level that says more than is done",
                &[
                    deny(
                        "pairs",
                        "each_pair_is_refused_as_the_table_says_and_the_others_are_let_through",
                    ),
                    deny("pairs", "a_hook_that_this_kernel_lacks_is_named_with_the_reason"),
                ],
            ),
            partly(
                "copies of the file, under a denied tree",
                &[deny("escape", "copies_and_loaders_are_inside_the_tree_that_runs_them")],
                "an entry for a program stops its file, not a copy of it",
            ),
            partly(
                "ld.so ./prog, of a denied program",
                &[deny(
                    "escape",
                    "a_denied_program_is_not_run_by_its_loader_where_maps_can_be_refused",
                )],
                "only where LSM programs load",
            ),
            row(
                "TCP fast open",
                &[deny("escape", "a_denied_tree_opens_no_socket_of_any_internet_protocol")],
            ),
            partly(
                "SCTP, UDP-Lite, raw sockets",
                &[deny("escape", "a_denied_tree_opens_no_socket_of_any_internet_protocol")],
                "a protocol that the kernel lacks is not tried",
            ),
            partly(
                "SMC",
                &[deny("escape", "sockets_of_other_families_are_refused_where_lsm_programs_load")],
                "not tried where the kernel has none; its handshake is a connect of TCP",
            ),
            partly(
                "AF_PACKET, AF_XDP",
                &[deny(
                    "escape",
                    "packet_sockets_of_a_denied_tree_are_refused_or_cost_its_process_its_life",
                )],
                "one that stood before the denial goes on; for programs and cgroups only LSM refuses it",
            ),
            partly(
                "AF_VSOCK, Bluetooth and other families without capabilities",
                &[deny("escape", "sockets_of_other_families_are_refused_where_lsm_programs_load")],
                "only where LSM programs load",
            ),
            row("io_uring", &[deny("escape", "what_a_ring_asks_for_is_refused_as_a_call_is")]),
            row("SQPOLL", &[deny("escape", "what_a_ring_asks_for_is_refused_as_a_call_is")]),
            row(
                "v4-mapped both ways, 0.0.0.0, ::, NAT64",
                &[
                    deny("escape", "other_spellings_of_an_address_are_that_address"),
                    deny("deny", "a_denied_peer_refuses_datagrams_of_both_families"),
                ],
            ),
            partly(
                "sockets that are handed over, or inherited from who goes on to hold them",
                &[
                    deny(
                        "escape",
                        "sockets_that_a_denied_process_inherited_or_was_handed_carry_nothing_of_it",
                    ),
                    deny("deny", "a_denied_socket_stays_denied_in_other_hands"),
                    unit(
                        "responder",
                        "sockets::tests::a_socket_handed_out_of_the_tree_is_cut_where_the_tree_made_it",
                    ),
                    unit(
                        "responder",
                        "sockets::tests::a_connection_for_standard_streams_was_given_to_the_tree_and_a_listener_was_not",
                    ),
                ],
                "who only reads a connection of others, other than its standard streams, goes on reading",
            ),
            row(
                "child cgroups",
                &[deny("deny", "a_denied_cgroup_is_not_escaped_into_a_child_cgroup")],
            ),
            row(
                "another network namespace",
                &[deny("deny", "a_connection_inside_another_network_namespace_is_cut")],
            ),
            row(
                "a table of denied processes that is full",
                &[unit(
                    "responder",
                    "kernel::tests::a_child_without_room_is_refused_and_dies_at_its_next_exec",
                )],
            ),
            row(
                "killing the daemon",
                &[
                    deny("order", "entries_outlive_a_killed_daemon_and_the_next_one_adopts_them"),
                    deny(
                        "standing",
                        "what_a_killed_daemon_leaves_follows_forks_and_execs_and_expires_by_itself",
                    ),
                    deny("upgrade", "while_one_daemon_replaces_another_nothing_slips_through"),
                    deny(
                        "upgrade",
                        "maps_of_another_layout_refuse_until_their_entries_are_in_ours",
                    ),
                    deny(
                        "upgrade",
                        "a_daemon_that_is_killed_in_the_middle_of_a_denial_leaves_an_entry_or_none",
                    ),
                    deny("upgrade", "a_stopped_daemon_refuses_until_the_expiry_and_not_beyond"),
                ],
            ),
            row(
                "taking programs and entries out of the kernel",
                &[
                    deny("watch", "detached_and_unpinned_programs_are_told"),
                    deny("watch", "foreign_entries_changes_and_allowances_are_told"),
                ],
            ),
        ],
    },
    Part {
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
                    own(
                        "names::tests::a_beginning_that_fits_several_is_refused_with_the_candidates",
                    ),
                    own(
                        "control::server::tests::a_request_that_was_refused_for_time_is_never_executed",
                    ),
                    own(
                        "control::server::tests::a_request_whose_client_has_gone_is_never_executed",
                    ),
                ],
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
                    unit(
                        "responder",
                        "ledger::tests::a_torn_line_is_healed_and_the_file_is_private",
                    ),
                    deny("standing", "a_line_that_was_lost_is_written_when_its_entry_is_adopted"),
                ],
            ),
            row(
                "secrets on disk and in Kafka",
                &[
                    unit("event", "gate::tests::a_secret_is_taken_out_and_the_rest_stays"),
                    unit("event", "gate::tests::a_secret_is_taken_out_of_a_joined_line_too"),
                    unit(
                        "sink",
                        "kafka::config::tests::a_value_that_the_client_refuses_is_not_told",
                    ),
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
    },
];

#[cfg(test)]
const HEAD: &str = "\
# Ways around Hedgerow

What an attacker who knows Hedgerow would try, and the tests that guard against it. `make evasions` runs
them, here and under Debian's 6.1 and 6.12 kernels, and prints the results. What stays open is
said. This file is generated from `lab/src/bin/evasions/list.rs` and checked by `cargo test -p
hedgerow-lab --bin evasions`; with `HEDGEROW_UPDATE_DOCS=1` that writes it.

";

/// docs/evasions.md.
#[cfg(test)]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for part in TABLE {
        text += &format!("## {}\n\n| way | guarded by | open |\n|---|---|---|\n", part.title);
        for row in part.rows {
            let name = |Test(package, target, name): &Test| match (*package, *target) {
                (".", "hedgerow") => format!("`src`: `{name}`"),
                (".", target) => format!("`tests/{target}.rs`: `{name}`"),
                (package, "lib") => format!("`{package}`: `{name}`"),
                (package, target) => format!("`{package}/tests/{target}.rs`: `{name}`"),
            };
            let guards: Vec<_> = row.guards.iter().map(name).collect();
            let guards = if guards.is_empty() { "nothing".to_owned() } else { guards.join("<br>") };
            text += &format!("| {} | {guards} | {} |\n", row.what, row.open);
        }
        text += "\n";
    }
    text.trim_end().to_owned() + "\n"
}
