//! Any bytes are a record or an error.
#![no_main]

use hedgerow_probe::wire_event::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes);
    // With a header that fits, so that the bodies are reached.
    if let Some((&kind, body)) = bytes.split_first() {
        let mut record = vec![kind % 12, 0];
        record.extend(u16::try_from(body.len() + 4).unwrap_or(u16::MAX).to_le_bytes());
        record.extend(body);
        let _ = decode(&record);
    }
});
