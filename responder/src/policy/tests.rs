#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use hedgerow_event::{Deed, Program, Protocol, Subject, Workload};
use proptest::prelude::*;

use super::*;

const WEEK: Covered = Covered { days: 7, hours: 168 };

fn subject() -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new("postgresql.service"), Program::new("/usr/bin/sh")))
}

fn peer(address: &str) -> Peer {
    Peer { address: address.parse().unwrap(), port: 4444 }
}

/// A shell under a database that connects out: everything a denial needs.
fn shell() -> Evidence {
    let subject = subject();
    let peer = peer("203.0.113.9");
    Evidence {
        surprise: 12.0,
        deeds: vec![Deed::NewProgram, Deed::NewPeer],
        complete: true,
        kernel_owned: true,
        objects: vec![
            Object::NewProgram { subject: subject.clone() },
            Object::NewPeer { subject: subject.clone(), peer, protocol: Some(Protocol::Tcp) },
        ],
        subject,
        tgid: 4242,
        start_boot_ns: 77,
        cgroup_id: 900,
        program_id: 0xabc,
        file: Some(FileKey { device: 1, inode: 2, generation: 3 }),
        of_host: None,
        peer: Some(peer),
        uid: 106,
        login_uid: None,
    }
}

fn exec(object: Object) -> Evidence {
    Evidence { objects: vec![object], peer: None, ..shell() }
}

fn decided(evidence: &Evidence, change: impl FnOnce(&mut Context<'_>)) -> Verdict {
    let (protected, offenders) = (ProtectedSet::default(), Offenders::default());
    let mut context = Context {
        mode: Mode::Enforce,
        state: Maturity::Mature,
        covered: WEEK,
        enforce_provisional: false,
        protected: &protected,
        offenders: &offenders,
        file_exclusive: true,
        deep: false,
        now_wall_ns: 0,
    };
    change(&mut context);
    decide(evidence, &context)
}

fn report(verdict: Verdict) -> String {
    match verdict {
        Verdict::Report { reason } => reason,
        Verdict::Deny { .. } => panic!("denied: {verdict:?}"),
    }
}

fn target(verdict: Verdict) -> (Target, Rule) {
    match verdict {
        Verdict::Deny { target, rule, seconds: PERIOD_FIRST_S, .. } => (target, rule),
        _ => panic!("not denied: {verdict:?}"),
    }
}

#[test]
fn a_shell_that_connects_out_loses_its_peer_and_nothing_else() {
    let (target, rule) = target(decided(&shell(), |_| {}));
    assert_eq!(rule, Rule::NewProgramNewPeer);
    assert_eq!(
        target,
        Target::Peer {
            address: "203.0.113.9".parse().unwrap(),
            prefix_length: 32,
            cgroup_id: 900,
            program_id: 0xabc,
        }
    );
}

#[test]
fn the_hosts_root_cgroup_is_no_target_the_process_in_it_is() {
    for cgroup_id in [0, 1] {
        let evidence = Evidence { cgroup_id, ..shell() };
        let (target, _) = target(decided(&evidence, |_| {}));
        assert!(matches!(target, Target::TaskTree { .. }), "{target}");
    }
}

#[test]
fn exec_from_memory_and_a_privilege_change_deny_the_task_tree() {
    for (object, rule) in [
        (Object::ExecMemory { subject: subject() }, Rule::ExecUntrusted),
        (Object::ExecWritable { subject: subject() }, Rule::ExecUntrusted),
        (Object::Privilege { subject: subject(), uid_from: 106, uid_to: 0 }, Rule::PrivilegeChange),
        (did(Deed::SocketStreams), Rule::GraveDeed),
    ] {
        let tree = Target::TaskTree { tgid: 4242, start_boot_ns: 77 };
        assert_eq!(target(decided(&exec(object), |_| {})), (tree, rule));
    }
}

#[test]
fn each_missing_piece_of_evidence_only_reports() {
    type Take = fn(&mut Evidence);
    let pieces: [(&str, Take); 8] = [
        ("not surprising enough", |e| e.surprise = DENIAL_NATS - 0.1),
        ("holes", |e| e.complete = false),
        ("user memory", |e| e.kernel_owned = false),
        ("second deed", |e| e.deeds = vec![Deed::NewProgram, Deed::NewChild]),
        ("second deed", |e| e.deeds.clear()),
        ("never-seen program alone", |e| e.objects.truncate(1)),
        ("known program", |e| drop(e.objects.remove(0))),
        ("no object", |e| e.objects.clear()),
    ];
    for (expected, take) in pieces {
        let mut evidence = shell();
        take(&mut evidence);
        let reason = report(decided(&evidence, |_| {}));
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[test]
fn who_can_leave_his_cgroup_for_one_below_it_loses_the_process() {
    let (target, rule) = target(decided(&shell(), |context| context.deep = true));
    assert!(matches!(target, Target::TaskTree { .. }), "{target}");
    assert_eq!(rule, Rule::NewProgramNewPeer);
}

#[test]
fn a_new_peer_of_another_program_does_not_count() {
    let mut evidence = shell();
    let other = Subject::new(Workload::new("web"), Program::new("/usr/bin/curl"));
    evidence.objects[0] = Object::NewProgram { subject: Arc::new(other) };
    report(decided(&evidence, |_| {}));
    // Nor one that the offender's own sockets didn't use.
    let evidence = Evidence { peer: Some(peer("203.0.113.10")), ..shell() };
    report(decided(&evidence, |_| {}));
}

#[test]
fn mode_and_state_decide_first() {
    report(decided(&shell(), |c| c.mode = Mode::Observe));
    report(decided(&shell(), |c| c.state = Maturity::Learning));
    report(decided(&shell(), |c| {
        c.state = Maturity::Learning;
        c.enforce_provisional = true;
    }));
    for state in [Maturity::Provisional, Maturity::Mature] {
        target(decided(&shell(), |c| (c.state, c.mode) = (state, Mode::Monitor)));
    }
}

#[test]
fn enforce_is_held_at_monitor_until_the_profile_is_mature_and_has_seen_a_week() {
    let (protected, offenders) = (ProtectedSet::default(), Offenders::default());
    let check = |state, days, hours, lacks: &[&str]| {
        let context = Context {
            mode: Mode::Enforce,
            state,
            covered: Covered { days, hours },
            enforce_provisional: false,
            protected: &protected,
            offenders: &offenders,
            file_exclusive: true,
            deep: false,
            now_wall_ns: 0,
        };
        let whole = lacks.is_empty();
        assert_eq!(context.mode_now(), if whole { Mode::Enforce } else { Mode::Monitor });
        let Verdict::Deny { reason, .. } = decide(&shell(), &context) else { panic!() };
        assert_eq!(reason.contains("held at monitor"), !whole, "{reason}");
        assert!(lacks.iter().all(|lack| reason.contains(lack)), "{reason}");
        let demo = Context { enforce_provisional: true, ..context };
        assert_eq!(demo.mode_now(), Mode::Enforce);
        for mode in [Mode::Observe, Mode::Monitor] {
            assert_eq!(Context { mode, ..context }.mode_now(), mode);
        }
    };
    check(Maturity::Mature, 7, 168, &[]);
    check(Maturity::Mature, 30, 167, &["167 of the week's 168 hours"]);
    check(Maturity::Mature, 6, 168, &["6 of 7 days"]);
    check(Maturity::Provisional, 7, 168, &["provisional"]);
    check(Maturity::Provisional, 0, 3, &["provisional", "0 of 7", "3 of the"]);
}

#[test]
fn a_protected_peer_costs_the_task_and_not_the_address() {
    let mut protected = ProtectedSet::default();
    protected.add_address("203.0.113.9".parse().unwrap(), 32, "the gateway");
    let verdict = decide(
        &shell(),
        &Context {
            mode: Mode::Enforce,
            state: Maturity::Mature,
            covered: WEEK,
            enforce_provisional: false,
            protected: &protected,
            offenders: &Offenders::default(),
            file_exclusive: true,
            deep: false,
            now_wall_ns: 0,
        },
    );
    assert_eq!(target(verdict).0, Target::TaskTree { tgid: 4242, start_boot_ns: 77 });
}

#[test]
fn a_target_is_widened_by_several_distinct_offenders_only() {
    let mut offenders = Offenders::default();
    // The same one again and again is one offender.
    for _ in 0..5 {
        offenders.add(&shell(), Mode::Monitor, 0);
    }
    let with = |evidence: &Evidence, offenders: &Offenders, exclusive| {
        let protected = ProtectedSet::default();
        let context = Context {
            mode: Mode::Enforce,
            state: Maturity::Mature,
            covered: WEEK,
            enforce_provisional: false,
            protected: &protected,
            offenders,
            file_exclusive: exclusive,
            deep: false,
            now_wall_ns: 0,
        };
        // The narrow one stands at once in any case.
        let narrow = target(decide(evidence, &context)).0;
        assert!(crate::hold::is_narrow(&narrow), "{narrow}");
        let wide = widened(&narrow, evidence, &context).map(|(wide, _)| wide);
        assert!(wide.iter().all(|wide| !crate::hold::is_narrow(wide)));
        wide
    };
    assert_eq!(with(&shell(), &offenders, true), None);
    offenders.add(&Evidence { program_id: 2, ..shell() }, Mode::Monitor, 0);
    offenders.add(&Evidence { program_id: 3, ..shell() }, Mode::Monitor, 0);
    assert!(matches!(
        with(&shell(), &offenders, true),
        Some(Target::Peer { program_id: 0, cgroup_id: 900, .. })
    ));
    // Processes of one file, unless the file is used elsewhere too.
    let memory = |tgid| Evidence { tgid, ..exec(Object::ExecMemory { subject: subject() }) };
    let mut offenders = Offenders::default();
    offenders.add(&memory(1001), Mode::Monitor, 0);
    assert_eq!(with(&memory(1002), &offenders, true), None);
    offenders.add(&memory(1002), Mode::Monitor, 0);
    assert!(matches!(with(&memory(1003), &offenders, true), Some(Target::Program { .. })));
    assert_eq!(with(&memory(1003), &offenders, false), None);
    let at_root = Evidence { cgroup_id: 1, ..memory(1003) };
    assert_eq!(with(&at_root, &offenders, true), None);
}

/// Who is refused one address after the other takes the next: the second costs him his network, where what his
/// tree did is more than new, and he really was refused, and lately.
#[test]
fn who_was_refused_a_peer_and_calls_another_is_denied_whole() {
    let next = |address: &str, evidence: Evidence| {
        let peer = peer(address);
        let mut evidence = Evidence { peer: Some(peer), ..evidence };
        let subject = evidence.subject.clone();
        evidence.objects.push(Object::NewPeer { subject, peer, protocol: Some(Protocol::Tcp) });
        evidence
    };
    let grave = || {
        let mut evidence = shell();
        evidence.objects.push(Object::ExecMemory { subject: subject() });
        evidence
    };
    let mut offenders = Offenders::default();
    let whole = |evidence: &Evidence, offenders: &Offenders, now_wall_ns| {
        let protected = ProtectedSet::default();
        let context = Context {
            mode: Mode::Enforce,
            state: Maturity::Mature,
            covered: WEEK,
            enforce_provisional: false,
            protected: &protected,
            offenders,
            file_exclusive: true,
            deep: false,
            now_wall_ns,
        };
        // The narrow one stands at once in any case.
        let narrow = target(decide(evidence, &context)).0;
        assert!(matches!(narrow, Target::Peer { .. }), "{narrow}");
        let wider = widened(&narrow, evidence, &context).map(|(wider, _)| wider);
        wider == Some(Target::TaskTree { tgid: 4242, start_boot_ns: 77 })
    };
    let second = next("203.0.113.10", grave());
    offenders.add(&grave(), Mode::Monitor, 0);
    assert!(!whole(&second, &offenders, 0), "it was counted only");
    offenders.add(&grave(), Mode::Enforce, 0);
    assert!(!whole(&grave(), &offenders, 0), "the same once more");
    assert!(!whole(&next("::ffff:203.0.113.9", grave()), &offenders, 0), "which that is, too");
    assert!(whole(&second, &offenders, 0));
    assert!(whole(&Evidence { cgroup_id: 901, ..grave() }, &offenders, 0), "from another cgroup");
    assert!(!whole(&next("203.0.113.10", shell()), &offenders, 0), "novelty alone");
    assert!(!whole(&Evidence { tgid: 4243, ..second.clone() }, &offenders, 0), "another process");
    let hour = 3_600_000_000_000;
    assert!(whole(&second, &offenders, hour - 1) && !whole(&second, &offenders, hour));
    offenders.forget((4242, 77));
    assert!(!whole(&second, &offenders, 0), "an operator took it back");
}

proptest! {
    /// Whatever else is claimed: incomplete or claimed evidence never denies.
    #[test]
    fn evidence_with_holes_never_denies(
        above in any::<bool>(), complete in any::<bool>(), owned in any::<bool>(),
        objects in 0usize..4, aspects in 0usize..4,
    ) {
        let mut evidence = shell();
        evidence.surprise = if above { 9.0 } else { 7.0 };
        evidence.complete = complete;
        evidence.kernel_owned = owned;
        evidence.objects.push(Object::ExecMemory { subject: subject() });
        evidence.objects.truncate(objects);
        evidence.deeds =
            [Deed::NewProgram, Deed::NewPeer, Deed::ExecMemory][..aspects.min(3)].to_vec();
        let denied = matches!(decided(&evidence, |_| {}), Verdict::Deny { .. });
        let may = above && complete && owned && aspects >= 2 && objects >= 2;
        prop_assert_eq!(denied, may);
    }
}

fn did(deed: Deed) -> Object {
    Object::Did { subject: subject(), deed, what: "x".into(), contact: None }
}

/// Containers, debuggers and administrators do these for a living.
#[test]
fn what_is_somebodys_trade_is_told_and_denies_nothing() {
    for deed in [Deed::Namespace, Deed::Trace, Deed::Secret, Deed::Persistence, Deed::Rewrite] {
        let deeds = vec![deed, Deed::NewChild];
        let evidence = Evidence { surprise: 30.0, deeds, ..exec(did(deed)) };
        report(decided(&evidence, |_| {}));
    }
}
