//! Ways out of a denial that attackers know. Live: root, own cgroups and namespaces, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{Bench, EPERM, Puppet, Sink, eventually, operator};
use hedgerow_event::Target;
use hedgerow_responder::Refusal;

#[test]
fn puppet() {
    common::play();
}

fn tree(bench: &mut Bench, puppet: &Puppet) -> Target {
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    Target::TaskTree { tgid: puppet.pid(), start_boot_ns }
}

/// Where an orphan says what its connect came to; it ends once the file is gone.
struct Orphan(PathBuf);

impl Orphan {
    fn of(puppet: &mut Puppet, generations: u32, bench: &Bench, sink: &Sink) -> Self {
        let file = bench.directory.path().join(format!("orphan-{generations}"));
        fs::write(&file, "").unwrap();
        let orphan = Self(file);
        let command = format!("orphan {generations} {} {}", sink.address, orphan.0.display());
        puppet.tell(&command).unwrap();
        orphan.eventually_says(0);
        orphan
    }
    fn eventually_says(&self, errno: i32) {
        eventually(&format!("errno {errno}"), || {
            fs::read_to_string(&self.0).unwrap() == format!("{errno:03}")
        });
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[test]
fn who_left_the_tree_by_forking_twice_is_inside_all_the_same() {
    let mut bench = Bench::new("orphan");
    let sink = Sink::tcp("127.71.1.1");
    let (mut puppet, mut bystander) = (Puppet::new(), Puppet::new());
    let spared = Orphan::of(&mut bystander, 3, &bench, &sink);
    // More generations than ancestors are remembered of any process.
    let orphans = [2, 40].map(|generations| Orphan::of(&mut puppet, generations, &bench, &sink));
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    for orphan in &orphans {
        orphan.eventually_says(EPERM);
    }
    spared.eventually_says(0);
}

#[test]
fn a_process_that_has_exited_is_denied_in_what_it_forked_and_refused_without() {
    let mut bench = Bench::new("exited");
    let sink = Sink::tcp("127.71.2.1");
    let (mut puppet, childless) = (Puppet::new(), Puppet::new());
    let orphan = Orphan::of(&mut puppet, 2, &bench, &sink);
    let (target, nobody) = (tree(&mut bench, &puppet), tree(&mut bench, &childless));
    drop(puppet);
    drop(childless);
    bench.deny(target, 60);
    orphan.eventually_says(EPERM);
    let refused = bench.get().deny(operator(nobody, 60));
    assert!(matches!(refused, Err(Refusal::Gone { .. })), "{refused:?}");
    assert_eq!(bench.get().entries().len(), 1);
}
