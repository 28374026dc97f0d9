//! Ways out of a denial that stands.

use super::{Part, deny, partly, row, unit};

pub const WAYS_OUT: Part = Part {
    title: "Ways out of a denial",
    rows: &[
        row(
            "subflows of MPTCP",
            &[deny("escape", "subflows_of_mptcp_carry_nothing_once_their_tree_or_peer_is_denied")],
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
            "who only reads a connection of others, other than its standard streams, goes on reading; what TCP holds back of what is written there (MSG_MORE, TCP_CORK, Nagle) leaves by a timer or an answer, in nobody's name, until a packet that left in the call itself has marked the socket",
        ),
        row("child cgroups", &[deny("deny", "a_denied_cgroup_is_not_escaped_into_a_child_cgroup")]),
        row(
            "another network namespace",
            &[deny("deny", "a_connection_inside_another_network_namespace_is_cut")],
        ),
        row(
            "a table of denied processes that is full, by one tree or by all",
            &[
                unit(
                    "responder",
                    "kernel::tests::trees::a_child_without_room_is_refused_and_dies_at_its_next_exec",
                ),
                unit("responder", "kernel::tests::trees::one_tree_leaves_room_for_others"),
            ],
        ),
        partly(
            "another cgroup, a set-uid program, a user namespace with other ids, other hands, of a denied user",
            &[
                deny("deny", "a_denied_user_is_refused_wherever_he_runs_and_what_he_made_is_cut"),
                deny("escape", "a_set_uid_program_does_not_change_which_user_asks"),
                deny("escape", "subordinate_ids_in_user_namespaces_are_their_owner"),
                deny(
                    "escape",
                    "a_socket_of_a_denied_user_is_refused_in_other_hands_and_one_of_others_is_not_in_his",
                ),
            ],
            "a connection that others made carries what he writes, as a proxy of theirs does; what he has run as another \
             user (sudo, another's cron, a namespace that a set-uid program of root's makes for him) is not his",
        ),
        partly(
            "another cgroup, of a program that is refused the network",
            &[deny("deny", "a_program_that_is_refused_the_network_runs_and_calls_nobody")],
            "a copy of the file, and what it starts, are other programs; packets on a socket that it was handed",
        ),
        partly(
            "the next address, once one is refused",
            &[
                unit(
                    "detect",
                    "tests::holding::the_next_peer_of_who_was_asked_about_is_asked_about_too",
                ),
                unit("detect", "tests::holding::no_peer_is_free_behind_many_others"),
                unit(
                    "responder",
                    "policy::tests::who_was_refused_a_peer_and_calls_another_is_denied_whole",
                ),
                unit(
                    "detect",
                    "tests::holding::who_is_asked_about_before_he_calls_is_asked_about_with_two_peers_all_the_same",
                ),
            ],
            "each is open until that is decided; a further peer by a process of its own each time is asked about only \
             where that process, or one above it, did something grave",
        ),
        partly(
            "waiting until the entry is over, and doing the same again",
            &[
                unit(
                    "detect",
                    "tests::holding::who_does_it_again_once_his_entry_is_over_is_asked_about_again",
                ),
                unit(
                    "detect",
                    "tests::holding::another_process_of_the_program_that_does_it_again_is_asked_about_by_the_first",
                ),
                unit("detect", "tests::holding::who_goes_on_is_told_once_an_hour"),
                unit("responder", "kernel::tests::what_is_over_covers_nothing_though_nobody_swept"),
            ],
            "each time is open until that is decided",
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
                deny("upgrade", "maps_of_another_layout_refuse_until_their_entries_are_in_ours"),
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
                deny("watch", "whom_entries_refuse_is_told_where_it_was_changed"),
            ],
        ),
    ],
};
