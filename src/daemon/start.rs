//! How a daemon begins: everything opened and checked, what may fail at the start first.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use hedgerow_detect::{Engine, SavedModel, Schedule, Settings};
use hedgerow_features::Sensors;
use hedgerow_probe::{Control as Sensor, Options, Probe, Shed, identity::Resolver, support};
use hedgerow_responder::Responder;
use hedgerow_sink::{PatientLines, Rotation};

use super::{
    Capture, Daemon, Orders, Run,
    governor::{self, Governor},
    heartbeat::Heart,
    kept::Kept,
    memory,
    named::Called,
    outlets::Outlets,
    probing::Probing,
    pulse::Pulse,
    recorder::{Openings, Recorder},
    report::{self, Reporter},
    respond::{Actor, watch::Told},
    seen::Seen,
    service,
    usage::Accounts,
    used::Uses,
    watchdog::{Loop, Progress, Queue, Stage, Watchdog},
};
use crate::{
    config::{Config, sinks::Configured},
    control::{Control, Readers, socket},
    exit::Failure,
    findings,
    host::{self, Host, MODEL, State},
    kubernetes::Kubernetes,
    metrics::{Board, Sampled, Sampler, Server},
};

/// Programs with a profile where only findings are kept; each takes 66 KiB.
const PROFILES_AGGREGATE: u32 = 64;
/// A small host is looked at so often while little happens: each look wakes two threads, which is most of
/// what it costs then.
const CALM_AGGREGATE: Duration = Duration::from_millis(20);

/// Runs until Ctrl-C or SIGTERM.
pub fn run(config: Config) -> anyhow::Result<()> {
    memory::thrifty();
    support::require().map_err(Failure::host)?;
    let _state = State::take(&config.state)?;
    let identity_key = host::identity_key(&config.state)?;
    let host = Host::read()?;
    if let Some(directory) = &config.capture {
        host::make_capture(directory)?;
    }
    let control = Control::listen(&socket(&config.state), Readers::of(&config.state))?;
    let board = Arc::new(Board::default());
    let server = server(&config, &board)?;
    let signals = support::lowered(host::signals)??;
    let orders = Orders::load(&config.state)?;
    let saved = support::lowered(|| saved_model(&config))??;
    let learned_with = saved.as_ref().map(SavedModel::seed);
    let seed = learned_with.or(config.seed).unwrap_or_else(rand::random);
    let learning = saved.is_none();
    let start = Start { config, host, identity_key, board, seed, learning };
    let deciding = start.deciding(saved, orders)?;

    let resolver = support::lowered(Resolver::open)?;
    let resolver = resolver.context("can't read the cgroup hierarchy").map_err(Failure::host)?;
    let (probe, items) = Probe::start(start.options(), resolver).map_err(Failure::host)?;
    let sensor = probe.control();
    let sampled = start.sampled(server.is_some(), &sensor, &deciding.actor);
    // Everything is attached and opened; threads made before did the same.
    support::lower().map_err(Failure::host)?;
    let sample = |programs| Sampler::start(programs, Arc::clone(&start.board), start.governed());
    let sampler = sampled.map(sample).transpose()?;
    let mut daemon = start.daemon(deciding, sensor, server.is_some())?;
    daemon.begin(server.as_ref().and_then(Server::address));
    memory::give_back();
    let ended = daemon.pump(&items, &control, &signals);
    // Entries are lifted before anybody is waited for who may stand still.
    let stopped = daemon.stop(probe, &items, ended);
    drop((server, sampler));
    stopped
}

/// What everything is made by.
struct Start {
    config: Config,
    host: Host,
    identity_key: [u64; 2],
    board: Arc<Board>,
    seed: u64,
    learning: bool,
}

/// What decides, acts and tells.
struct Deciding {
    engine: Engine,
    actor: Actor,
    reporter: Reporter,
    orders: Orders,
    capture: Option<Capture>,
    kubernetes: Option<Kubernetes>,
}

impl Start {
    fn governed(&self) -> bool {
        self.config.governor.is_there()
    }

    fn deciding(&self, saved: Option<SavedModel>, orders: Orders) -> anyhow::Result<Deciding> {
        let Self { config, host, .. } = self;
        // Models may start a pool of threads.
        let mut engine = support::lowered(|| self.engine(saved))??;
        // The model may be older than the word.
        engine.confirm(orders.attacks());
        let asked = config.kubernetes.clone();
        let kubernetes = support::lowered(|| asked.map(Kubernetes::start).transpose())??;
        let mut reporter =
            support::lowered(|| reporter(config, host, &self.board, kubernetes.clone()))??;
        let actor = Actor::start(config, host, self.identity_key, self.learning, &mut reporter)?;
        let capture = config.capture.as_deref();
        let begun = || capture.map(|path| Capture::start(path, host, self.of_capture()));
        let capture = support::lowered(begun)?.transpose()?;
        Ok(Deciding { engine, actor, reporter, orders, capture, kubernetes })
    }

    fn engine(&self, saved: Option<SavedModel>) -> anyhow::Result<Engine> {
        let Self { config, host, .. } = self;
        let calls = config.syscalls;
        let settings = Settings {
            host_id: host.id.as_str().into(),
            boot_id: host.boot_id.clone(),
            schedule: Schedule::of(config.learn.as_secs()),
            budget_per_day: config.budget_per_day,
            seed: self.seed,
            sensors: Sensors { rows: calls, calls, ..Sensors::default() },
            realtime_offset_ns: host.realtime_offset_ns,
        };
        Ok(match saved {
            Some(saved) => Engine::scoring(settings, saved)?,
            None => Engine::learning(settings)?,
        })
    }

    /// What a capture says of the run that it is made in.
    fn of_capture(&self) -> Run {
        let config = &self.config;
        Run {
            seed: self.seed,
            schedule: self.learning.then(|| Schedule::of(config.learn.as_secs())),
            budget_per_day: config.budget_per_day,
            full: config.full,
            syscalls: config.syscalls,
        }
    }

    fn options(&self) -> Options {
        let config = &self.config;
        let profiles = Options::default().profiles;
        Options {
            gram_key: self.seed,
            identity_key: self.identity_key,
            learning: self.learning,
            full: config.full,
            calls: config.syscalls,
            rings_bytes: config.ring_bytes,
            shed: match self.governed() {
                true => governor::all_shed(),
                false => Shed { used: config.aggregate, ..Shed::default() },
            },
            profiles: if config.aggregate { PROFILES_AGGREGATE } else { profiles },
            calm_interval: config.aggregate.then_some(CALM_AGGREGATE),
            usage: config.usage,
            ..Options::default()
        }
    }

    /// The programs whose run time is asked for, where anybody wants to know.
    fn sampled(&self, scraped: bool, sensor: &Sensor, actor: &Actor) -> Option<Sampled> {
        (scraped || self.governed()).then(|| {
            let mut programs = sensor.programs();
            let deny = actor.responder.iter().flat_map(Responder::programs);
            programs.extend(deny.map(|(name, id)| (name.to_owned(), id)));
            Sampled::open(programs)
        })
    }

    fn daemon(self, deciding: Deciding, sensor: Sensor, scraped: bool) -> anyhow::Result<Daemon> {
        let governed = self.governed();
        let Self { config, host, board, learning, .. } = self;
        let Deciding { engine, actor, reporter, orders, capture, kubernetes } = deciding;
        let unread = sensor.refusals();
        let (turns, ledger) = (Arc::new(Loop::new(&board)), Arc::new(Queue::default()));
        let stages = stages(&sensor, &turns, &ledger, reporter.outlets());
        let watchdog = Watchdog::start(stages, Arc::clone(&turns))?;
        let mut recorder = Recorder::new(config.recorder_bytes);
        recorder.pause(governed);
        let now_ns = hedgerow_responder::now().wall_ns;
        let uses = match config.aggregate {
            true => Uses::off(),
            false => Uses::start(&config.state, now_ns, unread.clone())?,
        };
        let accounts = config.usage.then(|| Accounts::start(&config.state, sensor.clone(), now_ns));
        let model = config.state.join(MODEL);
        Ok(Daemon {
            governor: Governor::new(config.governor, Arc::clone(&board), learning),
            heart: Heart::new(&host),
            accounts: accounts.transpose()?,
            kubernetes,
            config,
            fresh: crossbeam_channel::never(),
            probing: Probing::default(),
            engine,
            sensor,
            unread,
            actor,
            reporter,
            orders,
            kept: Kept::new(&model),
            seen: Seen::default(),
            tampered: Told::default(),
            capture,
            capture_failed: false,
            epochs: 0,
            last_close: None,
            turns,
            ledger,
            watchdog,
            overdue: 0,
            pulse: Pulse::default(),
            recorder,
            opened: Openings::default(),
            uses,
            called: Called::default(),
            board,
            scraped,
        })
    }
}

impl Daemon {
    /// Takes up what an earlier daemon knew, and tells that it has begun.
    fn begin(&mut self, serves: Option<SocketAddr>) {
        self.arm();
        self.orders_changed();
        let mode = self.actor.responder.as_ref().map(Responder::default_mode);
        self.reporter.started(&self.sensor, &self.engine, mode);
        if self.governor.is_none() {
            service::ready();
        }
        if let Some(address) = serves {
            self.reporter.serves(address);
        }
    }
}

fn server(config: &Config, board: &Arc<Board>) -> anyhow::Result<Option<Server>> {
    let start = |listen| Server::start(listen, Arc::clone(board));
    let server = support::lowered(|| config.metrics.map(start))?;
    Ok(server.transpose().map_err(Failure::host)?)
}

/// What a record, a decision or a report goes through.
fn stages(
    sensor: &Sensor,
    turns: &Arc<Loop>,
    ledger: &Arc<Queue>,
    outlets: &Outlets,
) -> Vec<Stage> {
    let (drain, names, ledger) = (sensor.clone(), sensor.clone(), Arc::clone(ledger));
    let mut stages = vec![
        Stage::new("the drain thread", move || Progress { done: drain.turns(), busy: true }),
        Stage::new("the reading of names", move || {
            let (done, busy) = names.names();
            Progress { done, busy }
        }),
        Stage::main_loop(turns),
        Stage::new("the ledger", move || ledger.progress()),
    ];
    stages.extend(outlets.stages());
    stages
}

/// Opens whatever the daemon speaks to.
fn reporter(
    config: &Config,
    host: &Host,
    board: &Arc<Board>,
    kubernetes: Option<Kubernetes>,
) -> anyhow::Result<Reporter> {
    let file = PatientLines::new(&findings::path(&config.state), Rotation::default());
    let sinks = config.sinks.iter().map(Configured::start).collect::<anyhow::Result<_>>()?;
    let (live, stages) = (report::is_live(config), Arc::clone(&board.stages));
    let outlets = Outlets::start(config, host, live, file, sinks, stages, kubernetes)?;
    let mut reporter = Reporter::new(config, host, outlets);
    for told in config.warnings() {
        reporter.warn(&told);
    }
    match findings::left_open(&config.state, hedgerow_responder::now().wall_ns) {
        Ok(closes) => closes.for_each(|close| {
            reporter.outlets().expect_close(&close.uid);
            reporter.finding(&close, false);
        }),
        Err(why) => reporter.warn(&format!("what an earlier run left open stays open: {why:#}")),
    }
    Ok(reporter)
}

/// The saved model, unless the operator wants to learn anew.
fn saved_model(config: &Config) -> anyhow::Result<Option<SavedModel>> {
    let path = config.state.join(MODEL);
    if config.relearn || !path.exists() {
        return Ok(None);
    }
    let saved = SavedModel::load(&path).map_err(Failure::file)?;
    if let Some(key) = &config.key_file
        && Some(saved.seed()) != config.seed
    {
        return Err(Failure::File(format!(
            "{}: the model was learned with another key than that in {}; learn anew with --learn, or \
             leave the key file out",
            path.display(),
            key.display()
        ))
        .into());
    }
    Ok(Some(saved))
}
