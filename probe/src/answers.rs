//! By which names addresses were asked for, as answers of name servers said that passed by. All of it is
//! claimed: whoever sends from port 53 says what he likes, so nothing is decided by it. A thread aside
//! reads the answers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use hedgerow_bpf::wire::{WIRE_ANSWER, wire_answer};
use libbpf_rs::RingBufferBuilder;
use lru::LruCache;
use simple_dns::{CLASS, Packet, PacketFlag, QCLASS, RCODE, rdata::RData};

use crate::{Error, Result, control::Shared, support};

/// Network namespaces whose answers are remembered. Full: the one that was silent for longest goes.
const NAMESPACES_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Addresses that one namespace has names for. Full: the one that nobody asked for goes.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// A name holds as long as it says, but for a tree's five minutes at least, and an hour at most.
const KEPT_SECONDS: (u32, u32) = (300, 3600);
/// Aliases that are followed, and addresses taken, of one answer.
const ALIASES_MAX: usize = 16;
const ADDRESSES_OF_ONE: usize = 32;
/// Longest name, in bytes as written.
const NAME_MAX: usize = 253;
/// How long the thread sleeps before it looks whether to stop.
const WAIT: Duration = Duration::from_millis(100);

/// What an answer says: the name that was asked for, and the addresses it leads to, each with the seconds
/// that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    pub addresses: Vec<(IpAddr, u32)>,
}

/// A record of the ring: the socket's network namespace, the time, and the datagram's payload.
pub fn record(bytes: &[u8]) -> Option<(u32, u64, &[u8])> {
    const START: usize = std::mem::offset_of!(wire_answer, bytes);
    if bytes.len() < size_of::<wire_answer>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `wire_answer`.
    let answer = unsafe { bytes.as_ptr().cast::<wire_answer>().read_unaligned() };
    let payload = bytes.get(START..START + usize::from(answer.size))?;
    (u32::from(answer.header.kind) == WIRE_ANSWER).then_some((
        answer.netns,
        answer.header.time_boot_ns,
        payload,
    ))
}

/// Reads a datagram; `None` where it is no answer with addresses, or its name is none of a host. Pure.
pub fn answer(payload: &[u8]) -> Option<Answer> {
    let packet = Packet::parse(payload).ok()?;
    if !packet.has_flags(PacketFlag::RESPONSE) || packet.rcode() != RCODE::NoError {
        return None;
    }
    let [question] = packet.questions.as_slice() else { return None };
    let name = written(question.qname.as_bytes())?;
    if question.qclass != QCLASS::CLASS(CLASS::IN) {
        return None;
    }
    // Aliases of the name, then theirs, whatever order they come in.
    let mut names = vec![name.clone()];
    let mut from = 0;
    while from < names.len() {
        for record in &packet.answers {
            if let RData::CNAME(alias) = &record.rdata
                && names.len() <= ALIASES_MAX
                && written(record.name.as_bytes()).is_some_and(|owner| owner == names[from])
                && let Some(alias) = written(alias.0.as_bytes())
                && !names.contains(&alias)
            {
                names.push(alias);
            }
        }
        from += 1;
    }
    let mut addresses = Vec::new();
    for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
        let address = match &record.rdata {
            RData::A(a) => IpAddr::V4(Ipv4Addr::from_bits(a.address)),
            RData::AAAA(aaaa) => IpAddr::V6(Ipv6Addr::from_bits(aaaa.address)).to_canonical(),
            _ => continue,
        };
        let is_meant = written(record.name.as_bytes()).is_some_and(|owner| names.contains(&owner));
        if is_meant && !address.is_unspecified() && addresses.len() < ADDRESSES_OF_ONE {
            addresses.push((address, record.ttl));
        }
    }
    (!addresses.is_empty()).then_some(Answer { name, addresses })
}

/// A name in lower case; `None` where a label holds what no host's name does, so that nothing that comes
/// from here has to be escaped.
fn written<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut name = String::new();
    for label in labels {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty()
            || !label.iter().all(is_plain)
            || name.len() + 1 + label.len() > NAME_MAX
        {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    (!name.is_empty()).then_some(name)
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    until_boot_ns: u64,
}

/// Names of addresses by network namespace: what one is told names nobody's peers in another.
#[derive(Debug)]
pub struct Names {
    namespaces: LruCache<u32, LruCache<IpAddr, Named>>,
    /// Names that went before their time.
    evicted: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self { namespaces: LruCache::unbounded(), evicted: 0 }
    }
}

impl Names {
    pub fn learn(&mut self, netns: u32, answer: Answer, now_boot_ns: u64) {
        if !self.namespaces.contains(&netns) {
            while self.namespaces.len() >= NAMESPACES_MAX.get()
                && let Some((_, gone)) = self.namespaces.pop_lru()
            {
                self.evicted += live(&gone, now_boot_ns);
            }
            self.namespaces.put(netns, LruCache::unbounded());
        }
        let Some(names) = self.namespaces.get_mut(&netns) else { return };
        let name: Arc<str> = answer.name.into();
        for (address, seconds) in answer.addresses {
            let seconds = u64::from(seconds.clamp(KEPT_SECONDS.0, KEPT_SECONDS.1));
            let until_boot_ns = now_boot_ns.saturating_add(seconds * 1_000_000_000);
            names.put(address, Named { name: Arc::clone(&name), until_boot_ns });
            if names.len() > ADDRESSES_MAX.get()
                && let Some((_, gone)) = names.pop_lru()
            {
                self.evicted += u64::from(gone.until_boot_ns > now_boot_ns);
            }
        }
    }

    pub fn of(&mut self, netns: u32, address: IpAddr, now_boot_ns: u64) -> Option<Arc<str>> {
        let named = self.namespaces.get_mut(&netns)?.get(&address)?;
        (named.until_boot_ns > now_boot_ns).then(|| Arc::clone(&named.name))
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn live(names: &LruCache<IpAddr, Named>, now_boot_ns: u64) -> u64 {
    names.iter().filter(|(_, named)| named.until_boot_ns > now_boot_ns).count() as u64
}

pub fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the ring of answers on a thread of its own, until the sensor stops. The drain thread never
/// waits for it.
///
/// # Errors
/// No thread can be made.
pub fn follow(shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let read = move || {
        let mut builder = RingBufferBuilder::new();
        let names = Arc::clone(&shared);
        let added = builder.add(&shared.loaded.answers, move |bytes: &[u8]| {
            if let Some((netns, now_boot_ns, payload)) = record(bytes)
                && let Some(answer) = answer(payload)
            {
                lock(&names.answers).learn(netns, answer, now_boot_ns);
            }
            0
        });
        // Without it peers have no names, and the ring's own count says so.
        if added.is_err() {
            return;
        }
        let Ok(ring) = builder.build() else { return };
        while !shared.stop.load(Ordering::Acquire) {
            // An interrupted wait is as good as a finished one.
            let _ = ring.poll_raw(WAIT);
        }
    };
    let named = || std::thread::Builder::new().name("hedgerow-answers".into()).spawn(read);
    let thread = support::lowered(named).and_then(|thread| thread);
    thread.map_err(Error::io("thread that reads names"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use simple_dns::{
        Name, QTYPE, Question, ResourceRecord, TYPE,
        rdata::{A, AAAA, CNAME},
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn name(text: &str) -> Name<'_> {
        Name::new_unchecked(text)
    }

    fn says<'a>(asked: &'a str, records: Vec<(&'a str, RData<'a>)>) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        let kind = QTYPE::TYPE(TYPE::A);
        packet.questions.push(Question::new(name(asked), kind, QCLASS::CLASS(CLASS::IN), false));
        let record = |(owner, data)| ResourceRecord::new(name(owner), CLASS::IN, 60, data);
        packet.answers.extend(records.into_iter().map(record));
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn a(last: u8) -> RData<'static> {
        RData::A(A { address: u32::from_be_bytes([192, 0, 2, last]) })
    }

    fn alias(to: &str) -> RData<'_> {
        RData::CNAME(CNAME(name(to)))
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_name_that_was_asked_for_leads_through_its_aliases_to_addresses() {
        let six: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let payload = says(
            "WWW.Example.net",
            vec![
                // In no order, and one that nobody asked for.
                ("edge.cdn.example", a(1)),
                ("other.example", a(9)),
                ("mid.example", alias("edge.cdn.example")),
                ("www.example.net", alias("mid.example")),
                ("edge.cdn.example", RData::AAAA(AAAA { address: six.into() })),
            ],
        );
        let told = answer(&payload).unwrap();
        assert_eq!(told.name, "www.example.net");
        assert_eq!(told.addresses, [(v4(1), 60), (six.into(), 60)]);
    }

    #[test]
    fn what_is_no_answer_names_nobody() {
        let good = says("x.example", vec![("x.example", a(1))]);
        assert!(answer(&good).is_some());
        let mut question = good.clone();
        question[2] &= 0x7f;
        let mut refused = good.clone();
        refused[3] |= 3;
        let odd = says("x\u{1b}[2J.example", vec![("x\u{1b}[2J.example", a(1))]);
        let circle = says(
            "a.example",
            vec![("a.example", alias("b.example")), ("b.example", alias("a.example"))],
        );
        let elsewhere = says("x.example", vec![("y.example", a(1))]);
        let nobody = says("x.example", vec![("x.example", RData::A(A { address: 0 }))]);
        let cut = good[..good.len() - 1].to_vec();
        for bad in [question, refused, odd, circle, elsewhere, nobody, cut, Vec::new()] {
            assert_eq!(answer(&bad), None, "{bad:x?}");
        }
    }

    #[test]
    fn names_are_of_one_namespace_bounded_and_end() {
        let mut names = Names::default();
        let told = |name: &str, last: u8| Answer {
            name: name.into(),
            addresses: vec![(v4(last), 60), (v4(last + 1), 1_000_000)],
        };
        names.learn(1, told("a.example", 1), 0);
        names.learn(2, told("forged.example", 1), 0);
        assert_eq!(names.of(1, v4(1), 0).as_deref(), Some("a.example"));
        assert_eq!(names.of(2, v4(1), 0).as_deref(), Some("forged.example"));
        assert_eq!(names.of(3, v4(1), 0), None);
        assert!(names.of(1, v4(1), 299 * SECOND).is_some(), "a tree's five minutes");
        assert_eq!(names.of(1, v4(1), 300 * SECOND), None);
        assert!(names.of(1, v4(2), 3599 * SECOND).is_some());
        assert_eq!(names.of(1, v4(2), 3600 * SECOND), None, "an hour at most");

        for number in 0..600_u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(number + 1));
            names.learn(1, Answer { name: "n".into(), addresses: vec![(address, 60)] }, 0);
        }
        assert_eq!(names.namespaces.get(&1).unwrap().len(), ADDRESSES_MAX.get());
        assert_eq!(names.evicted(), 602 - 512);
        assert!(names.of(2, v4(1), 0).is_some(), "a flood in one takes no other's");
        for netns in 10..80 {
            names.learn(netns, told("a.example", 1), 0);
        }
        assert_eq!(names.namespaces.len(), NAMESPACES_MAX.get());
        assert!(names.evicted() > 602 - 512);
    }

    #[test]
    fn a_record_is_as_long_as_it_says_or_none() {
        let mut bytes = vec![0_u8; size_of::<wire_answer>()];
        bytes[0] = WIRE_ANSWER as u8;
        bytes[8..16].copy_from_slice(&5_u64.to_ne_bytes());
        bytes[16..20].copy_from_slice(&9_u32.to_ne_bytes());
        bytes[20..22].copy_from_slice(&12_u16.to_ne_bytes());
        assert_eq!(record(&bytes), Some((9, 5, &[0; 12][..])));
        assert_eq!(record(&bytes[..100]), None);
        bytes[20..22].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(record(&bytes), None);
        bytes[0] = 1;
        assert_eq!(record(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let _ = (record(&bytes), answer(&bytes));
        }

        /// Changes to a real answer reach deeper than noise; what is made of them stays bounded and plain.
        #[test]
        fn a_changed_answer_is_plain_and_bounded(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12),
            length in any::<proptest::sample::Index>(),
        ) {
            let mut payload = says("www.example.net", vec![
                ("www.example.net", alias("mid.example")),
                ("mid.example", a(1)),
                ("mid.example", a(2)),
            ]);
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            payload.truncate(length.index(payload.len()) + 1);
            if let Some(told) = answer(&payload) {
                prop_assert!(told.name.len() <= NAME_MAX && told.addresses.len() <= ADDRESSES_OF_ONE);
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
                prop_assert!(told.name.chars().all(plain));
            }
        }
    }
}
