//! Any datagram from port 53 is an answer that is plain and bounded, or none.
#![no_main]

use hedgerow_probe::answers::{Names, answer, record};
use libfuzzer_sys::fuzz_target;

/// What an answer may hold at most: bytes of its name, and addresses.
const NAME_MAX: usize = 253;
const ADDRESSES_MAX: usize = 32;

fn read(payload: &[u8]) {
    let Some(told) = answer(payload) else { return };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    assert!(told.name.bytes().all(is_plain), "{told:?}");
    assert!((1..=NAME_MAX).contains(&told.name.len()), "{told:?}");
    assert!((1..=ADDRESSES_MAX).contains(&told.addresses.len()), "{told:?}");
    let mut names = Names::default();
    names.learn(1, told.clone(), 0);
    for (address, _) in told.addresses {
        assert_eq!(names.of(1, address, 0).as_deref(), Some(&*told.name));
        assert_eq!(names.of(2, address, 0), None);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((_, _, payload)) = record(bytes) {
        read(payload);
    }
    read(bytes);
    // Behind the header of an answer to one question, so that names and records are reached.
    if let Some((&records, body)) = bytes.split_first() {
        let mut payload = vec![0, 7, 0x81, 0x80, 0, 1, 0, records % 64, 0, 0, 0, 0];
        payload.extend(body);
        read(&payload);
    }
});
