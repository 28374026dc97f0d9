//! From what was seen to pass at sockets, and what interfaces counted, to rows of a day: pure.

use std::collections::HashMap;

use hedgerow_probe::{
    host_counters::{Counted, Device},
    usage::{Usage, Way},
};

use super::{Bytes, Who};

/// What decides of a driver's habits is half as much from so many bytes on, so that they may change.
const HALVED_BYTES: f64 = (256 << 20) as f64;
/// Namespaces and interfaces that have traffic and are not among those that can be read.
const UNREAD_MAX: usize = 4096;

/// What one window brought.
#[derive(Debug, Default)]
pub struct Measured {
    pub rows: Vec<(Who, Bytes)>,
    /// By interfaces.
    pub counted: Vec<(String, Bytes)>,
}

/// How an interface counts a large packet that hardware cuts, or has joined: some as one, some with the
/// headers of each segment.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    whole: f64,
    extra: f64,
    segments: f64,
    bytes: f64,
    packets: f64,
}

impl Fit {
    fn add(&mut self, way: &Way, counted: &Counted) {
        if self.bytes > HALVED_BYTES {
            let all = [
                &mut self.whole,
                &mut self.extra,
                &mut self.segments,
                &mut self.bytes,
                &mut self.packets,
            ];
            all.into_iter().for_each(|one| *one /= 2.0);
        }
        self.whole += way.bytes as f64;
        self.extra += way.extra as f64;
        self.segments += way.segments as f64;
        self.bytes += counted.bytes as f64;
        self.packets += counted.packets as f64;
    }

    /// It counts each segment: it counted as many, and as much. It is read a little after the window has
    /// ended.
    fn is_cut(&self) -> bool {
        self.packets >= 0.98 * self.segments && self.bytes >= 0.99 * (self.whole + self.extra)
    }
}

#[derive(Debug, Default)]
struct Known {
    /// Received and sent, when it was read last.
    before: Option<[Counted; 2]>,
    fits: [Fit; 2],
}

/// Remembers interfaces between two windows.
#[derive(Debug, Default)]
pub struct Meter {
    /// The host's own network namespace.
    host: Option<u32>,
    known: HashMap<(u32, String), Known>,
    /// Workloads by whose name other namespaces are told.
    names: HashMap<u32, String>,
}

impl Meter {
    pub fn new(host: Option<u32>) -> Self {
        Self { host, ..Self::default() }
    }

    /// Joins what passed in a window with where the interfaces stand behind it; `whole`: all that passed is among it.
    pub fn measure(&mut self, usages: Vec<Usage>, devices: &[Device], whole: bool) -> Measured {
        self.name(&usages, devices);
        let mut named: HashMap<(u32, String), [Way; 2]> = HashMap::new();
        for usage in &usages {
            let place = (usage.netns, usage.device.clone());
            if named.len() < UNREAD_MAX || named.contains_key(&place) {
                let ways = named.entry(place).or_default();
                add(&mut ways[0], &usage.received);
                add(&mut ways[1], &usage.sent);
            }
        }
        let mut measured = Measured::default();
        let mut known = HashMap::new();
        for device in devices {
            let place = (device.netns, device.name.clone());
            let ways = named.remove(&place).unwrap_or_default();
            let (now, counted) =
                self.known.remove(&place).unwrap_or_default().step(device, &ways, whole);
            if counted.both() > 0 {
                measured.counted.push((self.label(place.0, &place.1), counted));
            }
            known.insert(place, now);
        }
        self.known = known;
        for ((netns, device), ways) in named {
            // Nobody says what it counted: it is gone, or no process of its namespace is left.
            let counted = Bytes { received: ways[0].bytes, sent: ways[1].bytes };
            measured.counted.push((self.label(netns, &device), counted));
        }
        measured.rows = usages.into_iter().map(|usage| self.row(usage)).collect();
        measured
    }

    fn row(&self, usage: Usage) -> (Who, Bytes) {
        let interface = self.label(usage.netns, &usage.device);
        let fits = self.known.get(&(usage.netns, usage.device)).map(|known| known.fits);
        let fits = fits.unwrap_or_default();
        let bytes = |way: &Way, fit: &Fit| way.bytes + if fit.is_cut() { way.extra } else { 0 };
        let bytes = Bytes {
            received: bytes(&usage.received, &fits[0]),
            sent: bytes(&usage.sent, &fits[1]),
        };
        let who = Who {
            interface,
            uid: usage.uid,
            workload: usage.subject.workload.to_string(),
            program: usage.subject.program.to_string(),
            peer: usage.peer,
        };
        (who, bytes)
    }

    /// Names of namespaces other than the host's, by who uses most in them. One keeps its name.
    fn name(&mut self, usages: &[Usage], devices: &[Device]) {
        let is_there = |netns: &u32| devices.iter().any(|device| device.netns == *netns);
        self.names.retain(|netns, _| is_there(netns));
        let mut most: HashMap<u32, (u64, &str)> = HashMap::new();
        // What the kernel itself sends to find its neighbours is no program's.
        let named = usages.iter().filter(|usage| usage.subject.program.path.starts_with('/'));
        for usage in named {
            let bytes = usage.received.bytes + usage.sent.bytes;
            let one = most.entry(usage.netns).or_default();
            *one = (*one).max((bytes, usage.subject.workload.as_str()));
        }
        for (netns, (_, workload)) in most {
            self.names.entry(netns).or_insert_with(|| workload.to_owned());
        }
    }

    /// As an interface is told: by its name, and behind `@` whose namespace it is in, where that is not the
    /// host's.
    fn label(&self, netns: u32, device: &str) -> String {
        if self.host == Some(netns) {
            return device.to_owned();
        }
        format!("{device}@{}", self.names.get(&netns).map_or("(unknown)", String::as_str))
    }
}

impl Known {
    /// What the interface counted in this window.
    fn step(mut self, device: &Device, ways: &[Way; 2], whole: bool) -> (Self, Bytes) {
        let now = [device.received, device.sent];
        let before = self.before.replace(now);
        let counted = [0, 1].map(|at| {
            let way = &ways[at];
            match since(before.map(|before| before[at]), now[at], way) {
                Some(counted) => {
                    if whole {
                        self.fits[at].add(way, &counted);
                    }
                    counted.bytes
                }
                None => way.bytes,
            }
        });
        (self, Bytes { received: counted[0], sent: counted[1] })
    }
}

/// What was counted since. Of an interface that is new here, or anew, that is all, where it may be what
/// passed meanwhile; else nobody knows.
fn since(before: Option<Counted>, now: Counted, way: &Way) -> Option<Counted> {
    let goes_on = |before: &Counted| before.bytes <= now.bytes && before.packets <= now.packets;
    if let Some(before) = before.filter(goes_on) {
        let packets = now.packets - before.packets;
        return Some(Counted { bytes: now.bytes - before.bytes, packets });
    }
    let most = (way.bytes + way.extra).saturating_mul(11) / 10;
    (now.bytes <= most).then_some(now)
}

fn add(sum: &mut Way, way: &Way) {
    sum.bytes += way.bytes;
    sum.extra += way.extra;
    sum.segments += way.segments;
}
