//! What a terminal shows: nothing that it would obey.

use std::{borrow::Cow, fmt::Write};

use serde::Serialize;

/// Whether a terminal obeys it, or it changes the order or the look of what stands around it.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A text on one line: control characters (ESC, newline, the C1 set), bidirectional overrides and
/// what has no width are told by their numbers, as `\x1b` or `\u{202e}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut told = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\n' => told.push_str("\\n"),
            '\r' => told.push_str("\\r"),
            '\t' => told.push_str("\\t"),
            letter if is_obeyed(letter) && letter.is_ascii() => {
                // Writing to a string can't fail.
                let _ = write!(told, "\\x{:02x}", u32::from(letter));
            }
            letter if is_obeyed(letter) => {
                let _ = write!(told, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => told.push(letter),
        }
    }
    Cow::Owned(told)
}

/// Bytes that a text takes in JSON, at most, without its quotes.
pub fn json_bytes(text: &str) -> usize {
    let of = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of).sum()
}

/// A value as one line of JSON in which no text is obeyed by a terminal: what JSON leaves as it is
/// (C1, bidirectional overrides) is escaped as JSON allows, so that it means the same to a reader.
///
/// # Errors
/// The value can't be written as JSON.
pub fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let plain = serde_json::to_string(value)?;
    if !plain.chars().any(is_obeyed) {
        return Ok(plain);
    }
    let mut told = String::with_capacity(plain.len() + 16);
    for letter in plain.chars() {
        if !is_obeyed(letter) {
            told.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(told, "\\u{unit:04x}");
        }
    }
    Ok(told)
}
