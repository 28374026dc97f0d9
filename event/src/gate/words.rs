//! A line's words, with quotes kept together.

/// A word and the white space before it.
#[derive(Debug, PartialEq, Eq)]
pub struct Word<'a> {
    pub space: &'a str,
    pub text: &'a str,
}

/// Splits a line at white space outside of quotes. A quote opens where a word begins, behind `=` or
/// `:`, and in an option; one that is never closed is an apostrophe.
pub fn words(line: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let start = rest.find(|letter: char| !letter.is_whitespace()).unwrap_or(rest.len());
        let (space, from) = rest.split_at(start);
        let end = end_of_word(from);
        let (text, after) = from.split_at(end);
        found.push(Word { space, text });
        rest = after;
    }
    found
}

fn end_of_word(text: &str) -> usize {
    let option = text.starts_with('-');
    let mut before = None;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        if letter.is_whitespace() {
            return at;
        }
        let opens = matches!(letter, '"' | '\'')
            && (option
                || before.is_none_or(|before| matches!(before, '=' | ':' | '{' | ',' | '[')));
        at += letter.len_utf8();
        before = Some(letter);
        if opens && let Some(length) = quoted(&text[at..], letter) {
            at += length;
        }
    }
    text.len()
}

/// Bytes up to and with the closing quote; a backslash in double quotes hides it.
pub fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            letter if letter == quote => return Some(at + letter.len_utf8()),
            _ => {}
        }
    }
    None
}

/// A word without the quotes around it.
pub fn bare(word: &str) -> &str {
    let inside = |quote| word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(word)
}
