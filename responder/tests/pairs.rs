//! Each pair of a verb and a key by its effect, hook by hook: what the table promises is refused as
//! it says, and what it doesn't promise is let through. Live: root, own cgroup, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashSet, path::PathBuf};

use common::{Bench, Cgroup, EPERM, LOADER, Outcome, Puppet, Sink, copy_of_self, ok};
use hedgerow_event::{FileKey, Level, Target};
use hedgerow_responder::{
    Responder,
    hooks::{HOOKS, Hook, KERNELS, Key, There, Verb},
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// Who is denied sends from the first address, the peer from the second.
const OWN: &str = "127.72.0.1:0";
const PEER: &str = "127.72.0.2:0";
/// Who is denied has this real user id, and the rights of root.
const USER: u32 = 4242;

#[test]
fn puppet() {
    common::play();
}

/// Whom the pairs are tried on, and whom they must leave alone.
struct Scene {
    bench: Bench,
    denied: Puppet,
    bystander: Puppet,
    copy: PathBuf,
    program_id: u64,
    file: FileKey,
    tcp4: Sink,
    tcp6: Sink,
    udp4: Sink,
    udp6: Sink,
    /// Last: it goes when nobody is inside.
    cgroup: Cgroup,
}

impl Scene {
    fn new() -> Self {
        let mut bench = Bench::new("pairs");
        let cgroup = Cgroup::new("pairs");
        let copy = copy_of_self(bench.directory.path());
        let (mut denied, mut bystander) = (Puppet::start(&copy), Puppet::new());
        denied.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
        denied.tell(&format!("user {USER}")).unwrap();
        denied.tell(&format!("raw {OWN}")).unwrap();
        bystander.tell(&format!("raw {PEER}")).unwrap();
        let (program_id, file) = bench.get().program_of(denied.pid()).unwrap().unwrap();
        let (tcp4, udp4) = (Sink::tcp("127.72.0.2"), Sink::udp("127.72.0.2"));
        let (tcp6, udp6) = (Sink::tcp("::1"), Sink::udp("::1"));
        Self { bench, denied, bystander, copy, program_id, file, tcp4, tcp6, udp4, udp6, cgroup }
    }

    /// The keys of this scene; the peer is scoped to the cgroup.
    fn target(&mut self, key: Key, ipv6: bool) -> Target {
        let cgroup_id = self.cgroup.id();
        let (address, prefix_length) = match ipv6 {
            true => (self.tcp6.address.ip(), 128),
            false => (self.tcp4.address.ip(), 32),
        };
        match key {
            Key::Peer => Target::Peer { address, prefix_length, cgroup_id, program_id: 0 },
            Key::ProgramPeer => {
                Target::Peer { address, prefix_length, cgroup_id, program_id: self.program_id }
            }
            Key::TaskTree => {
                let tgid = self.denied.pid();
                let start_boot_ns = self.bench.get().start_of(tgid).unwrap().unwrap();
                Target::TaskTree { tgid, start_boot_ns }
            }
            Key::Program | Key::ProgramNetwork => Target::Program {
                cgroup_id,
                file: self.file,
                path: self.copy.to_string_lossy().into(),
                network: key == Key::ProgramNetwork,
            },
            Key::Cgroup => Target::Cgroup { cgroup_id, path: "/pairs".into() },
            Key::User => Target::User { uid: USER },
        }
    }

    /// Does what a hook refuses, as the denied one or as a bystander.
    fn act(&mut self, hook: &Hook, bystander: bool) -> Outcome {
        let copy = self.copy.display();
        let command = match hook.name {
            "connect4" => format!("connect {}", self.tcp4.address),
            "connect6" => format!("connect {}", self.tcp6.address),
            "sendmsg4" => format!("send {}", self.udp4.address),
            "sendmsg6" => format!("send {}", self.udp6.address),
            "bind4" => "bind 127.0.0.1:0".to_owned(),
            "bind6" => "bind [::1]:0".to_owned(),
            "sock_create" => "create 2 1 0".to_owned(),
            "family" | "capability" => {
                format!("mortal {} {} 0", libc::AF_PACKET, libc::SOCK_RAW)
            }
            "exec" | "bprm" => format!("exec {copy}"),
            "map" => format!("exec {LOADER} {copy}"),
            "egress" if bystander => format!("rawsend {OWN}"),
            "egress" => format!("rawsend {PEER}"),
            "ingress" => return self.receive(bystander),
            other => panic!("how is {other} tried?"),
        };
        let puppet = if bystander { &mut self.bystander } else { &mut self.denied };
        let outcome = puppet.tell(&command);
        // What was sent by the denied one is not what the bystander is asked for next.
        if hook.name == "egress" {
            let other = if bystander { &mut self.denied } else { &mut self.bystander };
            let _ = other.tell("rawrecv");
        }
        outcome
    }

    fn receive(&mut self, bystander: bool) -> Outcome {
        let (from, to, at) = match bystander {
            true => (&mut self.denied, &mut self.bystander, PEER),
            false => (&mut self.bystander, &mut self.denied, OWN),
        };
        // Egress alone is another pair: what can't be sent can't be received.
        from.tell(&format!("rawsend {at}"))?;
        to.tell("rawrecv")
    }

    /// Denies the key the verb alone, so that no other hook answers in this one's place.
    fn deny(&mut self, target: Target, verbs: impl Fn(u32) -> u32) -> String {
        let told = self.bench.deny(target, 600);
        let id = self.bench.get().entries()[0].id.to_ne_bytes();
        let pin = self.bench.options.directory.join("deny_entries");
        let entries = MapHandle::from_pinned_path(pin).unwrap();
        let mut entry = entries.lookup(&id, MapFlags::ANY).unwrap().unwrap();
        let own = u32::from_ne_bytes(entry[16..20].try_into().unwrap());
        entry[16..20].copy_from_slice(&verbs(own).to_ne_bytes());
        entries.update(&id, &entry, MapFlags::ANY).unwrap();
        told.uid
    }

    fn lift(&mut self, uid: &str) {
        self.bench.get().remove(uid, "tried").unwrap().unwrap();
    }
}

/// What the act comes to where nothing is denied.
fn allowed(verb: Verb) -> Outcome {
    match verb {
        Verb::Exec | Verb::Map | Verb::Family => Ok("exit 0".to_owned()),
        _ => ok(),
    }
}

fn refused(hook: &Hook, verb: Verb, level: Level) -> Outcome {
    match (verb, level) {
        (Verb::Exec, Level::KillsBeforeFirstInstruction)
        | (Verb::Family, Level::KillsOneCallLate) => Ok("signal 9".to_owned()),
        (Verb::Family, Level::Prevents) => Ok(format!("exit {EPERM}")),
        (Verb::Map, Level::Prevents) => Ok("exit 127".to_owned()),
        (Verb::Packet, Level::Prevents) if hook.name == "ingress" => Err(libc::EAGAIN),
        (_, Level::Prevents) => Err(EPERM),
        other => panic!("{other:?}"),
    }
}

/// `DENY_*` of bpf/include/deny_wire.h.
fn bit(verb: Verb) -> u32 {
    match verb {
        Verb::Connect => 1,
        Verb::Send => 2,
        Verb::Bind => 4,
        Verb::Socket => 8,
        Verb::Packet => 16,
        Verb::Exec => 32,
        Verb::Map => 64,
        Verb::Family => 128,
    }
}

#[test]
fn each_pair_is_refused_as_the_table_says_and_the_others_are_let_through() {
    let mut scene = Scene::new();
    let hooks = scene.bench.get().hooks().clone();
    for hook in HOOKS {
        let Some(verb) = hook.refuses.map(|refuses| refuses.verb) else { continue };
        let ipv6 = hook.name.ends_with('6');
        let free = allowed(verb);
        for key in Key::ALL {
            let pair = format!("{} x {key}", hook.hook);
            let level = hooks.level(key, verb);
            let loaded = hooks.loaded().iter().any(|other| other.name == hook.name);
            // Another hook answers before this one does.
            if level != Level::Counts && (!loaded || hook.level(key, verb) != level) {
                println!("{pair}: not here, or behind one that is surer");
                continue;
            }
            assert_eq!(scene.act(hook, false), free, "{pair}, before");
            let target = scene.target(key, ipv6);
            if level == Level::Counts {
                let spared = |own| if verb == Verb::Map { own & !bit(Verb::Exec) } else { own };
                let uid = scene.deny(target, spared);
                assert_eq!(scene.act(hook, false), free, "{pair} is not promised");
                scene.lift(&uid);
                println!("{pair}: let through, as is said");
                continue;
            }
            let uid = scene.deny(target, |own| {
                assert_ne!(own & bit(verb), 0, "{pair} is among the entry's verbs");
                bit(verb)
            });
            assert_eq!(scene.act(hook, false), refused(hook, verb, level), "{pair}");
            if hook.name != "ingress" {
                assert_eq!(scene.act(hook, true), free, "{pair}, a bystander");
            }
            scene.lift(&uid);
            assert_eq!(scene.act(hook, false), free, "{pair}, afterwards");
            println!("{pair}: {level:?}");
        }
    }
}

#[test]
fn a_hook_that_this_kernel_lacks_is_named_with_the_reason() {
    let mut bench = Bench::new("missing");
    let hooks = bench.get().hooks();
    let mut named: HashSet<_> = hooks.loaded().iter().map(|hook| hook.hook).collect();
    for missing in hooks.missing() {
        assert!(!missing.why.is_empty() && named.insert(missing.hook), "{missing:?}");
        println!("{}: {}", missing.hook, missing.why);
    }
    assert_eq!(named.len(), HOOKS.len());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    // The table is of amd64's.
    let is_it =
        |kernel: &&&str| cfg!(target_arch = "x86_64") && release.starts_with(&format!("{kernel}."));
    let Some(kernel) = KERNELS.iter().find(is_it) else { return };
    for hook in HOOKS {
        let loaded = hooks.loaded().iter().any(|other| other.name == hook.name);
        match hook.there(kernel) {
            There::Yes => assert!(loaded, "{} loads on {kernel}", hook.hook),
            There::No => assert!(!loaded, "{} is not on {kernel}", hook.hook),
            There::IfAllowed => {}
        }
    }
}

/// What another version had attached is none of this one's hooks, and goes.
#[test]
fn a_hook_that_the_table_does_not_have_is_detached_at_the_next_start() {
    let mut bench = Bench::new("stale");
    let links = bench.options.directory.join("links");
    let names = || {
        let entries = std::fs::read_dir(&links).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<HashSet<_>>()
    };
    let own = names();
    std::fs::hard_link(links.join("bind4"), links.join("retired")).unwrap();
    assert_ne!(names(), own);
    bench.responder = None;
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert_eq!(names(), own);
    let loaded: HashSet<_> =
        bench.get().hooks().loaded().iter().map(|hook| hook.name.to_owned()).collect();
    assert_eq!(own, loaded);
}

/// What `hedgerow doctor` tells is what a responder finds.
#[test]
fn a_survey_attaches_nothing_and_finds_what_a_responder_finds() {
    let mut bench = Bench::idle("survey");
    let survey = hedgerow_responder::survey().unwrap();
    assert!(!bench.options.directory.exists());
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert_eq!(survey.missing(), bench.get().hooks().missing());
}
