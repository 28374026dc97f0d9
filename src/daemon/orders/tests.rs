#![allow(clippy::unwrap_used)]
use super::*;

const BY: By = By { uid: 0, pid: 1, login_uid: Some(1000) };

#[test]
fn maintenance_is_of_a_workload_or_of_all_and_ends_by_itself_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let (web, other) = (Workload::new("web.service"), Workload::new("other.service"));
    orders.maintain(Some(web.clone()), Some(100), BY);
    assert!(orders.maintained(&web).is_some_and(|why| why.contains("web.service")));
    assert_eq!(orders.maintained(&other), None);
    orders.save().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    assert_eq!(orders.expire(99), None);
    assert!(orders.maintained(&web).is_some());
    assert_eq!(orders.expire(100), Some(Vec::new()));
    assert_eq!(orders.maintained(&web), None);
    orders.maintain(None, Some(200), BY);
    assert!(orders.maintained(&other).is_some());
    assert!(orders.maintain(None, None, BY), "it was in maintenance");
    assert!(!orders.maintain(None, None, BY));
    assert_eq!(orders.maintained(&other), None);
}

#[test]
fn what_was_an_attack_is_remembered_longer_than_what_was_only_seen() {
    let mut orders = Orders::default();
    orders.ack("attack", 1, BY, true);
    (0..SEEN_MAX as i64).for_each(|at| orders.ack(&at.to_string(), 2 + at, BY, false));
    assert_eq!(orders.seen.len(), SEEN_MAX);
    assert_eq!(orders.attacks().collect::<Vec<_>>(), ["attack"]);
    assert!(!orders.seen.contains_key("0") && orders.seen.contains_key("1"));
}

#[test]
fn a_clock_that_is_set_prolongs_and_ends_nothing() {
    const HOUR: i64 = 3600 * STEP_MIN_NS;
    let directory = tempfile::tempdir().unwrap();
    let peer = "192.0.2.0/24".parse().unwrap();
    for step in [-20 * HOUR, 50 * 366 * 24 * HOUR] {
        let mut orders = Orders::load(directory.path()).unwrap();
        let at = |hours: i64, step| Now {
            wall_ns: 100 * HOUR + hours * HOUR + step,
            boot_ns: (hours * HOUR) as u64,
        };
        assert!(!orders.follow(at(0, 0)));
        orders.maintain(None, Some(at(2, 0).wall_ns), BY);
        orders.mute(&super::super::example_finding("w", "r", 1), at(2, 0).wall_ns, BY).unwrap();
        let until_ns = Some(at(2, 0).wall_ns);
        orders.allow(Allowance { peer, workload: None, until_ns }).unwrap();
        assert!(orders.follow(at(1, step)));
        assert_eq!(orders.expire(at(1, step).wall_ns), None, "not over before its time");
        assert!(!orders.follow(at(2, step)));
        let over = orders.expire(at(2, step).wall_ns).unwrap();
        assert_eq!(over.len(), 1, "over at its time");
        assert!(orders.maintenance.is_empty() && orders.muted.is_empty());
        // What a disciplined clock gains within a second is no step.
        let mut now = at(3, step);
        assert!(!orders.follow(now));
        now.wall_ns += STEP_MIN_NS / 2;
        assert!(!orders.follow(now));
    }
}

#[test]
fn a_machine_that_starts_without_the_time_ends_old_orders_when_they_said() {
    const HOUR: i64 = 3600 * STEP_MIN_NS;
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let saved_ns = hedgerow_responder::now().wall_ns;
    orders.maintain(None, Some(saved_ns + 2 * HOUR), BY);
    orders.save().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let at = |wall_ns, boot: i64| Now { wall_ns, boot_ns: (boot * HOUR) as u64 };
    assert!(!orders.follow(at(0, 0)));
    let workload = Workload::new("w");
    orders.maintain(Some(workload.clone()), Some(3 * HOUR), BY);
    // It is an hour later by the right clock, too.
    assert!(orders.follow(at(saved_ns + HOUR, 1)));
    let ends: Vec<i64> = orders.maintenance.iter().map(|one| one.until_ns).collect();
    assert_eq!(ends, [saved_ns + 2 * HOUR, saved_ns + 3 * HOUR]);
}

#[test]
fn a_mute_covers_the_same_again_with_other_numbers_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let plain = super::super::example_finding("w", "r", 1);
    let peer = |address: &str, port| Object::NewPeer {
        subject: Arc::clone(&plain.subject),
        peer: hedgerow_event::Peer { address: address.parse().unwrap(), port },
        protocol: None,
    };
    let source = |what: &str| Object::Did {
        subject: Arc::clone(&plain.subject),
        deed: hedgerow_event::Deed::OneSource,
        what: what.into(),
        contact: None,
    };
    let found =
        |uid: &str, objects: Vec<Object>| Finding { uid: uid.into(), objects, ..plain.clone() };
    let first = vec![peer("192.0.2.9", 4444), source("101 connections from 192.0.2.9")];
    orders.mute(&found("u1", first), 50, BY).unwrap();
    let memory = Object::ExecMemory { subject: Arc::clone(&plain.subject) };
    let grown = found("u1", vec![peer("192.0.2.9", 4444), memory]);
    assert_eq!(orders.muted_until(&grown), None, "the same case goes on to something else");
    let muted = |objects| orders.muted_until(&found("u2", objects)) == Some(50);
    assert!(muted(vec![peer("192.0.2.9", 4445), source("7 connections from 192.0.2.9")]));
    assert!(muted(vec![peer("192.0.2.9", 4444)]), "less of it");
    assert!(!muted(vec![peer("192.0.2.10", 4444)]), "another peer");
    assert!(!muted(vec![source("7 connections from 192.0.2.10")]));
    assert!(
        !muted(vec![
            peer("192.0.2.9", 4444),
            Object::ExecMemory { subject: Arc::clone(&plain.subject) }
        ]),
        "more than that"
    );
    let measure = |uid: &str, workload: &str, column: &str| {
        let mut one = super::super::example_finding(workload, "r", 1);
        let share = hedgerow_event::Share {
            feature: column.into(),
            value: 1.0,
            usual_low: None,
            usual_high: None,
            direction: hedgerow_event::Direction::Above,
            share: 1.0,
            of: "nats".into(),
        };
        (one.uid, one.class, one.attribution) = (uid.into(), Class::Measure, vec![share]);
        one
    };
    orders.mute(&measure("m1", "w", "reads"), 50, BY).unwrap();
    assert_eq!(orders.muted_until(&measure("m2", "w", "reads")), Some(50));
    assert_eq!(orders.muted_until(&measure("m2", "w", "bytes out")), None, "another column");
    assert_eq!(orders.muted_until(&measure("m1", "v", "reads")), None, "another program");
    // As a version before has left them.
    let mut old = |objects: Vec<String>| {
        orders.muted.retain(|one| one.uid != "m0");
        orders.mute(&measure("m0", "w", "reads"), 40, BY).unwrap();
        orders.muted.last_mut().unwrap().objects = objects;
        let count = |column: &str| {
            let mut one = measure("m2", "w", "bytes out");
            one.objects.push(Object::Count {
                subject: Arc::clone(&one.subject),
                column: column.into(),
                value: 2,
                largest: 1,
            });
            one
        };
        let none = measure("m2", "w", "bytes out");
        [count("writes"), count("opens"), none].map(|one| orders.muted_until(&one) == Some(40))
    };
    assert_eq!(old(vec!["writes".into()]), [true, false, false]);
    assert_eq!(old(Vec::new()), [false, false, true]);
    assert_eq!(
        unnumbered("listens: port 45235/tcp, 3.5 MiB of /srv/1"),
        "listens: port #/tcp, # MiB of /srv/1"
    );
}

#[test]
fn an_attack_stays_one_over_a_restart_and_whatever_else_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    orders.ack("a", 1, BY, false);
    orders.ack("b", 2, BY, true);
    orders.ack("b", 3, BY, false);
    orders.save().unwrap();
    let orders = Orders::load(directory.path()).unwrap();
    assert_eq!(orders.attacks().collect::<Vec<_>>(), ["b"]);
    // As the version before wrote it.
    let by = serde_json::to_value(BY).unwrap();
    let old = serde_json::json!({"seen": {"c": {"time_ns": 1, "by": by}}});
    fs::write(directory.path().join(ORDERS), old.to_string()).unwrap();
    assert!(!Orders::load(directory.path()).unwrap().seen["c"].attack);
}

#[test]
fn what_is_told_when_a_mute_has_ended_alerts_for_the_first_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let first = super::super::example_finding("w", "r", 1);
    orders.mute(&first, 50, BY).unwrap();
    let mut told = |expired_ns, activity, first_alert| {
        orders.expire(expired_ns);
        let first_alert = Some(first_alert);
        let mut report = Finding { activity, first_alert, ..first.clone() };
        orders.silence(&mut report);
        (report.disposition.is_alert(), report.is_first_alert())
    };
    assert_eq!(told(1, Activity::Create, true), (false, false));
    assert_eq!(told(2, Activity::Update, false), (false, false));
    assert_eq!(told(50, Activity::Update, false), (true, true));
    assert_eq!(told(51, Activity::Update, false), (true, false));
    assert_eq!(told(52, Activity::Close, false), (true, false));
}

#[test]
fn an_allowance_that_ends_is_given_back_once_and_the_seen_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = Orders::load(directory.path()).unwrap();
    let peer = "192.0.2.0/24".parse().unwrap();
    let timed = Allowance { peer, workload: None, until_ns: Some(50) };
    orders.allow(timed.clone()).unwrap();
    orders.allow(Allowance { peer, workload: None, until_ns: None }).unwrap();
    assert!(orders.allowed.is_empty(), "without an end it is the responder's");
    orders.allow(timed.clone()).unwrap();
    assert_eq!(orders.expire(50), Some(vec![timed]));
    for time in 0..=SEEN_MAX {
        orders.ack(&format!("{time:06}"), i64::try_from(time).unwrap(), BY, false);
    }
    assert_eq!(orders.seen.len(), SEEN_MAX);
    assert!(!orders.seen.contains_key("000000"), "the oldest went");
    fs::write(directory.path().join(ORDERS), b"{").unwrap();
    assert!(Orders::load(directory.path()).is_err());
}
