//! A host with three services, and what can be done on it.

use std::{cell::Cell, sync::Arc};

use hedgerow_detect::{EPOCH_SECONDS, Engine, Outcome, Phase, Schedule, Settings};
use hedgerow_event::{
    Activity, Actor, CLASSES, Call, Epoch, EpochClose, Event, Exec, Finding, Flow, FlowDirection,
    HostCounters, Loss, Origin, Peer, Program, Provenance, Row, RowReason, Subject, Workload,
    calls::Class,
};
use hedgerow_features::Sensors;
use rand::{Rng, SeedableRng, rngs::SmallRng};

const EPOCH_NS: u64 = EPOCH_SECONDS * 1_000_000_000;
/// Calls by class.
type Calls = &'static [(Class, u64)];

/// Workload, program, its process, calls of an epoch.
pub const PROGRAMS: &[(&str, &str, u32, Calls)] = &[
    ("web.service", "/usr/sbin/web", 100, &[(Class::Read, 900), (Class::Open, 40)]),
    ("web.service", "/usr/bin/worker", 101, &[(Class::Read, 300), (Class::Write, 200)]),
    ("db.service", "/usr/bin/db", 200, &[(Class::Write, 2_000), (Class::Rename, 8)]),
    ("db.service", "/usr/bin/backup", 201, &[(Class::Read, 500), (Class::Open, 100)]),
    ("cron.service", "/usr/sbin/cron", 300, &[(Class::Open, 30), (Class::Clone, 2)]),
    ("cron.service", "/usr/bin/job", 301, &[(Class::Read, 100), (Class::Unlink, 5)]),
];

pub struct Host {
    pub epoch: u32,
    pub rng: SmallRng,
    /// Connections that nobody takes in the open epoch.
    pub untaken: Cell<u64>,
}

pub fn settings(epochs: u64) -> Settings {
    Settings {
        host_id: "h".into(),
        boot_id: "b".into(),
        schedule: Schedule::of(epochs * EPOCH_SECONDS),
        budget_per_day: 1.0,
        seed: 7,
        sensors: Sensors::default(),
        realtime_offset_ns: 0,
    }
}

pub fn subject(workload: &str, program: &Program) -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new(workload), program.clone()))
}

impl Host {
    pub fn new(seed: u64) -> Self {
        Self { epoch: 24, rng: SmallRng::seed_from_u64(seed), untaken: Cell::default() }
    }

    pub fn event(&self, subject: &Arc<Subject>, tgid: u32, origin: Origin) -> Event {
        Event {
            epoch: Epoch(self.epoch),
            time_boot_ns: u64::from(self.epoch) * EPOCH_NS + 1_000_000,
            actor: Actor {
                subject: Arc::clone(subject),
                tgid,
                tid: tgid,
                start_boot_ns: 5,
                cgroup_id: 9,
                program_id: u64::from(tgid),
                slot: 0,
            },
            origin,
        }
    }

    pub fn row(&self, subject: &Arc<Subject>, tgid: u32, calls: &[(Class, u64)]) -> Event {
        let mut classes = [0; CLASSES];
        calls.iter().for_each(|(class, count)| classes[class.index()] += *count as u32);
        let calls = calls.iter().map(|(_, count)| count).sum();
        let row = Row { classes, calls, ..Row::empty(RowReason::Window) };
        self.event(subject, tgid, Origin::Row(Box::new(row)))
    }

    pub fn flow(
        &self,
        subject: &Arc<Subject>,
        tgid: u32,
        direction: FlowDirection,
        (peer, port): ([u8; 4], u16),
        local: u16,
        bytes_out: u64,
    ) -> Event {
        let local = Peer { address: [10, 0, 0, 1].into(), port: local };
        let flow = Flow {
            cookie: u64::from(self.epoch),
            bytes_out,
            bytes_in: 100,
            packets_out: bytes_out.div_ceil(1_448),
            packets_in: 2,
            ..Flow::start(direction, local, Peer { address: peer.into(), port })
        };
        self.event(subject, tgid, Origin::Flow(Box::new(flow)))
    }

    pub fn call(
        &self,
        subject: &Arc<Subject>,
        tgid: u32,
        number: i64,
        arguments: [u64; 6],
        path: Option<&str>,
    ) -> Event {
        let class = Class::Open as u8;
        let call = Call { class, result: 3, ..Call::of(number as i32, arguments, path) };
        self.event(subject, tgid, Origin::Call(Box::new(call)))
    }

    pub fn exec(&self, subject: &Arc<Subject>, tgid: u32, change: impl FnOnce(&mut Exec)) -> Event {
        let mut exec = Exec::of(Arc::clone(&subject.program.path));
        exec.provenance = Provenance::Package;
        change(&mut exec);
        self.event(subject, tgid, Origin::Exec(Box::new(exec)))
    }

    /// One epoch of ordinary life.
    pub fn live(&mut self, engine: &mut Engine) {
        for (workload, program, tgid, calls) in PROGRAMS {
            let subject = subject(workload, &Program::new(*program));
            let mut vary = |count: u64| count + self.rng.gen_range(0..=count / 5 + 2);
            let calls: Vec<(Class, u64)> = calls.iter().map(|(c, n)| (*c, vary(*n))).collect();
            engine.observe(&self.row(&subject, *tgid, &calls));
            self.vary(engine, &subject, *tgid);
            let out = FlowDirection::Outbound;
            let bytes = self.rng.gen_range(1_000..3_000);
            match *program {
                "/usr/sbin/web" => {
                    engine.observe(&self.flow(
                        &subject,
                        *tgid,
                        out,
                        ([10, 0, 0, 2], 5432),
                        1,
                        bytes,
                    ));
                    let from = ([10, 0, 1, self.rng.gen_range(1..5)], 40_000);
                    let inbound = FlowDirection::Inbound;
                    engine.observe(&self.flow(&subject, *tgid, inbound, from, 443, 20_000));
                }
                "/usr/bin/backup" if self.epoch.is_multiple_of(12) => {
                    let bytes = bytes * 1_000;
                    engine.observe(&self.flow(&subject, *tgid, out, ([10, 0, 0, 9], 22), 1, bytes));
                    let place = Some("/root/.ssh/id_rsa");
                    engine.observe(&self.call(&subject, *tgid, libc::SYS_openat, [0; 6], place));
                }
                "/usr/sbin/cron" if self.epoch.is_multiple_of(6) => {
                    let path = Some("/etc/shadow");
                    engine.observe(&self.call(&subject, *tgid, libc::SYS_openat, [0; 6], path));
                    // Jobs of many names, from where their users can write.
                    let number = self.rng.gen_range(0..1_000);
                    let job = Program::new(format!("/home/u/job{number}"));
                    let job = self::subject(workload, &job);
                    let event = self.exec(&job, 10_000 + self.epoch, |exec| exec.writable = true);
                    engine.observe(&event);
                    engine.observe(&self.row(&job, 10_000 + self.epoch, &[(Class::Read, 50)]));
                }
                _ => {}
            }
        }
    }

    /// What any program does now and then, mostly little of it.
    fn vary(&mut self, engine: &mut Engine, subject: &Arc<Subject>, tgid: u32) {
        let mut some = |most: f64| {
            let some = self.rng.gen_bool(0.3);
            some.then(|| 10f64.powf(self.rng.gen_range(0.0..most)) as u64)
        };
        let classes = [Class::Open, Class::Rename, Class::Unlink, Class::Clone, Class::Connect];
        let calls: Vec<(Class, u64)> =
            classes.into_iter().filter_map(|class| Some((class, some(1.5)?))).collect();
        let (bytes, called, again) = (some(4.5), some(1.0), some(1.0));
        engine.observe(&self.row(subject, tgid, &calls));
        let known = [10, 0, 0, if subject.workload.as_str() == "db.service" { 9 } else { 2 }];
        if let Some(bytes) = bytes {
            let out = FlowDirection::Outbound;
            engine.observe(&self.flow(subject, tgid, out, (known, 53), 1, bytes / 50));
            engine.observe(&self.flow(subject, tgid, out, (known, 5432), 1, bytes));
        }
        if called.is_some() {
            let inbound = FlowDirection::Inbound;
            engine.observe(&self.flow(subject, tgid, inbound, ([10, 0, 1, 1], 50_000), 443, 100));
        }
        if again.is_some() {
            engine.observe(&self.exec(subject, 20_000 + self.epoch, |_| ()));
        }
    }

    /// Ends an epoch; gives what somebody is told of.
    pub fn close(&mut self, engine: &mut Engine) -> Vec<Finding> {
        let mut found = self.all(engine);
        found.retain(|found| found.disposition.is_alert());
        found
    }

    /// The same with what is listed.
    pub fn all(&mut self, engine: &mut Engine) -> Vec<Finding> {
        let start = u64::from(self.epoch) * EPOCH_NS;
        let close = EpochClose {
            epoch: Epoch(self.epoch),
            start_boot_ns: start,
            end_boot_ns: start + EPOCH_NS,
            realtime_offset_ns: 0,
            suspended_ns: 0,
            loss: Loss::default(),
            host: HostCounters { closed_ports: Some(self.untaken.take()), ..Default::default() },
            shed: false,
        };
        self.epoch += 1;
        let outcomes = engine.close(&close).unwrap();
        outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Outcome::Finding(finding, _) => Some(*finding),
                _ => None,
            })
            .filter(|found| found.activity == Activity::Create || found.is_first_alert())
            .collect()
    }

    pub fn learn(&mut self, epochs: u64) -> Engine {
        let mut engine = Engine::learning(settings(epochs)).unwrap();
        while engine.phase() != Phase::Scoring {
            self.live(&mut engine);
            self.close(&mut engine);
        }
        engine
    }
}
