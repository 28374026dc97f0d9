//! What the engine says that it would tell, held against what it tells when it is done for real.
#![allow(clippy::unwrap_used)]

mod acts;
mod life;

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use hedgerow_detect::{
    Engine, SavedModel,
    power::{Amount, AmountPower, Hidden, Power, Span, WorkloadPower, ways},
};
use hedgerow_event::{
    Class as DeedClass, Deed, Digest, Finding, FlowDirection, FlowPhase, Object, Origin, Peer,
    Program, Provenance, Subject, calls::Class,
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

use life::{Host, settings, subject};

const LEARN_EPOCHS: u64 = 720;
/// Times that each way of each kind is done.
const TIMES: usize = 4;
const AMOUNTS: usize = 30;
/// What a program that was never seen is asked as.
const UNSEEN: &str = "/usr/bin/brand-new";

struct Lab {
    saved: SavedModel,
    power: Power,
    epoch: u32,
    /// What was told last.
    last: RefCell<String>,
}

impl Lab {
    fn new() -> Self {
        let mut host = Host::new(3);
        let mut engine = host.learn(LEARN_EPOCHS);
        for _ in 0..240 {
            host.live(&mut engine);
            host.close(&mut engine);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.hedgerow");
        engine.save().unwrap().unwrap().save(&path).unwrap();
        let saved = SavedModel::load(&path).unwrap();
        let engine = Engine::scoring(settings(LEARN_EPOCHS), saved.clone()).unwrap();
        let power = engine.power(None, None).unwrap();
        // On a whole hour and minute, so that a span is not cut in two.
        Self { saved, power, epoch: host.epoch.next_multiple_of(720), last: RefCell::default() }
    }

    /// Whether something of a program is told that is done in some epochs of life; `None` where
    /// life alone would have brought that.
    fn tells(
        &self,
        who: &Arc<Subject>,
        epochs: u32,
        seed: u64,
        act: impl FnMut(&Host, &mut Engine, u32),
    ) -> Option<bool> {
        let control = self.told(who, epochs, seed, |_, _, _| ());
        (!control).then(|| self.told(who, epochs, seed, act))
    }

    fn told(
        &self,
        who: &Arc<Subject>,
        epochs: u32,
        seed: u64,
        mut act: impl FnMut(&Host, &mut Engine, u32),
    ) -> bool {
        let is_its = |found: &Finding| {
            found.subject == *who || found.process.as_ref().is_some_and(|p| p.pid == acts::TGID)
        };
        let mut engine = Engine::scoring(settings(LEARN_EPOCHS), self.saved.clone()).unwrap();
        let mut host = Host::new(seed);
        host.epoch = self.epoch - 6;
        for at in 0..6 {
            host.live(&mut engine);
            if at == 0 && !who.is_host() {
                engine.observe(&host.exec(who, acts::TGID, |_| ()));
            }
            host.close(&mut engine);
        }
        // What goes on for less than a minute isn't done when what life does once a minute is.
        let first = u32::from(epochs < 12);
        // To the end of the minute, whose window is judged then.
        for at in 0..epochs.next_multiple_of(12) {
            host.live(&mut engine);
            if (first..first + epochs).contains(&at) {
                act(&host, &mut engine, at - first);
            }
            let found = host.close(&mut engine);
            if let Some(found) = found.iter().find(|found| is_its(found)) {
                self.last.replace(format!("{}: {}", found.class, found.reason));
                return true;
            }
        }
        false
    }

    fn does(&self, who: &Arc<Subject>, done: &[(Deed, &str)], seed: u64) -> Option<bool> {
        let epochs = done.iter().map(|(deed, _)| acts::epochs(*deed)).max().unwrap();
        self.tells(who, epochs, seed, |host, engine, at| {
            for (deed, how) in done {
                acts::act(host, who, *deed, how, at).iter().for_each(|event| engine.observe(event));
            }
        })
    }

    /// Whether connections that nobody takes are told of the host.
    fn floods(&self, seed: u64) -> Option<bool> {
        let kernel = Arc::new(Subject::host());
        let floods = |untaken| self.told(&kernel, 1, seed, |host, _, _| host.untaken.set(untaken));
        (!floods(0)).then(|| floods(100_000))
    }

    fn amounts(
        &self,
        who: &Arc<Subject>,
        amount: Amount,
        span: Span,
        n: u64,
        seed: u64,
    ) -> Option<bool> {
        let epochs: u32 = match span {
            Span::Seconds5 => 1,
            Span::Minute => 12,
            Span::Hour => 720,
        };
        self.tells(who, epochs, seed, |host, engine, at| {
            let part = |at: u32| n * u64::from(at) / u64::from(epochs);
            let n = part(at + 1) - part(at);
            let tgid =
                life::PROGRAMS.iter().find(|(_, program, ..)| *program == &*who.program.path);
            let tgid = tgid.map_or(acts::TGID, |(_, _, tgid, _)| *tgid);
            let out = FlowDirection::Outbound;
            let known = acts::known(who);
            let mut events = match amount {
                Amount::BytesToNewcomer => {
                    vec![host.flow(who, tgid, out, (acts::NEWCOMER, 443), 1, n)]
                }
                Amount::BytesToKnownPeer => vec![host.flow(who, tgid, out, (known, 443), 1, n)],
                Amount::BytesOfNameQueries => vec![host.flow(who, tgid, out, (known, 53), 1, n)],
                Amount::Opens => vec![host.row(who, tgid, &[(Class::Open, n)])],
                Amount::Renames => vec![host.row(who, tgid, &[(Class::Rename, n)])],
                Amount::Unlinks => vec![host.row(who, tgid, &[(Class::Unlink, n)])],
                Amount::Connects => vec![host.row(who, tgid, &[(Class::Connect, n)])],
                Amount::FailedConnects => {
                    let mut flow = host.flow(who, tgid, out, (known, 443), 1, 0);
                    if let Origin::Flow(flow) = &mut flow.origin {
                        flow.phase = FlowPhase::Failed;
                    }
                    vec![flow; usize::try_from(n).unwrap()]
                }
                Amount::Forks | Amount::CallsOfNewSource => Vec::new(),
            };
            for event in &mut events {
                // One flow, of which each epoch tells how much it sent.
                if let Origin::Flow(flow) = &mut event.origin
                    && flow.phase != FlowPhase::Failed
                    && at > 0
                {
                    flow.phase = FlowPhase::Interim;
                }
                if n > 0 {
                    engine.observe(event);
                }
            }
        })
    }

    fn of(&self, workload: &str) -> &WorkloadPower {
        self.power.workloads.iter().find(|one| one.workload.as_str() == workload).unwrap()
    }
}

fn kinds() -> Vec<(Deed, &'static str)> {
    let all = hedgerow_event::CATALOGUE.iter().map(|row| row.deed);
    all.flat_map(|deed| ways(deed).map(move |how| (deed, how))).collect()
}

/// Whether a program that does a kind is said to be told of.
fn said(power: &WorkloadPower, deed: Deed, how: &str, program: &Program) -> Option<bool> {
    let found = power.deeds.iter().find(|one| one.deed == deed)?;
    // Misses past what is named can't be told from what alerts.
    if found.missed > found.misses.len() {
        return None;
    }
    Some(!found.misses.iter().any(|miss| miss.program == *program && *miss.how == *how))
}

#[test]
fn what_it_says_it_would_tell_is_told_and_what_it_says_it_would_miss_is_missed() {
    let lab = Lab::new();
    let mut rng = SmallRng::seed_from_u64(11);
    let (mut agreed, mut of, mut told) = (0, 0, 0);
    let mut wrong = Vec::new();
    let mut tried = BTreeSet::new();
    let mut count = |said: bool, was: Option<bool>, what: String| {
        let Some(was) = was else { return };
        of += 1;
        agreed += u32::from(said == was);
        told += u32::from(was);
        if said != was {
            wrong.push(format!("{what}: said {said}, was {was} ({})", lab.last.borrow()));
        }
    };
    for (deed, how) in kinds() {
        let mut done = 0;
        // A way that all are told of is tried as well, but less often.
        for _ in 0..100 {
            let (workload, program, ..) = life::PROGRAMS.choose(&mut rng).unwrap();
            let new = rng.gen_bool(0.15);
            let asked = Program::new(if new { "/usr/bin/never-seen" } else { *program });
            let who = subject(workload, &Program::new(if new { UNSEEN } else { *program }));
            let Some(said) = said(lab.of(workload), deed, how, &asked) else { continue };
            if done == TIMES || said && done > 0 && rng.gen_bool(0.8) {
                continue;
            }
            done += 1;
            let was = lab.does(&who, &[(deed, how)], rng.r#gen());
            tried.extend(was.map(|_| deed));
            count(said, was, format!("{workload} {asked} {deed} {how}"));
        }
    }
    let flood = lab.power.host.iter().find(|one| one.deed == Deed::Flood).unwrap();
    tried.insert(Deed::Flood);
    count(flood.alerts, lab.floods(5), "a flood".to_owned());
    // What is missed alone and told with another.
    for power in &lab.power.workloads {
        for miss in power.deeds.iter().flat_map(|deed| deed.misses.iter().map(move |m| (deed, m))) {
            let (deed, miss) = miss;
            let Some(with) = miss.with.choose(&mut rng).filter(|_| rng.gen_bool(0.05)) else {
                continue;
            };
            let unseen = &*miss.program.path == "/usr/bin/never-seen";
            let program = if unseen { Program::new(UNSEEN) } else { miss.program.clone() };
            let who = subject(power.workload.as_str(), &program);
            // The other may have to be done in another way than the first of them.
            let was = ways(*with).any(|how| {
                lab.does(&who, &[(*with, how), (deed.deed, &miss.how)], 5) == Some(true)
            });
            count(
                true,
                Some(was),
                format!("{} {program} {} with {with}", power.workload, deed.deed),
            );
        }
    }
    let mut amounts: Vec<_> = lab
        .power
        .workloads
        .iter()
        .flat_map(|power| power.amounts.iter().map(move |amount| (power, amount)))
        .filter(|(_, one)| &*one.program.path != "/usr/bin/never-seen")
        .filter(|(_, one)| !matches!(one.amount, Amount::Forks | Amount::CallsOfNewSource))
        .collect();
    amounts.shuffle(&mut rng);
    // An hour takes long to live.
    let (hours, short): (Vec<_>, Vec<_>) =
        amounts.into_iter().partition(|(_, one)| one.span == Span::Hour);
    for (power, one) in hours.into_iter().take(AMOUNTS / 10).chain(short).take(AMOUNTS) {
        let who = subject(power.workload.as_str(), &one.program);
        let least = one.least.unwrap_or(one.amount.most(one.span) / 2);
        for (n, said) in [(least / 2, false), (least * 2, one.least.is_some())] {
            if n == 0 {
                continue;
            }
            let was = lab.amounts(&who, one.amount, one.span, n, rng.r#gen());
            count(said, was, format!("{who} {:?} {:?} {n}", one.amount, one.span));
        }
    }
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    // Measures are the amounts; tampering is told by who looks after the hooks, whatever is expected.
    let all: BTreeSet<Deed> = hedgerow_event::CATALOGUE.iter().map(|row| row.deed).collect();
    let left: Vec<_> = all.difference(&tried).collect();
    assert_eq!(left, [&Deed::Tampered, &Deed::Measure], "{left:?}");
    assert!(lab.power.host.iter().any(|one| one.deed == Deed::Tampered && one.alerts));
    println!("{agreed} of {of} agree, {told} of them were told");
    assert!(of >= 200 && told > of / 5 && told < of * 4 / 5, "{told} of {of} were told");
    assert!(f64::from(agreed) >= 0.95 * f64::from(of), "{agreed} of {of}: {wrong:#?}");
}

#[test]
fn a_notification_that_is_spent_is_a_reason_in_its_hour_only() {
    let lab = Lab::new();
    let mut engine = Engine::scoring(settings(LEARN_EPOCHS), lab.saved.clone()).unwrap();
    let mut host = Host::new(9);
    host.epoch = lab.epoch;
    let who = subject("web.service", &Program::new("/usr/bin/worker"));
    let of = |engine: &Engine, now: Option<u64>| {
        let power = engine.power(Some(&who.workload), now).unwrap();
        power.workloads[0].deeds.iter().find(|one| one.deed == Deed::Trace).unwrap().alerts
    };
    let now = u64::from(host.epoch) * 5_000_000_000;
    assert!(of(&engine, Some(now)));
    host.live(&mut engine);
    acts::act(&host, &who, Deed::ExecMemory, "", 0).iter().for_each(|event| engine.observe(event));
    let found = host.close(&mut engine);
    assert_eq!((found.len(), found[0].class), (1, DeedClass::Intrinsic));
    assert!(!of(&engine, Some(now + 1)));
    assert!(of(&engine, Some(now + 3_600_000_000_000)));
    assert!(of(&engine, None), "a model alone knows no hour");
    assert_eq!(
        engine.power(Some(&hedgerow_event::Workload::new("none")), None).unwrap().workloads,
        []
    );
}

/// A host of which an hour is known, at one alert a day.
#[test]
fn what_an_amount_alone_would_only_be_listed_from_is_said_and_the_finding_says_why() {
    let lab = Lab::new();
    let budget = &lab.power.budget;
    assert_eq!(budget.only_listed, [DeedClass::Measure]);
    assert!((50.0..70.0).contains(&budget.hours_missing), "{}", budget.hours_missing);
    let listed = |one: &&AmountPower| {
        one.listed.is_some() && (one.amount, one.span) == (Amount::Unlinks, Span::Seconds5)
    };
    let (power, one) = lab
        .power
        .workloads
        .iter()
        .find_map(|power| power.amounts.iter().find(listed).map(|one| (power, one)))
        .unwrap();
    assert!(one.least.is_none() && one.hours_missing >= budget.hours_missing);
    let who = subject(power.workload.as_str(), &one.program);
    let mut engine = Engine::scoring(settings(LEARN_EPOCHS), lab.saved.clone()).unwrap();
    let mut host = Host::new(9);
    host.epoch = lab.epoch;
    let its = life::PROGRAMS.iter().find(|(_, program, ..)| *program == &*who.program.path);
    let tgid = its.unwrap().2;
    let mut found = Vec::new();
    // To the end of the minute, whose window may be the one that tells.
    for at in 0..12 {
        host.live(&mut engine);
        if at == 0 {
            let unlinks = [(Class::Unlink, 2 * one.listed.unwrap())];
            engine.observe(&host.row(&who, tgid, &unlinks));
        }
        found.extend(host.all(&mut engine));
    }
    let is_its = |found: &&Finding| found.class == DeedClass::Measure && *found.subject == *who;
    let found = found.iter().find(is_its).unwrap();
    assert!(!found.disposition.is_alert(), "{found:?}");
    assert!(found.reason.contains("listed, not told: amounts alone"), "{}", found.reason);
    let listed = engine.take_listed();
    assert!(listed.little_known > 0 && listed.no_room == 0, "{listed:?}");
}

/// A program of one workload reads what it never read; an operator accepts that.
#[test]
fn accepting_says_first_what_it_hides_and_hides_no_more_than_that() {
    let lab = Lab::new();
    let mut engine = Engine::scoring(settings(LEARN_EPOCHS), lab.saved.clone()).unwrap();
    let mut host = Host::new(9);
    host.epoch = lab.epoch;
    let who = subject("web.service", &Program::new("/usr/bin/worker"));
    let other = subject("db.service", &Program::new("/usr/bin/db"));
    let is_told = |engine: &mut Engine, host: &mut Host, who: &Arc<Subject>, file: u8| {
        // Each in an hour of its own, so that none takes another's notification.
        host.epoch += 720;
        let exec = host.exec(who, acts::TGID, |exec| {
            exec.digest = Some(Digest([file; 32]));
            exec.provenance = Provenance::Unknown;
        });
        engine.observe(&exec);
        let read = acts::act(host, who, Deed::Secret, "/etc/shadow", 0);
        read.iter().for_each(|event| engine.observe(event));
        let found = host.close(engine);
        found.into_iter().find(|found| found.subject == *who)
    };
    let found = is_told(&mut engine, &mut host, &who, 1).unwrap();
    let of_other = is_told(&mut engine, &mut host, &other, 1).unwrap();
    let past = [found.clone(), of_other];
    let hidden = Hidden::by(&found, &past, &lab.saved, &settings(LEARN_EPOCHS)).unwrap();
    assert_eq!(hidden.findings, [&*found.uid]);
    let kinds: Vec<_> =
        hidden.deeds.iter().map(|one| (one.deed, &*one.how, &*one.program.path)).collect();
    assert_eq!(kinds, [(Deed::Secret, "/etc/shadow", "/usr/bin/worker")]);
    assert_eq!(&*hidden.programs[0].subject, &*who);
    // Over a restart, with an address among what is accepted.
    let mut engine = Engine::scoring(settings(LEARN_EPOCHS), lab.saved.clone()).unwrap();
    engine.accept(&found);
    let mut of_peer = found.clone();
    let peer = Peer { address: [203, 0, 113, 5].into(), port: 443 };
    of_peer.objects = vec![Object::NewPeer { subject: Arc::clone(&who), peer, protocol: None }];
    engine.accept(&of_peer);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.hedgerow");
    engine.save().unwrap().unwrap().save(&path).unwrap();
    let saved = SavedModel::load(&path).unwrap();
    let after = || Engine::scoring(settings(LEARN_EPOCHS), saved.clone()).unwrap();
    assert!(is_told(&mut after(), &mut host, &other, 1).is_some(), "of one workload only");
    let mut engine = after();
    assert!(is_told(&mut engine, &mut host, &who, 1).is_none(), "accepted");
    assert!(is_told(&mut engine, &mut host, &who, 2).is_some(), "another file at the same path");
}
