//! What was an attack, when and where: labels for an evaluation.

use std::path::Path;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit},
};
use glob::Pattern;
use hedgerow_event::{Finding, Subject};
use hedgerow_sink::parquet::ParquetReader;

use crate::{Error, Result, time::parse_zoned};

/// The class of what is neither an attack nor benign.
pub const IGNORE: &str = "ignore";
/// The class of a label that names none.
const CLASS: &str = "attack";
const NEEDED: [&str; 3] = ["start", "end", "host"];
const MORE: [&str; 4] = ["workload", "program", "tree", "class"];
/// Labels of one file.
const LABELS_MAX: usize = 100_000;

/// Something that happened between two times; what is outside of all labels is benign.
#[derive(Debug, Clone)]
pub struct Label {
    pub start_ns: i64,
    pub end_ns: i64,
    pub host: String,
    pub workload: Option<Pattern>,
    pub program: Option<Pattern>,
    /// Process id of the offender: he and his descendants are meant, and no others of the same program.
    pub tree: Option<u32>,
    pub class: String,
}

impl Label {
    pub fn is_ignored(&self) -> bool {
        self.class == IGNORE
    }

    /// Whether it is of this subject at this time.
    pub fn covers(&self, host: &str, subject: &Subject, start_ns: i64, end_ns: i64) -> bool {
        let fits = |pattern: &Option<Pattern>, name: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
        };
        self.host == host
            && start_ns < self.end_ns
            && end_ns > self.start_ns
            && fits(&self.workload, subject.workload.as_str())
            && fits(&self.program, &subject.program.path)
    }

    /// Whether a process is meant that is, or descends from, these ones.
    pub(crate) fn means(&self, around: &[u32]) -> bool {
        self.tree.is_none_or(|tree| around.contains(&tree))
    }

    /// Whether a finding is of it: by its own subject, or by one that it names. `around` is the process
    /// that it is about, with those above it, as far as labels name them.
    pub(crate) fn explains(&self, finding: &Finding, around: &[u32]) -> bool {
        let of = |subject: &Subject| {
            self.covers(&finding.host_id, subject, finding.window_start_ns, finding.window_end_ns)
        };
        self.means(around)
            && (of(&finding.subject) || finding.objects.iter().any(|object| of(object.subject())))
    }
}

/// Reads labels: CSV with a header, or Parquet, with the columns `start`, `end` and `host`, and as
/// wanted `workload`, `program` (both may be patterns), `tree` (a process id) and `class`. Times are
/// RFC 3339 with their zone; in Parquet also timestamps with one.
///
/// # Errors
/// Names the file, the line and the column.
pub fn read(path: &Path) -> Result<Vec<Label>> {
    let labels = if path.extension().is_some_and(|ending| ending == "parquet") {
        from_parquet(path)?
    } else {
        from_csv(path)?
    };
    if labels.is_empty() {
        return Err(Error::at(path, "no label; what is outside of all labels is benign"));
    }
    Ok(labels)
}

/// A row by column, with the line it is told by.
fn label(path: &Path, line: usize, of: &dyn Fn(&str) -> Option<String>) -> Result<Label> {
    let wrong = |column: &str, why: String| {
        Error::at(path, format!("line {line}, column `{column}`: {why}"))
    };
    let text =
        |column: &str| of(column).map(|text| text.trim().to_owned()).filter(|t| !t.is_empty());
    let needed = |column: &str| text(column).ok_or_else(|| wrong(column, "is empty".into()));
    let time = |column: &str| parse_zoned(&needed(column)?).map_err(|why| wrong(column, why));
    let pattern = |column: &str| {
        let pattern = text(column).map(|text| Pattern::new(&text));
        pattern.transpose().map_err(|why| wrong(column, why.to_string()))
    };
    let tree = text("tree").map(|text| text.parse::<u32>());
    let label = Label {
        start_ns: time("start")?,
        end_ns: time("end")?,
        host: needed("host")?,
        workload: pattern("workload")?,
        program: pattern("program")?,
        tree: tree.transpose().map_err(|_| wrong("tree", "is no process id".into()))?,
        class: text("class").unwrap_or_else(|| CLASS.to_owned()),
    };
    if label.end_ns <= label.start_ns {
        return Err(wrong("end", "is not after `start`".into()));
    }
    Ok(label)
}

fn check_columns<'a>(path: &Path, columns: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    for needed in NEEDED {
        if !columns.clone().any(|column| column == needed) {
            return Err(Error::at(path, format!("column `{needed}` is missing")));
        }
    }
    let known = |column: &str| NEEDED.contains(&column) || MORE.contains(&column);
    match columns.clone().find(|column| !known(column)) {
        Some(column) => {
            let all = [&NEEDED[..], &MORE[..]].concat().join(", ");
            Err(Error::at(path, format!("column `{column}` is unknown; there are {all}")))
        }
        None => Ok(()),
    }
}

/// What is left out would be benign.
fn fits(path: &Path, labels: usize) -> Result<()> {
    match labels < LABELS_MAX {
        true => Ok(()),
        false => Err(Error::at(path, format!("more than {LABELS_MAX} labels"))),
    }
}

fn from_csv(path: &Path) -> Result<Vec<Label>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|why| Error::at(path, why))?;
    let columns = reader.headers().map_err(|why| Error::at(path, why))?.clone();
    check_columns(path, columns.iter())?;
    let mut labels = Vec::new();
    for (at, row) in reader.records().enumerate() {
        fits(path, at)?;
        let row = row.map_err(|why| Error::at(path, why))?;
        let of = |name: &str| {
            let column = columns.iter().position(|column| column == name)?;
            row.get(column).map(str::to_owned)
        };
        labels.push(label(path, at + 2, &of)?);
    }
    Ok(labels)
}

fn from_parquet(path: &Path) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    for batch in ParquetReader::open(path, None).map_err(Error::file)? {
        let batch = batch.map_err(Error::file)?;
        let schema = batch.schema();
        check_columns(path, schema.fields().iter().map(|field| field.name().as_str()))?;
        let columns = texts(path, &batch)?;
        for row in 0..batch.num_rows() {
            fits(path, labels.len())?;
            let of = |name: &str| {
                let (_, column) = columns.iter().find(|(column, _)| column == name)?;
                let column = column.as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_owned())
            };
            labels.push(label(path, labels.len() + 1, &of)?);
        }
    }
    Ok(labels)
}

/// The columns of a batch as text; a timestamp must have a zone.
fn texts(path: &Path, batch: &RecordBatch) -> Result<Vec<(String, arrow::array::ArrayRef)>> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns
        .map(|(field, column)| {
            let name = field.name().clone();
            let text = match field.data_type() {
                DataType::Timestamp(_, Some(_)) => {
                    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
                    let times = cast(&cast(column, &utc)?, &DataType::Int64)?;
                    let shown = times.as_primitive::<Int64Type>().iter().map(|time| {
                        time.map(|time| chrono::DateTime::from_timestamp_nanos(time).to_rfc3339())
                    });
                    std::sync::Arc::new(shown.collect::<arrow::array::StringArray>()) as _
                }
                DataType::Timestamp(_, None) => {
                    let why = format!("column `{name}`: its times have no zone");
                    return Err(Error::at(path, why));
                }
                _ => cast(column, &DataType::Utf8)?,
            };
            Ok((name, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Program, Workload};

    use super::*;

    fn of(text: &str) -> Result<Vec<Label>> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("labels.csv");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn labels_cover_a_host_a_time_and_what_they_name() {
        let labels = of("start,end,host,program,class\n\
             2026-11-26T17:00:00Z,2026-11-26T18:01:00+01:00,a,/usr/bin/*,shell\n\
             2026-11-26T17:00:00Z,2026-11-26T17:01:00Z,a,,ignore\n")
        .unwrap();
        let start = parse_zoned("2026-11-26T17:00:00Z").unwrap();
        let subject = |path: &str| Subject::new(Workload::new("w"), Program::new(path));
        let second = 1_000_000_000;
        let covers = |host: &str, path: &str, from: i64, to: i64| {
            labels[0].covers(host, &subject(path), start + from * second, start + to * second)
        };
        assert_eq!((labels[0].class.as_str(), labels[0].end_ns), ("shell", start + 60 * second));
        assert!(covers("a", "/usr/bin/x", 0, 5) && covers("a", "/usr/bin/x", -5, 1));
        assert!(!covers("b", "/usr/bin/x", 0, 5) && !covers("a", "/bin/x", 0, 5));
        assert!(!covers("a", "/usr/bin/x", 60, 65) && !covers("a", "/usr/bin/x", -5, 0));
        assert!(labels[1].is_ignored() && labels[1].program.is_none());
    }

    #[test]
    fn labels_of_parquet_are_those_of_csv_and_their_times_have_a_zone() {
        use std::sync::Arc;

        use arrow::array::{ArrayRef, StringArray, TimestampMillisecondArray};

        let home = tempfile::tempdir().unwrap();
        let start = parse_zoned("2026-11-26T17:00:00Z").unwrap();
        let read_of = |zone: Option<&str>| {
            let times = |ms| {
                let times = TimestampMillisecondArray::from(vec![start / 1_000_000 + ms]);
                Arc::new(times.with_timezone_opt(zone)) as ArrayRef
            };
            let batch = RecordBatch::try_from_iter([
                ("start", times(0)),
                ("end", times(60_000)),
                ("host", Arc::new(StringArray::from(vec!["a"])) as ArrayRef),
                ("class", Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
            ])
            .unwrap();
            let path = home.path().join("labels.parquet");
            let file = std::fs::File::create(&path).unwrap();
            let mut writer =
                parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            read(&path)
        };
        let labels = read_of(Some("Europe/Berlin")).unwrap();
        let [label] = labels.as_slice() else { panic!("{labels:?}") };
        assert_eq!((label.start_ns, label.end_ns), (start, start + 60_000_000_000));
        assert_eq!((label.host.as_str(), label.class.as_str()), ("a", CLASS));
        let error = read_of(None).unwrap_err().to_string();
        assert!(error.contains("`start`") && error.contains("no zone"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_column() {
        let head = "start,end,host\n";
        let time = "2026-11-26T17:00:00Z";
        for (text, told) in [
            ("start,end\n".to_owned(), "column `host` is missing"),
            ("start,end,host,klass\n".to_owned(), "column `klass` is unknown"),
            (head.to_owned(), "no label"),
            (format!("{head}{time},2026-11-26T17:01:00,a\n"), "line 2, column `end`"),
            (format!("{head}{time},{time},a\n"), "`start`"),
            (format!("{head}{time},{time},\n"), "column `host`: is empty"),
            (format!("{head}{time},{time}\n"), "labels.csv"),
            (
                format!(
                    "{head}{}",
                    format!("{time},2026-11-26T17:01:00Z,a\n").repeat(LABELS_MAX + 1)
                ),
                "more than 100000 labels",
            ),
        ] {
            let error = of(&text).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("labels.csv"), "{error}");
        }
    }
}
