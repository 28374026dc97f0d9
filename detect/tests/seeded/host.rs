//! A host that lives on its true clock, epoch by epoch, under the real engine: resident programs
//! whose work hangs together (autocorrelation .99), tools that they start, and now and then
//! something new.

use std::{path::Path, sync::Arc};

use hedgerow_detect::{EPOCH_SECONDS, Engine, Outcome, Phase, SavedModel, Schedule, Settings};
use hedgerow_event::{
    Call, Deed, Event, Finding, FlowPhase, Origin, Program, Provenance, Subject, Workload,
};
use hedgerow_features::{Sensors, Window};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::common::{close, event, exec, fork, outbound, rows, subject};

pub const MINUTE: u32 = 12;
pub const HOUR: u32 = 720;
pub const DAY: u32 = 24 * HOUR;
/// An alert counts if it comes within so many epochs: 75 s.
const FOUND_WITHIN: u32 = 15;

/// What normal life hardly ever does, whoever does it.
pub const GRAVE: [Deed; 12] = [
    Deed::ExecMemory,
    Deed::ExecWritable,
    Deed::ExecDrift,
    Deed::ExecModified,
    Deed::UnderListener,
    Deed::SocketStreams,
    Deed::Privilege,
    Deed::SetIdBit,
    Deed::Trace,
    Deed::Kernel,
    Deed::Persistence,
    Deed::Secret,
];

pub const SERVICES: [&str; 4] = ["web.service", "db.service", "cron.service", "atd.service"];

/// A resident program of a service.
struct Resident {
    subject: Arc<Subject>,
    tid: u32,
    level: f64,
}

pub struct Host {
    pub engine: Engine,
    pub epoch: u32,
    pub rng: SmallRng,
    /// Calls of a resident in an epoch, on average.
    pub load: f64,
    /// Share of the epochs in which a resident does anything.
    pub activity: f64,
    /// Notifications since scoring began.
    pub alerts: Vec<Finding>,
    /// Those of the last epoch.
    pub windows: Vec<Window>,
    pub per_day: f64,
    residents: Vec<Resident>,
    next_tid: u32,
}

pub fn settings(epochs: u32, per_day: f64, seed: u64) -> Settings {
    Settings {
        host_id: "h".into(),
        boot_id: "b".into(),
        schedule: Schedule::of(u64::from(epochs) * EPOCH_SECONDS),
        budget_per_day: per_day,
        seed,
        sensors: Sensors::default(),
        realtime_offset_ns: 0,
    }
}

/// The service itself.
pub fn main_of(service: usize) -> Arc<Subject> {
    subject(SERVICES[service], &format!("/usr/sbin/main{service}"))
}

/// A tool that the service starts in normal life.
pub fn tool(service: usize, number: usize) -> Arc<Subject> {
    subject(SERVICES[service], &format!("/usr/bin/tool{number}"))
}

impl Host {
    pub fn new(learned: u32, per_day: f64, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // At any time of the hour.
        let epoch = rng.gen_range(10 * HOUR..11 * HOUR);
        let resident = |service: usize| Resident {
            subject: main_of(service),
            tid: 400 + 40 * service as u32,
            level: 0.0,
        };
        Self {
            engine: Engine::learning(settings(learned, per_day, seed)).unwrap(),
            residents: (0..SERVICES.len()).map(resident).collect(),
            epoch,
            load: 800.0,
            activity: 1.0,
            alerts: Vec::new(),
            windows: Vec::new(),
            per_day,
            next_tid: 4000,
            rng,
        }
    }

    pub fn observe(&mut self, who: &Arc<Subject>, tid: u32, origin: Origin) {
        let event: Event = event(who, self.epoch, tid, origin);
        self.engine.observe(&event);
    }

    /// The resident program of a service, with its thread.
    pub fn resident(&self, service: usize) -> (Arc<Subject>, u32) {
        let resident = &self.residents[service];
        (Arc::clone(&resident.subject), resident.tid)
    }

    /// One epoch of ordinary life.
    pub fn live(&mut self) {
        for at in 0..self.residents.len() {
            let (noise, active) = (self.rng.gen_range(-1.0..1.0), self.rng.gen_bool(self.activity));
            let resident = &mut self.residents[at];
            resident.level = 0.99 * resident.level + 0.14 * noise;
            if !active {
                continue;
            }
            let (who, tid) = (Arc::clone(&resident.subject), resident.tid);
            let calls = self.load * (0.3 * resident.level).exp();
            let counts = [(3, calls as u32), (4, (calls / 2.0) as u32), (9, 20)];
            self.observe(&who, tid, rows(&counts));
            let bytes = calls as u64;
            self.observe(&who, tid, outbound(FlowPhase::Start, "10.0.0.2", 443, bytes));
            // Each tool runs every two minutes or so.
            for number in 0..2 {
                if self.rng.gen_bool(1.0 / 24.0) {
                    self.run(at, &tool(at, number), |_| ());
                }
            }
        }
        self.close();
    }

    pub fn live_for(&mut self, epochs: u32) {
        (0..epochs).for_each(|_| self.live());
    }

    /// Lives until the engine is in a phase.
    pub fn live_until(&mut self, phase: Phase) {
        while self.engine.phase() != phase {
            self.live();
        }
    }

    pub fn close(&mut self) {
        let outcomes = self.engine.close(&close(self.epoch)).unwrap();
        self.epoch += 1;
        for outcome in outcomes {
            match outcome {
                Outcome::Windows(windows) => self.windows = windows,
                Outcome::Finding(finding, _) if finding.is_first_alert() => {
                    self.alerts.push(*finding);
                }
                _ => {}
            }
        }
    }

    /// A service starts a program; gives its thread.
    pub fn run(
        &mut self,
        service: usize,
        who: &Arc<Subject>,
        change: impl FnOnce(&mut hedgerow_event::Exec),
    ) -> u32 {
        let (parent, tid) = (main_of(service), self.next_tid);
        self.next_tid += 4;
        let parent_tid = self.residents[service].tid;
        let mut forked = event(&parent, self.epoch, parent_tid, fork(tid / 4));
        if let Origin::Fork(fork) = &mut forked.origin {
            fork.child_start_boot_ns = 7;
        }
        self.engine.observe(&forked);
        let mut exec = exec(Some(&parent));
        exec.parent = Some(parent);
        exec.parent_tgid = parent_tid / 4;
        exec.path = Arc::clone(&who.program.path);
        change(&mut exec);
        self.observe(who, tid, Origin::Exec(Box::new(exec)));
        self.observe(who, tid, rows(&[(3, 40)]));
        tid
    }

    /// A program does a deed, in a process, and so a tree, of its own.
    pub fn does(&mut self, service: usize, who: &Arc<Subject>, deed: Deed) -> u32 {
        let tid = self.run(service, who, |exec| match deed {
            Deed::ExecMemory => exec.memory = true,
            Deed::ExecWritable => exec.writable = true,
            Deed::ExecDrift => exec.provenance = Provenance::Drift,
            Deed::ExecModified => exec.provenance = Provenance::Modified,
            Deed::UnderListener => exec.under_listener = true,
            Deed::SocketStreams => exec.socket_io = true,
            Deed::Privilege => exec.privileged = true,
            _ => (),
        });
        self.goes_on(who, tid, deed);
        tid
    }

    /// Does all that it can in one tree, as a decoy.
    pub fn does_all(&mut self, service: usize) {
        let who = self.stranger(service);
        let tid = self.run(service, &who, |exec| {
            (exec.memory, exec.writable, exec.under_listener) = (true, true, true);
            (exec.socket_io, exec.privileged) = (true, true);
        });
        GRAVE.into_iter().chain([Deed::NewPeer]).for_each(|deed| self.goes_on(&who, tid, deed));
    }

    /// What a process does of a deed beside its exec.
    fn goes_on(&mut self, who: &Arc<Subject>, tid: u32, deed: Deed) {
        let create = (libc::O_CREAT | libc::O_WRONLY) as u64;
        let call = match deed {
            Deed::SetIdBit => call(libc::SYS_fchmod, &[3, libc::S_ISUID.into()], None),
            Deed::Trace => call(libc::SYS_process_vm_writev, &[1], None),
            Deed::Namespace => call(libc::SYS_unshare, &[0x2000_0000], None),
            Deed::Kernel => call(libc::SYS_bpf, &[5], None),
            Deed::Persistence => call(libc::SYS_openat, &[0, 0, create], Some("/etc/cron.d/x")),
            Deed::Secret => call(libc::SYS_openat, &[0, 0, 0], Some("/etc/shadow")),
            Deed::NewPeer => {
                let peer = format!("198.51.{}.{}", self.rng.r#gen::<u8>(), self.rng.r#gen::<u8>());
                outbound(FlowPhase::Start, &peer, 443, 900)
            }
            _ => return,
        };
        self.observe(who, tid, call);
    }

    /// A program of a service that was never seen.
    pub fn stranger(&mut self, service: usize) -> Arc<Subject> {
        let name = format!("/opt/new{}", self.rng.r#gen::<u64>());
        Arc::new(Subject::new(Workload::new(SERVICES[service]), Program::new(&*name)))
    }

    /// Lives on for 75 s; whether an alert names the process or its program.
    pub fn is_found(&mut self, who: &Arc<Subject>, tid: u32) -> bool {
        let before = self.alerts.len();
        self.live_for(FOUND_WITHIN);
        self.alerts[before..].iter().any(|finding| {
            finding.process.as_ref().is_some_and(|process| process.pid == tid / 4)
                || finding.objects.iter().any(|object| object.subject() == who)
        })
    }

    /// This host as it is, as often as wanted: what was learned, by way of its model file.
    pub fn saved(&self, path: &Path) {
        self.engine.save().unwrap().unwrap().save(path).unwrap();
    }

    pub fn again(&self, path: &Path, seed: u64) -> Self {
        let settings = settings(HOUR, self.per_day, seed);
        let resident =
            |resident: &Resident| Resident { subject: Arc::clone(&resident.subject), ..*resident };
        Self {
            engine: Engine::scoring(settings, SavedModel::load(path).unwrap()).unwrap(),
            residents: self.residents.iter().map(resident).collect(),
            rng: SmallRng::seed_from_u64(seed),
            alerts: Vec::new(),
            windows: Vec::new(),
            ..*self
        }
    }
}

fn call(number: i64, arguments: &[u64], path: Option<&str>) -> Origin {
    let mut registers = [0; 6];
    registers[..arguments.len()].copy_from_slice(arguments);
    let number = i32::try_from(number).unwrap();
    Origin::Call(Box::new(Call::of(number, registers, path)))
}
