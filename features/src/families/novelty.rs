//! What was never seen while the workload was learned.

use hedgerow_event::Family::Novelty;

use crate::{
    baseline::Set,
    column::{
        Column, Context,
        Source::{Calls, Flows, Processes, Rows},
    },
    sketch::Sketch,
};

/// Distinct items of a sketch that the workload's set doesn't hold.
fn unseen(items: &Sketch, set: Set, context: &Context<'_>) -> f64 {
    match context.known {
        Some(known) => items.count_where(|hash| !known.contains(set, hash)),
        None => f64::NAN,
    }
}

/// Bytes sent to those.
fn unseen_bytes(items: &Sketch, set: Set, context: &Context<'_>) -> f64 {
    match context.known {
        Some(known) => items.weight_where(|hash| !known.contains(set, hash)),
        None => f64::NAN,
    }
}

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Novelty,
        Rows,
        "novelty_programs_count",
        "programs in this row never seen in the workload: 0 or 1, more where subjects were merged. \
         All columns of this family are unavailable while learning",
        |a, c| unseen(&a.programs, Set::Programs, c),
    ),
    Column::count(
        Novelty,
        Processes,
        "novelty_children_count",
        "distinct programs that this program was never seen to start",
        |a, c| unseen(&a.processes.child_pairs, Set::Children, c),
    ),
    Column::count(
        Novelty,
        Processes,
        "novelty_parents_count",
        "distinct programs that were never seen to start this program",
        |a, c| unseen(&a.processes.parent_pairs, Set::Children, c),
    ),
    Column::count(
        Novelty,
        Processes,
        "novelty_privileges_count",
        "distinct (program, user id before, after) never seen",
        |a, c| unseen(&a.processes.privileges, Set::Privileges, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_peers_count",
        "distinct outbound peer addresses never seen in the workload",
        |a, c| unseen(&a.flows.peers, Set::Peers, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_peer_out_bytes",
        "bytes sent to outbound peers never seen in the workload",
        |a, c| unseen_bytes(&a.flows.peers, Set::Peers, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_prefixes_count",
        "distinct outbound /24 and /64 prefixes never seen in the workload",
        |a, c| unseen(&a.flows.prefixes, Set::Prefixes, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_ports_count",
        "distinct outbound (protocol, peer port) pairs never seen in the workload; ports from 32768 \
         on are one",
        |a, c| unseen(&a.flows.known_ports, Set::Ports, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_sources_count",
        "distinct inbound peer addresses never seen in the workload",
        |a, c| unseen(&a.flows.sources, Set::Sources, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_source_out_bytes",
        "bytes sent to inbound peers never seen in the workload",
        |a, c| unseen_bytes(&a.flows.sources, Set::Sources, c),
    ),
    Column::count(
        Novelty,
        Flows,
        "novelty_listens_count",
        "distinct local (protocol, port) pairs that never had an inbound flow in the workload",
        |a, c| unseen(&a.flows.listens, Set::Listens, c),
    ),
    Column::count(
        Novelty,
        Calls,
        "novelty_paths_count",
        "distinct path prefixes (first two components) never seen in the workload",
        |a, c| unseen(&a.files.prefixes, Set::Paths, c),
    ),
];
