//! An ONNX file of any bytes: an error or a forest that can be exported, never a panic.
#![no_main]

use hedgerow_model::onnx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(forest) = onnx::import(data) {
        let _ = onnx::export(&forest);
    }
});
