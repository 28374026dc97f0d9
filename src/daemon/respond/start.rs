//! The responder's start and stop, and what no automatic entry may name meanwhile.

use std::{collections::VecDeque, time::Duration};

use anyhow::Context as _;
use hedgerow_event::{Mode, Workload};
use hedgerow_hostfile::Refusals;
use hedgerow_probe::support;
use hedgerow_responder::{
    Alarm, Error, Options, Responder,
    ledger::Written as Ledger,
    ordered,
    policy::Offenders,
    protected::gather::{Gathered, Gatherer},
};

use super::Actor;
use crate::{
    config::{Config, sinks::Configured},
    daemon::report::Reporter,
    exit::Failure,
    host::{self, Host, LEDGER},
    kubernetes,
};

/// The start waits so long for the addresses of this host. Without them nothing is denied by itself.
const GATHER: Duration = Duration::from_secs(10);

/// Whom the configuration names.
fn peers(config: &Config) -> Vec<(String, &'static str)> {
    let brokers = config.sinks.iter().flat_map(Configured::peers).map(|peer| (peer, "a broker"));
    let api = config.kubernetes.as_ref().and_then(kubernetes::peer);
    brokers.chain(api.map(|peer| (peer, "the cluster's API"))).collect()
}

impl Actor {
    /// `learning`: what was learned before, and the hours of the week seen with it, don't count.
    pub fn start(
        config: &Config,
        host: &Host,
        identity_key: [u64; 2],
        learning: bool,
        reporter: &mut Reporter,
    ) -> anyhow::Result<Self> {
        let mut options = Options::new(&host.id, config.state.join(LEDGER));
        options.mode = config.mode;
        options.mode_now = config.mode_now;
        options.limits.wrong = config.wrong_entries;
        options.directory = host::pins(&config.state);
        options.identity_key = identity_key;
        let ordered = ordered(&options).map_err(Failure::file)?;
        let mut alarms = Vec::new();
        // Its threads need nothing of what loading takes.
        let started = Responder::load(&options).and_then(|loaded| {
            let with = || Responder::with(loaded, options);
            let failed = |source| Error::Io { what: "responder".to_owned(), source };
            support::lowered(with).map_err(failed)?
        });
        let responder = match started {
            Ok(mut responder) => {
                if learning {
                    responder.forget_learned().map_err(Failure::file)?;
                }
                Some(responder)
            }
            // What an operator ordered is not guessed.
            Err(why @ Error::Standing { .. }) => {
                return Err(Failure::file(why).into());
            }
            Err(why) if config.mode_now.unwrap_or(config.mode) == Mode::Observe => {
                reporter.warn(&format!("nothing can be refused here: {why}"));
                if ordered > Mode::Observe {
                    let reason = format!("{ordered} is ordered, and nothing can be refused: {why}");
                    alarms.push(Alarm { workload: Workload::host(), reason });
                }
                None
            }
            Err(why) => return Err(Failure::host(why).into()),
        };
        if let (Some(asked), Some(responder)) = (config.mode_now, &responder)
            && asked > responder.default_mode()
        {
            reporter.warn(&format!(
                "--mode {asked} waits: an operator set {}; `hedgerow mode {asked}` raises it",
                responder.default_mode()
            ));
        }
        let peers = peers(config);
        let gatherer = support::lowered(|| Gatherer::start(peers)).and_then(|gatherer| gatherer);
        let gatherer = gatherer.context("can't start the threads that read addresses")?;
        let mut actor = Self {
            alarms,
            responder,
            offenders: Offenders::default(),
            enforce_provisional: config.enforce_provisional,
            host: host.clone(),
            gatherer,
            gathered: false,
            ledger: Ledger::default(),
            skipped: false,
            unread: false,
            reported: VecDeque::new(),
        };
        let found = actor.gatherer.wait(GATHER);
        actor.protect(found, reporter);
        if !actor.gathered {
            reporter
                .warn("the addresses of this host are not read yet; until then nothing is denied");
        }
        Ok(actor)
    }

    /// Takes over what no automatic entry may name, and tells what could not be read of it.
    pub(super) fn protect(&mut self, found: Option<Gathered>, reporter: &mut Reporter) {
        for refused in self.gatherer.refusals().iter().flat_map(Refusals::take_untold) {
            reporter.warn(&refused);
        }
        let (Some(found), Some(responder)) = (found, &mut self.responder) else { return };
        let protected = responder.protected_mut();
        protected.refresh(found.host);
        protected.refresh_namespaces(found.namespaces);
        if let Some(users) = found.users {
            protected.set_users(users);
        }
        for (source, wall_ns) in found.logins {
            protected.add_admin_login(source, wall_ns);
        }
        if let Some(why) = found.unread.as_ref().filter(|_| !self.unread) {
            reporter.warn(&format!(
                "not all of this host's own addresses, gateways, resolvers and DHCP servers can be read \
                 ({why}): protected is what could be, and what the last whole reading found"
            ));
        }
        self.unread = found.unread.is_some();
        if found.skipped > 0 && !std::mem::replace(&mut self.skipped, true) {
            reporter.warn(&format!(
                "{} namespaces are too many: their addresses are not protected",
                found.skipped
            ));
        }
        self.gathered = true;
    }

    /// Owners whose files are not read, because one took too long.
    pub fn unread(&self) -> Vec<String> {
        self.gatherer.refusals().iter().flat_map(Refusals::refused).collect()
    }

    /// Lifts entries unless told to keep them to their expiry.
    pub fn stop(&mut self, keep: bool, reporter: &mut Reporter) {
        if let Some(responder) = self.responder.take() {
            let live = responder.entries().len();
            if keep && live > 0 {
                reporter.warn(&format!(
                    "{} in the kernel until the end of their time; `hedgerow disarm` ends them",
                    crate::text::counted(live, "entry stays", "entries stay")
                ));
            }
            let stopped = responder.stop(keep);
            for remediation in stopped.reports {
                reporter.remediation(&remediation);
            }
            if let Some(why) = stopped.failed {
                reporter.warn(&format!("not all could be lifted or written: {why}"));
            }
        }
    }
}
