//! Fits the measure as it is shipped (forest and neighbours) on the rows of a table, and measures
//! others: what `make eval` calls.
//!
//! ```sh
//! measure LEARN JUDGE COLUMNS SEED OUT
//! ```
//!
//! LEARN and JUDGE are rows of COLUMNS float32, OUT gets two float64 for each row of JUDGE: the
//! forest's score and the measure. All are little-endian, without a header.

use std::{
    env, fs,
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use hedgerow_detect::Detector;
use hedgerow_offline::{Error, Result};
use ndarray::{Array2, Axis};

const USAGE: &str = "usage: measure LEARN JUDGE COLUMNS SEED OUT";
/// Rows that are measured at a time.
const BLOCK: usize = 65_536;

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("measure: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [learn, judge, columns, seed, out] = arguments else {
        return Err(Error::Usage(USAGE.to_owned()));
    };
    let number = |text: &String| {
        text.parse::<u64>()
            .map_err(|_| Error::Usage(format!("{text}: a number is wanted\n{USAGE}")))
    };
    let columns = usize::try_from(number(columns)?).unwrap_or(usize::MAX);
    let detector = Detector::fit(&table(Path::new(learn), columns)?, number(seed)?)?;
    let rows = table(Path::new(judge), columns)?;
    let written = |why: std::io::Error| Error::File(format!("{out}: {why}"));
    let mut file = BufWriter::new(fs::File::create(out).map_err(written)?);
    for block in rows.axis_chunks_iter(Axis(0), BLOCK) {
        for (forest, measure) in detector.measures(&block.to_owned()) {
            file.write_all(&forest.to_le_bytes()).map_err(written)?;
            file.write_all(&measure.to_le_bytes()).map_err(written)?;
        }
    }
    file.flush().map_err(written)
}

fn table(path: &Path, columns: usize) -> Result<Array2<f32>> {
    let wrong = |why: String| Error::File(format!("{}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|why| wrong(why.to_string()))?;
    let values: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    if columns == 0 || values.is_empty() || values.len() * 4 != bytes.len() {
        return Err(wrong(format!("{} bytes are no rows of {columns} float32", bytes.len())));
    }
    let rows = values.len() / columns;
    Array2::from_shape_vec((rows, columns), values).map_err(|why| wrong(why.to_string()))
}
