//! Noise, and tables that are filled.

use super::{Part, Test, deny, own, partly, probe, row, unit, whole};

pub const BUSY: Part = Part {
    title: "Being busy, or loud",
    rows: &[
        partly(
            "so much load that a budget of CPU has things shed",
            &[
                probe(
                    "calls",
                    "of_opens_that_are_shed_what_writes_or_reads_what_is_kept_from_others_is_told_all_the_same",
                ),
                own(
                    "daemon::governor::budget::tests::levers_are_shed_in_order_and_what_cant_be_held_is_told_once",
                ),
                unit(
                    "detect",
                    "tests::learning_on::of_a_window_of_which_a_part_was_shed_nothing_is_learned",
                ),
                whole(
                    "metrics",
                    "a_budget_of_cpu_has_things_shed_under_load_and_too_small_ones_are_refused",
                ),
            ],
            "what led to a finding, files in use, names of peers, reads of what everybody may read and the order of \
             calls of quiet programs are not seen as long as it lasts",
        ),
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
        row(
            "one workload's evidence fills the rings of all",
            &[probe("tenants", "one_workloads_flood_leaves_the_evidence_of_the_others_its_room")],
        ),
        row(
            "tables that fill for ever, in silence",
            &[
                unit("probe", "identity::resolver::tests::caches_stay_bounded"),
                unit(
                    "probe",
                    "naming::tests::names_without_a_process_make_room_and_who_found_none_has_one_by_the_next_window",
                ),
                unit(
                    "probe",
                    "identity::service::tests::a_name_stands_and_what_finds_no_room_is_counted",
                ),
                unit(
                    "responder",
                    "limits::tests::no_workload_takes_more_than_it_leaves_to_the_others",
                ),
                unit(
                    "features",
                    "fair::tests::nobody_makes_room_who_has_less_than_another_and_the_order_decides_nothing",
                ),
                unit("detect", "deeds::tests::sets::a_full_set_goes_on_telling"),
                unit(
                    "detect",
                    "deeds::tests::sets::sources_that_fill_their_set_let_no_brute_force_pass",
                ),
                unit("detect", "deeds::tests::sets::what_came_after_learning_learns_for_itself"),
                unit("detect", "deeds::tests::sets::sleeping_processes_hide_no_server"),
                unit("detect", "deeds::tests::sets::what_is_run_later_is_followed_too"),
                unit(
                    "detect",
                    "deeds::tests::amounts::many_newcomers_hide_no_slow_theft_and_no_brute_force",
                ),
                unit("detect", "surprise::tails::tests::names_that_are_made_up_fill_nothing"),
                unit(
                    "detect",
                    "tests::learning_on::who_does_much_that_is_new_keeps_others_from_learning_nothing",
                ),
                Test(
                    "features",
                    "windows",
                    "a_full_set_forgets_what_was_seen_longest_ago_and_goes_on_telling",
                ),
                Test(
                    "features",
                    "windows",
                    "who_came_after_fill_learns_for_himself_beside_what_the_host_knows",
                ),
            ],
        ),
        row(
            "many decoys between two deeds, so that nothing adds up",
            &[
                unit("detect", "surprise::trees::tests::a_flood_of_trees_ends_those_of_who_floods"),
                unit(
                    "detect",
                    "said::episodes::tests::an_episode_ends_after_five_quiet_minutes_and_one_that_finds_no_room_ends_too",
                ),
            ],
        ),
        partly(
            "decoys that raise the level from which others' deeds are told, or take their places",
            &[
                unit("detect", "surprise::floors::tests::who_does_decoys_raises_his_own_floor"),
                unit(
                    "detect",
                    "surprise::floors::tests::who_is_loud_raises_the_floor_of_his_own_measures",
                ),
                unit(
                    "detect",
                    "surprise::notices::tests::noise_in_one_workload_takes_no_place_from_what_is_grave_in_another",
                ),
                unit(
                    "detect",
                    "surprise::notices::tests::who_is_loud_in_each_hour_leaves_places_to_others_and_no_hour_has_more",
                ),
            ],
            "two owners that are loud in as many hours as the budget allows (containers by their own names are \
             several); and who was told of is hidden by it in his own service, until `hedgerow findings ack --attack`",
        ),
        row(
            "a loud campaign takes along what others did meanwhile, so that it is neither learned nor followed",
            &[unit("detect", "surprise::campaign::tests::a_campaign_is_of_those_who_make_it")],
        ),
        row(
            "a case that is kept open, so that what comes later is part of it",
            &[unit("detect", "tests::cases::a_case_of_amounts_covers_what_is_like_it_for_an_hour")],
        ),
        partly(
            "names that are made up while it is learned, so that what stays has no profile",
            &[
                unit(
                    "detect",
                    "usual::grams::tests::names_that_run_once_take_no_profile_of_what_stays",
                ),
                unit(
                    "detect",
                    "parts::tests::nobodys_names_take_the_profiles_of_others_in_whatever_order_parts_are_merged",
                ),
            ],
            "in the kernel slots are given to whom it meets first, the metrics count those that got none; models that are \
             merged keep an owner's of least hash",
        ),
        row(
            "many new programs, so that the one that matters is looked at late",
            &[
                unit("detect", "tests::holding::noise_keeps_nobody_from_being_looked_at_early"),
                unit("detect", "tests::holding::who_has_many_units_of_his_own_is_looked_at_as_one"),
                unit(
                    "detect",
                    "tests::holding::who_has_a_signal_and_no_deed_is_looked_at_behind_many_that_were_judged",
                ),
            ],
        ),
        row(
            "many forks, so that a container's file passes for the host's by its path",
            &[unit(
                "detect",
                "deeds::lineage::tests::many_short_lives_take_no_living_process_its_image",
            )],
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
                "kernel::tests::trees::a_monitored_tree_without_room_is_neither_refused_nor_killed",
            )],
        ),
        row(
            "tables of descriptors that are listed once for each process that shares them",
            &[
                unit(
                    "responder",
                    "kernel::tests::sockets::a_table_of_descriptors_that_many_processes_share_is_not_copied_for_each",
                ),
                unit(
                    "responder",
                    "kernel::tests::sockets::what_there_was_no_time_to_look_at_stands_is_told_and_its_packets_are_dropped",
                ),
                unit("responder", "sockets::tests::what_one_entry_cuts_is_bounded"),
            ],
        ),
        row(
            "so many files executed that no program is known to be a workload's own",
            &[unit(
                "responder",
                "protected::files::tests::a_flood_of_files_costs_who_makes_it_its_oldest_and_nobody_else",
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
};
