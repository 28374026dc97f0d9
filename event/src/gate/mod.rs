//! The gate that what strangers wrote passes: arguments before they are kept, sent or told
//! ([`command`], [`text`]), and any text before it reaches a terminal ([`shown`]). Pure.
//!
//! Names (programs, workloads, paths) decide what is learned and denied, so they are kept as they
//! are, and only shown escaped. Arguments, operators' words and errors of libraries lose their
//! secrets where they come in, after names were derived from them: nothing behind that point has
//! the secret to lose.

#[cfg(test)]
mod corpus;
mod keys;
mod redact;
mod shown;
#[cfg(test)]
mod tests;
mod words;

pub use redact::{command, text};
pub use shown::{json, json_bytes, shown};

/// What stands for a secret.
pub const HIDDEN: &str = "***";

/// Longest command line that is kept, in bytes; the rest is cut off before anybody reads it.
pub const COMMAND_BYTES_MAX: usize = 4096;

/// At most `bytes_max` bytes of a text, with a mark where it was cut.
pub fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
