//! Configuration: raw TOML and command line, checked once into what the daemon runs with.

mod files;
mod governor;
mod kubernetes;
mod shown;
pub mod sinks;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use hedgerow_event::Mode;
#[cfg(feature = "full")]
use hedgerow_offline::fleet;
use serde::Deserialize;

use self::{
    files::{Files, Origin, Wrong},
    governor::RawGovernor,
    kubernetes::RawKubernetes,
    sinks::Configured,
};
pub use self::{
    governor::Governor,
    shown::{changed, shown},
};
#[cfg(not(feature = "full"))]
use crate::small::fleet;
use crate::{cli, text};

/// The configuration file as written, but for the tables of sinks; unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// Directory of the model, findings, ledger and spool.
    state: Option<PathBuf>,
    /// How long a host without a model learns: "1d".
    learn: Option<String>,
    /// Alert episodes a day that are acceptable when nothing is wrong.
    budget: Option<f64>,
    /// "observe", "monitor" or "enforce".
    mode: Option<Mode>,
    /// Wrong automatic entries in 90 days that are acceptable.
    wrong_entries: Option<usize>,
    /// Most memory for all rings together, in MiB.
    ring_mib: Option<u32>,
    /// Don't observe system calls.
    no_syscalls: Option<bool>,
    /// Keep and send nothing but findings, for small hosts.
    aggregate: Option<bool>,
    /// File of a secret that all hosts of a fleet share.
    key_file: Option<PathBuf>,
    /// The flight recorder.
    recorder: Option<RawRecorder>,
    /// What Hedgerow may cost.
    #[serde(default)]
    governor: RawGovernor,
    /// Who uses how many bytes of which interface.
    usage: Option<RawUsage>,
    /// The API of Kubernetes.
    #[serde(default)]
    kubernetes: RawKubernetes,
    /// Metrics for Prometheus.
    metrics: Option<RawMetrics>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    /// Where scrapers are answered: an address of loopback with a port.
    listen: std::net::SocketAddr,
}

/// The flight recorder as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecorder {
    /// Most memory for what process trees did lately; 0 records nothing.
    bytes: Option<usize>,
}

/// The data accounting as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUsage {
    /// Count, and keep it by day.
    enabled: Option<bool>,
}

/// What the daemon runs with: every value checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub state: PathBuf,
    /// Learn for this long; `relearn` says that a saved model is not used.
    pub learn: Duration,
    pub relearn: bool,
    pub budget_per_day: f64,
    /// The mode where no operator has set one, and the one that holds where it is less than what was.
    pub mode: Mode,
    pub mode_now: Option<Mode>,
    pub wrong_entries: usize,
    pub enforce_provisional: bool,
    pub ring_bytes: u32,
    pub syscalls: bool,
    /// No records are kept or sent, no files in use, and fewer programs have a profile.
    pub aggregate: bool,
    pub full: bool,
    pub capture: Option<PathBuf>,
    /// Of the flight recorder; 0: nothing is recorded.
    pub recorder_bytes: usize,
    pub governor: Governor,
    /// Who uses how many bytes is counted.
    pub usage: bool,
    /// Whom the API of Kubernetes is asked as, where it is.
    pub kubernetes: Option<crate::kubernetes::Settings>,
    pub sinks: Vec<Configured>,
    /// Where scrapers are answered; nowhere unless told.
    pub metrics: Option<std::net::SocketAddr>,
    pub seed: Option<u64>,
    /// Where the seed is from; a model of another key is refused then.
    pub key_file: Option<PathBuf>,
    pub keep_entries: bool,
    pub json: bool,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What lies beside the drop-ins and was not: names that don't end in `.toml`.
    pub unread: Vec<PathBuf>,
    /// The file that was named, where it is another user's than root's or of who asks.
    pub foreign: Option<PathBuf>,
    /// Which of the files hold a secret that others may read, with their mode.
    pub exposed: Vec<(PathBuf, u32)>,
    /// The command line, for when the files are read anew.
    pub given: cli::Run,
}

/// A host without a model learns for a day.
const LEARN_DEFAULT: Duration = Duration::from_secs(86_400);
/// Fewer windows than this can't be divided into fill, fit and calibrate.
const LEARN_LEAST: Duration = Duration::from_secs(60);
/// Alert episodes a day that are acceptable when nothing is wrong.
pub const BUDGET_PER_DAY_DEFAULT: f64 = 1.0;
/// Rings are emptied every 2 ms; at full load on every CPU they hold some seconds.
const RING_MIB_DEFAULT: u32 = 8;
/// A stream of every call is a hundred times as much.
const RING_MIB_FULL: u32 = 32;
/// The least, with one or two CPUs.
const RING_MIB_AGGREGATE: u32 = 1;
const RECORDER_BYTES_DEFAULT: usize = 16 << 20;
const RECORDER_BYTES_MAX: usize = 256 << 20;
const WRONG_ENTRIES_DEFAULT: usize = 1;

impl Config {
    /// Joins the command line over the files, and checks every value.
    pub fn load(run: &cli::Run, json: bool) -> anyhow::Result<Self> {
        let files = Files::read(run.config.as_deref())?.with(run);
        let raw = files.raw()?;
        let state = run.state.clone().or(raw.state.clone()).unwrap_or_else(usual);
        if state.as_os_str().is_empty() || (run.state.is_none() && state.is_relative()) {
            let why = Wrong::new("state", "write the whole path, from / on");
            return Err(files.blames(&why).into());
        }
        let sinks = files.sinks(&state)?;
        let wrong = |key: &str, given: bool, why: String| {
            let origin = if given { Origin::CommandLine } else { files.origin(key) };
            origin.blames(&Wrong::new(key, &why))
        };
        let learn = match (run.learn, &raw.learn) {
            (Some(learn), _) => learn,
            (None, Some(text)) => cli::duration(text).map_err(|_| {
                let why = "write a time, as 90s, 2m, 12h or 1d";
                wrong("learn", false, why.to_owned())
            })?,
            (None, None) => LEARN_DEFAULT,
        };
        if learn < LEARN_LEAST {
            let (short, least) = (learn.as_secs(), LEARN_LEAST.as_secs());
            let why = format!("{short} s is too short to learn from; give at least {least} s");
            return Err(wrong("learn", run.learn.is_some(), why).into());
        }
        let budget_per_day = run.budget.or(raw.budget).unwrap_or(BUDGET_PER_DAY_DEFAULT);
        if !(budget_per_day.is_finite() && budget_per_day > 0.0) {
            let why = format!("{budget_per_day} is not a number of episodes a day above 0");
            return Err(wrong("budget", run.budget.is_some(), why).into());
        }
        let aggregate = raw.aggregate.unwrap_or(false);
        if let Some((key, given)) = kept(run, &raw, &sinks).filter(|_| aggregate) {
            let why = "`aggregate` keeps and sends no more than findings; leave one of the two out";
            return Err(wrong(key, given, why.to_owned()).into());
        }
        let ring_mib = raw.ring_mib.unwrap_or(match () {
            () if run.full => RING_MIB_FULL,
            () if aggregate => RING_MIB_AGGREGATE,
            () => RING_MIB_DEFAULT,
        });
        if !(1..=1024).contains(&ring_mib) {
            let why = format!("{ring_mib} is not from 1 to 1024");
            return Err(wrong("ring_mib", false, why).into());
        }
        let recorder_bytes = raw.recorder.and_then(|recorder| recorder.bytes);
        let recorder_bytes =
            recorder_bytes.unwrap_or(if aggregate { 0 } else { RECORDER_BYTES_DEFAULT });
        if recorder_bytes > RECORDER_BYTES_MAX {
            let why = format!("{recorder_bytes} is more than {RECORDER_BYTES_MAX}");
            return Err(wrong("recorder.bytes", false, why).into());
        }
        let governor = raw.governor.check().map_err(|(key, why)| wrong(key, false, why))?;
        let kubernetes = raw.kubernetes.check().map_err(|(key, why)| wrong(key, false, why))?;
        let metrics = raw.metrics.map(|metrics| metrics.listen);
        if let Some(why) = metrics.and_then(crate::metrics::refusal) {
            return Err(wrong("metrics.listen", false, why).into());
        }
        // A seed on the command line is for this run alone.
        let key_file = run.key_file.clone().or(raw.key_file).filter(|_| run.seed.is_none());
        let seed = key_file.as_deref().map(fleet::key).transpose();
        let seed = seed
            .map_err(|why| wrong("key_file", run.key_file.is_some(), format!("{why:#}")))?
            .or(run.seed);
        Ok(Self {
            state,
            learn,
            relearn: run.learn.is_some(),
            budget_per_day,
            mode: raw.mode.unwrap_or_default(),
            mode_now: run.mode.map(Mode::from),
            wrong_entries: raw.wrong_entries.unwrap_or(WRONG_ENTRIES_DEFAULT),
            enforce_provisional: run.enforce_provisional,
            ring_bytes: ring_mib << 20,
            syscalls: !(run.no_syscalls || raw.no_syscalls.unwrap_or(false)),
            aggregate,
            full: run.full,
            capture: run.capture.clone(),
            recorder_bytes,
            governor,
            usage: raw.usage.and_then(|usage| usage.enabled).unwrap_or(false),
            kubernetes,
            sinks,
            metrics,
            seed,
            key_file,
            keep_entries: run.keep_entries,
            json,
            files: files.paths,
            unread: files.unread,
            foreign: files.foreign,
            exposed: files.exposed,
            given: run.clone(),
        })
    }

    /// Tries what sinks name: files, properties, sockets. That may take what time a disk likes, so that no
    /// daemon does it beside its work.
    ///
    /// # Errors
    /// A daemon would not start with it, or a sink takes nothing.
    pub fn try_out(&self) -> anyhow::Result<()> {
        let Err(why) = self.sinks.iter().try_for_each(Configured::try_out) else { return Ok(()) };
        let files = Files::read(self.given.config.as_deref())?.with(&self.given);
        Err(files.blames(&why.into()).into())
    }

    /// What is to be said of the files, in words: what lies beside the drop-ins and isn't read, and secrets
    /// that others may read.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let paths: Vec<String> =
            self.unread.iter().map(|path| path.display().to_string()).collect();
        let unread = format!("not read, since no name but *.toml is: {}", paths.join(", "));
        let exposed = self.exposed.iter().map(|(path, mode)| {
            format!(
                "{0} (mode {mode:04o}) holds a password, and every user may read it: chmod o= {0}, and \
                 choose another password",
                path.display()
            )
        });
        let foreign = self.foreign.iter().map(|path| {
            format!("{} is another user's, who can choose what root does: chown it", path.display())
        });
        let sinks = self.sinks.iter().flat_map(Configured::warnings);
        (!paths.is_empty()).then_some(unread).into_iter().chain(exposed).chain(foreign).chain(sinks)
    }
}

/// What keeps or sends more than findings, and whether the command line asks for it.
fn kept(run: &cli::Run, raw: &Raw, sinks: &[Configured]) -> Option<(&'static str, bool)> {
    let recorded = raw.recorder.as_ref().and_then(|recorder| recorder.bytes);
    let kept = [
        ("--capture", true, run.capture.is_some()),
        ("--full", true, run.full),
        ("recorder.bytes", false, recorded.is_some_and(|bytes| bytes > 0)),
    ];
    let large = sinks.iter().filter(|sink| !sink.row.is_small);
    let large = large.map(|sink| (sink.row.name, false, true));
    kept.into_iter().chain(large).find(|(_, _, asked)| *asked).map(|(key, given, _)| (key, given))
}

/// The state directory of the daemon that a command is for. What else is wrong with the files keeps nobody from
/// asking, nor from ending what is refused: it is said.
pub fn state(given: &cli::State) -> anyhow::Result<PathBuf> {
    if let Some(state) = &given.state {
        return Ok(state.clone());
    }
    let (state, unread) = files::state(given.config.as_deref())?;
    for why in unread {
        text::note(&format!("hedgerow: warning: {why}"));
    }
    Ok(state.unwrap_or_else(usual))
}

fn usual() -> PathBuf {
    PathBuf::from(cli::STATE_DIRECTORY)
}
