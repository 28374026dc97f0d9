//! Files that wait for a privileged reader, live: root, own mount namespaces, FUSE.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hedgerow_hostfile::{Reader, Refused};
use hedgerow_lab::{Bait, Trap};

const BYTES_MAX: u64 = 1 << 16;
/// Far more than the reader's patience, far less than for ever.
const LIMIT: Duration = Duration::from_secs(60);

fn read(reader: &mut Reader, trap: &Trap) -> Result<Vec<u8>, Refused> {
    let start = Instant::now();
    let found = reader.read(trap.id(), "/etc/resolv.conf", BYTES_MAX);
    assert!(start.elapsed() < LIMIT, "it blocked");
    found
}

#[test]
fn no_bait_blocks_or_exhausts() {
    let mut reader = Reader::new("test");
    let honest = Trap::set(Bait::Text("nameserver 192.0.2.1")).unwrap();
    assert_eq!(read(&mut reader, &honest).unwrap(), b"nameserver 192.0.2.1");
    let fifo = Trap::set(Bait::Fifo).unwrap();
    assert!(matches!(read(&mut reader, &fifo), Err(Refused::NotRegular)));
    let zero = Trap::set(Bait::Zero).unwrap();
    assert!(matches!(read(&mut reader, &zero), Err(Refused::NotRegular)), "its own device");
    let sparse = Trap::set(Bait::Sparse).unwrap();
    assert!(matches!(read(&mut reader, &sparse), Err(Refused::TooLarge(BYTES_MAX))));
    assert_eq!(reader.refusals().hung(), 0);
}

#[test]
fn a_file_system_that_never_answers_is_left_behind_and_refused() {
    let mut reader = Reader::new("test");
    let refusals = reader.refusals();
    let silent = Trap::set(Bait::Silent).unwrap();
    assert!(matches!(read(&mut reader, &silent), Err(Refused::Hung)));
    assert!(matches!(read(&mut reader, &silent), Err(Refused::Owner(_))), "at once");
    assert_eq!(refusals.hung(), 1);
    assert!(refusals.refused()[0].contains("mount namespace"), "{:?}", refusals.refused());
    let honest = Trap::set(Bait::Text("x")).unwrap();
    assert_eq!(read(&mut reader, &honest).unwrap(), b"x", "others are read");
    // Its server is gone: what waits is let go.
    drop(silent);
    let deadline = Instant::now() + LIMIT;
    while refusals.hung() > 0 {
        assert!(Instant::now() < deadline, "it never came back");
        std::thread::sleep(Duration::from_millis(5));
    }
}
