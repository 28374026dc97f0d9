//! The least amount that would be told: by a deed of amount, or by the measure of a window.

use std::collections::BTreeSet;

use hedgerow_event::{Event, Scale, calls::Class};
use hedgerow_features::Imagined;
use serde::{Deserialize, Serialize};

use super::{acts::Stage, trial::Trial};

/// Beyond them an amount is none that a host can reach: bytes (ten gigabits) and calls a second.
const BYTES_PER_SECOND: u64 = 1_250_000_000;
const CALLS_PER_SECOND: u64 = 1_000_000;
/// Events that are tried one by one.
const EVENTS_MAX: u64 = 20_000;
/// How near the least amount is searched.
const PRECISION: f64 = 1.05;
const EPOCHS_PER_MINUTE: u64 = 12;
const MINUTES_PER_HOUR: u64 = 60;
/// Amounts by deeds are added up over five minutes.
const FIVE_MINUTES_PER_HOUR: u64 = 12;

/// Something that can be more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    BytesToNewcomer,
    BytesToKnownPeer,
    BytesOfNameQueries,
    Opens,
    Renames,
    Unlinks,
    Forks,
    Connects,
    FailedConnects,
    CallsOfNewSource,
}

/// In which time it happens, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    Seconds5,
    Minute,
    Hour,
}

impl Amount {
    pub const ALL: [Self; 10] = [
        Self::BytesToNewcomer,
        Self::BytesToKnownPeer,
        Self::BytesOfNameQueries,
        Self::Opens,
        Self::Renames,
        Self::Unlinks,
        Self::Forks,
        Self::Connects,
        Self::FailedConnects,
        Self::CallsOfNewSource,
    ];

    /// What is counted, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::BytesToNewcomer => "bytes to an address never seen",
            Self::BytesToKnownPeer => "bytes to a known address",
            Self::BytesOfNameQueries => "bytes of name queries",
            Self::Opens => "files opened",
            Self::Renames => "files renamed",
            Self::Unlinks => "files removed",
            Self::Forks => "processes forked",
            Self::Connects => "connect calls",
            Self::FailedConnects => "connections that fail",
            Self::CallsOfNewSource => "connections from one new source",
        }
    }

    pub fn is_bytes(self) -> bool {
        matches!(self, Self::BytesToNewcomer | Self::BytesToKnownPeer | Self::BytesOfNameQueries)
    }

    /// The largest amount that is tried.
    pub fn most(self, span: Span) -> u64 {
        let per_second = if self.is_bytes() { BYTES_PER_SECOND } else { CALLS_PER_SECOND };
        per_second * span.seconds()
    }

    /// What so much of it adds to a window.
    fn add(self, stage: &Stage, to: &mut Imagined, amount: u64) {
        match self {
            Self::Opens => to.call(Class::Open, amount),
            Self::Renames => to.call(Class::Rename, amount),
            Self::Unlinks => to.call(Class::Unlink, amount),
            Self::Connects => to.call(Class::Connect, amount),
            Self::Forks => to.fork(amount),
            Self::CallsOfNewSource => to.accept(amount),
            _ => self.events(stage, amount).iter().for_each(|event| to.observe(event)),
        }
    }

    /// Usual windows with what falls into each of so much of it.
    fn windows(
        self,
        stage: &Stage,
        usual: &[(Scale, Imagined)],
        span: Span,
        n: u64,
    ) -> impl Iterator<Item = (Scale, Imagined)> {
        usual.iter().map(move |(scale, usual)| {
            let mut window = usual.clone();
            self.add(stage, &mut window, span.share(n, *scale));
            (*scale, window)
        })
    }

    /// The events that deeds of amount are made of; none where there is no such deed.
    fn events(self, stage: &Stage, amount: u64) -> Vec<Event> {
        match self {
            Self::BytesToNewcomer => vec![stage.calls(stage.newcomer, 443, amount)],
            Self::BytesToKnownPeer => vec![stage.calls(stage.acquaintance, 443, amount)],
            Self::BytesOfNameQueries => vec![stage.calls(stage.acquaintance, 53, amount)],
            Self::Renames => vec![stage.row(Class::Rename, amount)],
            Self::FailedConnects => {
                let call = stage.fails();
                (0..amount.min(EVENTS_MAX)).map(|_| call.clone()).collect()
            }
            Self::Forks => stage.forks(amount.min(EVENTS_MAX)),
            Self::CallsOfNewSource => {
                let call = stage.called_by(stage.newcomer);
                (0..amount.min(EVENTS_MAX)).map(|_| call.clone()).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Span {
    pub const ALL: [Self; 3] = [Self::Seconds5, Self::Minute, Self::Hour];

    pub fn words(self) -> &'static str {
        match self {
            Self::Seconds5 => "5 s",
            Self::Minute => "a minute",
            Self::Hour => "an hour",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Seconds5 => 5,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// What of an amount falls into one window of a scale.
    fn share(self, amount: u64, scale: Scale) -> u64 {
        let windows = match (self, scale) {
            (Self::Minute, Scale::Seconds5) => EPOCHS_PER_MINUTE,
            (Self::Hour, Scale::Seconds5) => EPOCHS_PER_MINUTE * MINUTES_PER_HOUR,
            (Self::Hour, _) => MINUTES_PER_HOUR,
            _ => 1,
        };
        amount.div_ceil(windows)
    }
}

impl Trial<'_> {
    /// The least amount of a span that would be told; `None` where none would.
    pub fn least(&mut self, stage: &Stage, amount: Amount, span: Span) -> Option<u64> {
        let windows = self.windows(stage);
        let told = |trial: &mut Self, n: u64| {
            trial.tells_deeds(stage, amount, span, n)
                || amount
                    .windows(stage, &windows, span, n)
                    .any(|(scale, window)| trial.tells(&stage.subject, &window, scale))
        };
        least(amount.most(span), |n| told(self, n))
    }

    /// The least amount that would be listed, where none is told.
    pub fn least_listed(&self, stage: &Stage, amount: Amount, span: Span) -> Option<u64> {
        let windows = self.windows(stage);
        least(amount.most(span), |n| {
            let mut windows = amount.windows(stage, &windows, span, n);
            windows.any(|(scale, window)| self.above(&stage.subject, &window, scale).is_some())
        })
    }

    fn windows(&self, stage: &Stage) -> [(Scale, Imagined); 2] {
        [Scale::Seconds5, Scale::Minute].map(|scale| (scale, self.usual(&stage.subject, scale)))
    }

    /// Whether the deeds in an amount would be told: at once, or in an hour's pieces.
    fn tells_deeds(&mut self, stage: &Stage, amount: Amount, span: Span, n: u64) -> bool {
        // Processes are counted in 5 s: in each as many.
        let pieces =
            if span == Span::Hour && amount != Amount::Forks { FIVE_MINUTES_PER_HOUR } else { 1 };
        let n = if amount == Amount::Forks { span.share(n, Scale::Seconds5) } else { n };
        let piece = amount.events(stage, n.div_ceil(pieces));
        if piece.is_empty() {
            return false;
        }
        let mut events = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..pieces {
            events.extend_from_slice(&piece);
            // The first event is the process's birth.
            pauses.push(events.len());
        }
        self.judge(stage, &events, &pauses).told.is_some()
    }

    /// Whether an act is told by what it does to a window of whoever does it.
    pub fn tells_window(&self, events: &[Event]) -> bool {
        let subjects: BTreeSet<_> = events.iter().map(|event| &event.actor.subject).collect();
        subjects.into_iter().any(|subject| {
            [Scale::Seconds5, Scale::Minute].into_iter().any(|scale| {
                let mut window = self.usual(subject, scale);
                events.iter().for_each(|event| window.observe(event));
                self.tells(subject, &window, scale)
            })
        })
    }
}

/// The least number up to the most that holds, where more of it holds, too.
fn least(most: u64, mut holds: impl FnMut(u64) -> bool) -> Option<u64> {
    let (mut below, mut above) = (0, 1);
    while !holds(above) {
        if above >= most {
            return None;
        }
        below = above;
        above = most.min(above * 4);
    }
    while above - below > 1 && above as f64 > below as f64 * PRECISION {
        let middle = below + (above - below) / 2;
        if holds(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found_as_near_as_was_asked() {
        for wanted in [1, 2, 7, 100, 12_345, 987_654_321] {
            let found = least(1 << 40, |n| n >= wanted).unwrap_or_default();
            assert!(found >= wanted && found as f64 <= wanted as f64 * PRECISION + 1.0, "{wanted}");
        }
        assert_eq!((least(7, |_| false), least(7, |n| n >= 7)), (None, Some(7)));
        assert_eq!(Span::Hour.share(720_001, Scale::Seconds5), 1_001);
    }
}
