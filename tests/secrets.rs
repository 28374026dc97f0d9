//! What a process was given as a secret reaches no file: on the running kernel, through the program
//! itself.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, util::display::array_value_to_string};
use hedgerow_sink::parquet::ParquetReader;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const SECRET: &str = "hunter2-S3CRET";
/// Capturing goes on until what is looked for has been done often; a loaded machine starts slowly.
const CAPTURE: &str = "12";
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the script with a secret among its arguments until the child has ended.
fn work_until_ended(child: &mut Child, script: &Path) -> String {
    let script = script.to_str().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the capture doesn't end");
        let url = format!("https://{SECRET}@h/?token={SECRET}");
        let words = ["--password", SECRET, &format!("PGPASSWORD={SECRET}"), &url];
        let done = Command::new("bash").arg(script).args(words).status().unwrap();
        assert!(done.success());
        std::thread::sleep(PAUSE);
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

/// Every value of a batch that can hold text, with its column's name.
fn values(batch: &RecordBatch) -> Vec<(String, String)> {
    let schema = batch.schema();
    let mut all = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_primitive() {
            continue;
        }
        let each = (0..batch.num_rows()).map(|row| array_value_to_string(column, row).unwrap());
        all.extend(each.map(|value| (field.name().clone(), value)));
    }
    all
}

#[test]
fn a_capture_holds_the_program_of_a_process_and_none_of_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("job.sh");
    fs::write(&script, "read line </etc/hostname\n").unwrap();
    let capture = directory.path().join("capture");
    let mut child = Command::new(PROGRAM)
        .args(["capture", capture.to_str().unwrap(), "--seconds", CAPTURE])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = work_until_ended(&mut child, &script);
    assert!(child.wait().unwrap().success(), "{said}");
    let mut told = Vec::new();
    for stream in ["records", "windows"] {
        for batch in ParquetReader::open(&capture.join(stream), None).unwrap() {
            let batch = batch.unwrap();
            for (name, value) in values(&batch) {
                assert!(!value.contains("S3CRET"), "{stream}.{name}: {value}");
                if name == "exec_arguments" && value.contains("job.sh") {
                    told.push(value);
                }
            }
        }
    }
    assert!(!told.is_empty(), "no exec of the script was captured: {said}");
    for line in &told {
        let script = script.to_str().unwrap();
        let hidden = "--password *** PGPASSWORD=*** https://***@h/?token=***";
        assert_eq!(line, &format!("bash {script} {hidden}"));
    }
    // The program is named by its script, as it was before its arguments were hidden.
    let mut named = 0;
    for batch in ParquetReader::open(&capture.join("records"), None).unwrap() {
        let all: Vec<String> =
            values(&batch.unwrap()).into_iter().map(|(_, value)| value).collect();
        named += all.iter().filter(|value| value.as_str() == script.to_str().unwrap()).count();
    }
    assert!(named > 0, "no subject has the script");
}
