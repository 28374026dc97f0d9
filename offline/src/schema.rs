//! What is written for others to read, as text: findings and scores here, windows and records where
//! their columns are defined.

use std::fmt::Write;

use hedgerow_event::CATALOGUE;

use crate::scores;

/// A field of a finding: its path (`[]` is each of a list), its JSON type, and what it means.
pub type Field = (&'static str, &'static str, &'static str);

/// Every field of a finding in JSON.
pub const FINDING: &[Field] = &[
    ("uid", "string", "names the episode; the same over create, update and close"),
    ("activity", "string", "`create`, `update` or `close`"),
    (
        "sequence",
        "number",
        "counts the reports of this uid from 0; uid, activity and sequence name one",
    ),
    (
        "first_alert",
        "boolean",
        "the first report of this uid that alerts; absent in what was written before it was told",
    ),
    ("host_id", "string", "the host's id"),
    ("boot_id", "string", "of which boot"),
    ("subject.workload", "string", "unit, container, pod, `login:UID` or `host`"),
    ("subject.program.path", "string", "path in the process's own mount namespace"),
    ("subject.program.script", "string", "script of an interpreter; absent where there is none"),
    ("scale", "string", "length of the window"),
    ("early", "boolean", "judged before its window closed"),
    ("window_start_ns", "number", "wall time, Unix nanoseconds"),
    ("window_end_ns", "number", "wall time, Unix nanoseconds"),
    ("time_ns", "number", "wall time of the report, Unix nanoseconds"),
    ("state", "string", "how sure the learning is: `learning`, `provisional` or `mature`"),
    ("severity", "string", "OCSF's: `informational`, `low`, `medium`, `high` or `critical`"),
    ("disposition", "string", "`alert`, `alert_over_budget` or `suppressed` (kept, not alerted)"),
    ("score", "number", "the isolation forest's score of the window, in (0, 1] (Liu 2008)"),
    ("class", "string", "what notified: `intrinsic`, `novelty` or `measure`"),
    ("surprise", "number", "nats: -ln of the probability of such within an hour"),
    ("floor", "number", "nats: the surprise from which its class notifies"),
    ("p_value", "number or null", "exp(-surprise)"),
    ("families[]", "string", "families of features that it rests on"),
    (
        "objects[].kind",
        "string",
        "`new_program`, `new_child`, `new_peer`, `privilege`, `exec_memory`, \
      `exec_writable`, `count`, `replaced`, `did` or `tampered`; its other fields name whom and what",
    ),
    ("attribution[].feature", "string", "a column of windows"),
    ("attribution[].value", "number", "its value"),
    ("attribution[].usual_low", "number or null", "1 % quantile of what was learned"),
    ("attribution[].usual_high", "number or null", "99 % quantile of what was learned"),
    ("attribution[].direction", "string", "`above`, `below` or `within`"),
    ("attribution[].share", "number", "its part of the whole, 0 to 1"),
    ("attribution[].of", "string", "what the shares divide"),
    ("process.pid", "number", "of the process that stands for it; `process` is null without one"),
    ("process.start_boot_ns", "number", "since boot: with the pid it names one process of a boot"),
    ("process.path", "string", "`.../` instead of its head where it is longer than 255 bytes"),
    ("process.command_line", "string", "secrets redacted"),
    ("process.user_id", "number", ""),
    ("process.user", "string or null", ""),
    ("process.login_user_id", "number or null", "who logged in"),
    ("process.login_user", "string", "its name; absent where the host has none for it"),
    ("process.ancestors[]", "string", "the parent first, up to init; paths as above"),
    ("process.container", "string or null", ""),
    ("process.pod", "string", "its pod's name, as the container runtime says; absent without one"),
    ("loss.lost", "number", "records that found a full ring or could not be decoded"),
    ("loss.late", "number", "records of an earlier window"),
    ("loss.limited", "number", "records that a token bucket held back"),
    ("model_id", "string", "names the model that it was judged by, however it goes on learning"),
    (
        "model_digest",
        "string",
        "SHA-256 of that model as it was last saved or loaded, the same wherever its file is; absent \
         before, and in what was written before it was told",
    ),
    (
        "model_seed",
        "string",
        "the seed of its forest, in hexadecimal; absent in findings of before, and of Hedgerow's own watch",
    ),
    ("reason", "string", "one sentence for a person"),
    (
        "claimed_names[].address",
        "string",
        "of a new peer; `claimed_names` is absent where no name was seen",
    ),
    (
        "claimed_names[].name",
        "string",
        "by which it was asked for, as an answer said that came from port 53 into the namespace of the call; claimed",
    ),
    (
        "vulnerabilities[].id",
        "string",
        "known of a package that a program of it uses, as `hedgerow exposure --remember` found it; at most \
         eight, the gravest first; `vulnerabilities` is absent where none is known; claimed",
    ),
    (
        "vulnerabilities[].severity",
        "string",
        "low, medium, high or critical, as the report said; absent where it said none",
    ),
    ("vulnerabilities[].package", "string", "its name"),
    ("vulnerabilities[].installed", "string", "its version"),
    ("vulnerabilities[].fixed", "string", "versions that have the fix; absent where none is known"),
    ("vulnerabilities[].as_of_ns", "number", "when that was asked"),
    (
        "pod.namespace",
        "string",
        "of its pod, as the Kubernetes API says; `pod` is absent where that is not asked or knows none; \
         nothing is decided by it",
    ),
    ("pod.name", "string", "absent where several pods of one owner may be meant"),
    (
        "pod.owner.kind",
        "string",
        "what the pod belongs to in the end: `Deployment`, `CronJob`, `StatefulSet`, ...; absent where \
         it has no owner",
    ),
    ("pod.owner.name", "string", ""),
    (
        "pod.labels.*",
        "string",
        "sixteen at most; where several pods may be meant, those that all of them have",
    ),
    ("pod.labels_more", "boolean", "it has more; absent where it has not"),
    ("pod.as_of_ns", "number", "when the API was last heard of before that was told"),
    (
        "peer_pods[].address",
        "string",
        "of a peer that is a pod, as the API says; `peer_pods` is absent where it knows none",
    ),
    ("peer_pods[].namespace", "string", "of that pod"),
    ("peer_pods[].name", "string", ""),
    ("peer_pods[].owner.kind", "string", "as of `pod`"),
    ("peer_pods[].owner.name", "string", ""),
    ("peer_pods[].as_of_ns", "number", "when the API was asked"),
];

/// Markdown of everything that is written for others to read.
pub fn markdown() -> String {
    let mut text = "# What is written, column by column\n\n\
         Generated from the code and checked by `cargo test -p hedgerow-offline --test verbs`; \
         `HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-offline --test verbs` writes it. Times are \
         UTC, numbers SI, an empty cell is *unavailable*.\n\n\
         | what | where | columns |\n|---|---|---|\n\
         | records | `CAPTURE/records/` (Parquet) | [records.md](records.md) |\n\
         | windows | `CAPTURE/windows/`, `CAPTURE/early/`, `--windows` (Parquet) | \
         [columns.md](columns.md) |\n\
         | scores | `score --out` (Parquet) | below |\n\
         | findings | `score --out`, `findings show --json` (JSON) | below |\n\n\
         Versions: a reader refuses what it doesn't know by name; readers of others should ask for \
         columns by name, since new ones are added behind.\n\n\
         ## Scores\n\nOne row for each judged window and early row. The last columns are what the forest read: \
         for each family of features how far the window lies off, in units of its usual deviation; 0 \
         where that is unavailable.\n\n\
         | column | type | meaning |\n|---|---|---|\n"
        .to_owned();
    for (name, data_type, doc) in scores::docs() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "| `{name}` | {data_type} | {doc} |");
    }
    text += "\n## Findings\n\nOne JSON object a line, one line a report.\n\n\
             | field | type | meaning |\n|---|---|---|\n";
    for (path, kind, meaning) in FINDING {
        let _ = writeln!(text, "| `{path}` | {kind} | {meaning} |");
    }
    text += "\nDeeds, as `objects[].deed` of kind `did` and rates have them:\n\n\
             | deed | class | words |\n|---|---|---|\n";
    for row in CATALOGUE {
        let class = format!("{:?}", row.class).to_lowercase();
        let _ = writeln!(text, "| `{}` | {class} | {} |", row.name, row.words);
    }
    text
}
