//! What could not be read, and what is known of its loss.

use hedgerow_event::Epoch;
use hedgerow_sink::parquet::Damaged;
use serde_json::{Value, json};

/// A run, and epochs (after, before) between which nothing is there.
pub type Gap = (String, Epoch, Epoch);

/// For people, a line each.
pub fn lines(damaged: &[Damaged], gaps: &[Gap]) -> Vec<String> {
    let damaged = damaged.iter().map(|file| {
        let lost = match file.rows_lost {
            Some(rows) => format!("{rows} of its rows are lost"),
            None => {
                format!("its {} bytes are lost, and how many rows they were is unknown", file.bytes)
            }
        };
        format!("{}: {}; {lost}", file.path.display(), file.reason)
    });
    let gaps = gaps.iter().map(|(run, after, before)| {
        format!(
            "{run}: nothing is there of {} epochs of 5 s, after {after} and before {before}",
            before.0 - after.0 - 1
        )
    });
    damaged.chain(gaps).collect()
}

/// For machines.
pub fn json(damaged: &[Damaged], gaps: &[Gap]) -> Value {
    let damaged = damaged.iter().map(|file| {
        json!({ "path": file.path, "reason": file.reason, "bytes": file.bytes,
            "rows_lost": file.rows_lost })
    });
    let gaps = gaps
        .iter()
        .map(|(run, after, before)| json!({ "run": run, "after": after, "before": before }));
    json!({ "damaged": damaged.collect::<Vec<_>>(), "gaps": gaps.collect::<Vec<_>>() })
}
