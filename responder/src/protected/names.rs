//! The addresses of peers that the configuration names. A thread of its own asks for them, again
//! and again: at boot a resolver doesn't answer yet, later another address may stand behind the
//! name, and nobody else waits for either.

use std::{
    io,
    net::ToSocketAddrs,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::gather::{Protected, whole};

/// All are asked for anew this often.
const INTERVAL: Duration = Duration::from_secs(30);
/// And this often while one was never answered.
const SOON: Duration = Duration::from_secs(2);
/// Addresses of one name; further ones are left out.
const ADDRESSES_MAX: usize = 256;

/// `host:port`, and what is there.
pub type Peer = (String, &'static str);

/// What the names stood for when they were answered last; one that isn't any more keeps what it had.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<Vec<Vec<Protected>>>>);

impl Names {
    /// Begins to ask for `names`. `news` hears of each change. The thread ends once
    /// the sender that is given back has gone.
    pub(super) fn start(names: Vec<Peer>, news: Sender<()>) -> io::Result<(Self, Sender<()>)> {
        let (stop, stopped) = channel();
        let shared = Self(Arc::new(Mutex::new(vec![Vec::new(); names.len()])));
        if !names.is_empty() {
            let known = shared.clone();
            let thread = thread::Builder::new().name("hedgerow-names".into());
            thread.spawn(move || known.keep(&names, &stopped, &news))?;
        }
        Ok((shared, stop))
    }

    fn keep(&self, names: &[Peer], stopped: &Receiver<()>, news: &Sender<()>) {
        loop {
            let is_whole = self.ask(names, resolve, news);
            let pause = if is_whole { INTERVAL } else { SOON };
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Whether each name has been answered by now.
    fn ask(
        &self,
        names: &[Peer],
        resolve: impl Fn(&Peer) -> Vec<Protected>,
        news: &Sender<()>,
    ) -> bool {
        for (at, name) in names.iter().enumerate() {
            // Not under the lock: it may take as long as the resolver likes.
            let found = resolve(name);
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !found.is_empty() && known[at] != found {
                known[at] = found;
                // Nobody gathers any more.
                let _ = news.send(());
            }
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().all(|found| !found.is_empty())
    }

    pub(super) fn addresses(&self) -> Vec<Protected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }
}

/// None where nobody answers.
fn resolve((name, what): &Peer) -> Vec<Protected> {
    // Kafka's client takes the protocol in front.
    let name = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let found = name.to_socket_addrs().into_iter().flatten().take(ADDRESSES_MAX);
    let mut found: Vec<Protected> = found.map(|peer| whole(peer.ip(), what)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_name_that_is_answered_late_or_anew_is_known_then_and_kept() {
        let (news, heard) = channel();
        let names = Names(Arc::new(Mutex::new(vec![Vec::new(); 2])));
        let both = ["a:1", "b:2"].map(|name| (name.to_owned(), "a broker"));
        let one = |last| vec![whole([192, 0, 2, last].into(), "a broker")];
        let round = Cell::new(0);
        let resolver = |(name, _): &Peer| match (name.as_str(), round.get()) {
            ("a:1", _) => one(1),
            (_, 1) => one(2),
            (_, 2) => one(3),
            _ => Vec::new(),
        };
        let mut told = Vec::new();
        for now in 0..4 {
            round.set(now);
            let is_whole = names.ask(&both, resolver, &news);
            told.push((is_whole, names.addresses(), heard.try_iter().count()));
        }
        let with = |last| [one(1), one(last)].concat();
        let expected =
            [(false, one(1), 1), (true, with(2), 1), (true, with(3), 1), (true, with(3), 0)];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_name_is_known_without_being_asked_for() {
        let expected = vec![whole([192, 0, 2, 7].into(), "a broker")];
        let resolve = |written: &str| resolve(&(written.to_owned(), "a broker"));
        for written in ["192.0.2.7:9092", "SASL_SSL://192.0.2.7:1"] {
            assert_eq!(resolve(written), expected);
        }
        assert_eq!(resolve("[2001:db8::1]:9092")[0].1, 128);
        assert!(resolve("nowhere").is_empty());
    }
}
