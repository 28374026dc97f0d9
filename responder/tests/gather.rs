//! What other processes put where addresses are read, live: root, own namespaces, FUSE.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hedgerow_lab::{Bait, Trap};
use hedgerow_responder::protected::gather::{Gatherer, namespaces_of};

/// Far more than a reading takes with every trap in it.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn traps_hold_up_no_reading_and_addresses_stay_in_their_namespaces() {
    let baits = [Bait::Fifo, Bait::Zero, Bait::Sparse, Bait::Silent];
    let traps: Vec<Trap> = baits.into_iter().map(|bait| Trap::set(bait).unwrap()).collect();
    let honest = Trap::set_with(
        Bait::Text("nameserver 203.0.113.7"),
        "ip link set lo up; ip address add 203.0.113.8/32 dev lo",
    )
    .unwrap();
    let rich = Trap::set_with(
        Bait::Text("nameserver 203.0.113.9"),
        "ip link set lo up; for net in 198.51.100 203.0.113; do for one in $(seq 130); do \
         ip address add $net.$one/32 dev lo; done; done",
    )
    .unwrap();
    let gatherer = Gatherer::start(Vec::new()).unwrap();
    let start = Instant::now();
    let found = gatherer.wait(LIMIT).expect("a reading although files hang");
    println!("read within {:?}", start.elapsed());
    for address in ["203.0.113.7", "203.0.113.8"] {
        let is_it = |named: &&(std::net::IpAddr, u8, &str)| named.0.to_string() == address;
        assert!(found.host.iter().find(is_it).is_none(), "{address} is not the host's");
        let own = namespaces_of(honest.id());
        assert!(
            own.iter()
                .filter_map(|namespace| found.namespaces.get(namespace))
                .flatten()
                .any(|named| is_it(&named)),
            "{address} of {own:?} in {found:?}"
        );
    }
    let sizes: Vec<usize> = namespaces_of(rich.id())
        .iter()
        .filter_map(|namespace| Some(found.namespaces.get(namespace)?.len()))
        .collect();
    assert_eq!(sizes.iter().max(), Some(&256), "who makes many has the first of them protected");
    // The one that hung is told, as any other on this host, and the next reading leaves it alone.
    let [host, others] = gatherer.refusals();
    assert!(others.hung() >= 1, "{:?}", others.refused());
    assert_eq!(others.take_untold().len(), others.refused().len());
    assert_eq!((host.hung(), found.unread), (0, None));
    drop(traps);
}
