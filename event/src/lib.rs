//! Hedgerow's shared nouns: events, subjects, windows, findings and verdicts
