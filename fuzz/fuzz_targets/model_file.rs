//! A model file of any bytes: an error or a model that works, never a panic.
#![no_main]

use hedgerow_detect::file::{ModelFile, container};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = ModelFile::from_bytes(data);
    // Behind right checksums: the first byte chooses the section that the rest is put into.
    let Some((&which, payload)) = data.split_first() else { return };
    let whole = ModelFile::default().to_bytes().expect("an empty model is small");
    let mut sections = container::decode(&whole).expect("our own bytes");
    let at = which as usize % sections.len();
    sections[at].payload = payload.to_vec();
    let bytes = container::encode(&sections).expect("names are our own");
    let Ok(model) = ModelFile::from_bytes(&bytes) else { return };
    model.to_bytes().expect("what was read can be written");
});
