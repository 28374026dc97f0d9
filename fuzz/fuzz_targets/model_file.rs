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
    let budget = container::Section {
        name: "budget".into(),
        version: 1,
        required: false,
        payload: Vec::new(),
    };
    let at = which as usize % (sections.len() + 1);
    if at == sections.len() {
        sections.push(budget);
    }
    sections[at].payload = payload.to_vec();
    let bytes = container::encode(&sections).expect("names are our own");
    let Ok(mut model) = ModelFile::from_bytes(&bytes) else { return };
    if let Some(budget) = &mut model.budget {
        for time_s in [0, 1_000_000, u64::MAX] {
            budget.observe(time_s, 1, 1e9, false);
        }
        budget.report();
    }
    for calibration in model.calibrations.values_mut() {
        calibration.join(Some("a"), 0.5);
        calibration.judge(Some("a"), 0.7, 0.01);
    }
    model.to_bytes().expect("what was read can be written");
});
