//! Secrets out of command lines and texts: by the option or name that they stand behind, by their
//! place in a URL, and by their looks.
//!
//! Where a rule can't tell, it hides: a word too many is a nuisance, a password too many is in
//! every backup of the log. `-p` means a password only with the tools that take one there, since
//! elsewhere it is a port, a process or a path.

use super::{
    COMMAND_BYTES_MAX, HIDDEN, cut,
    keys::{is_plain, is_shaped, is_tool, may_be_key, names_key, names_secret, takes_secret},
    words::{bare, quoted, words},
};

/// A command line without its secrets, from the words as the program got them: at most
/// [`COMMAND_BYTES_MAX`] bytes.
pub fn command(words: &[&str]) -> String {
    let mut line = Line::default();
    let mut told = String::new();
    for (at, word) in words.iter().enumerate() {
        if told.len() > COMMAND_BYTES_MAX {
            break;
        }
        if at > 0 {
            told.push(' ');
        }
        told.push_str(&line.argument(&cut(word, COMMAND_BYTES_MAX)));
    }
    cut(&told, COMMAND_BYTES_MAX)
}

/// A text that may hold command lines, URLs or bodies, without their secrets; white space stays.
/// At most [`COMMAND_BYTES_MAX`] bytes.
pub fn text(text: &str) -> String {
    cut(&Line::default().text(&cut(text, COMMAND_BYTES_MAX)), COMMAND_BYTES_MAX)
}

/// What the next word is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Anything,
    Secret,
    /// Perhaps `user:password`.
    Login,
    /// A key, unless it is a file or a number.
    Key,
    /// How to authorize (`Bearer`), or a secret at once.
    Scheme,
    /// Pairs, each but the last with `;` behind it.
    Cookie,
}

/// What was read of a line so far.
#[derive(Debug, Default)]
struct Line {
    next: Next,
    /// The tool whose options are read, by the rules that know some.
    program: String,
    login: bool,
    /// The word before names a secret, and a lone `:` or `=` may follow.
    named: bool,
    /// How many quotes it is in.
    depth: u8,
}

/// Quotes in quotes that are read as lines of their own: deeper ones are read as one word, so that
/// nobody chooses how deep the stack gets.
const DEPTH_MAX: u8 = 4;

impl Line {
    /// A line in quotes, or the text of a shell.
    fn inner(&self, text: &str) -> String {
        Self { depth: self.depth + 1, ..Self::default() }.text(text)
    }

    fn text(&mut self, text: &str) -> String {
        let mut told = String::with_capacity(text.len());
        for word in words(text) {
            told.push_str(word.space);
            told.push_str(&self.word(word.text));
        }
        told
    }

    /// One argument, white space included.
    fn argument(&mut self, word: &str) -> String {
        let assigned = || word.split_once('=').is_some_and(|(name, _)| !name.contains(' '));
        if self.next != Next::Anything || word.starts_with('-') || assigned() {
            return self.word(word);
        }
        match word.contains(char::is_whitespace) {
            true => self.inner(word),
            false => self.word(word),
        }
    }

    fn word(&mut self, word: &str) -> String {
        let next = std::mem::take(&mut self.next);
        let named = std::mem::take(&mut self.named);
        if word.is_empty() {
            return String::new();
        }
        if matches!(word, ":" | "=") {
            self.next = if named || next == Next::Secret { Next::Secret } else { next };
            return word.to_owned();
        }
        let parts = matches!(word, "|" | "||" | "&&" | ";" | "&" | ">" | ">>" | "<");
        if parts {
            *self = Self { depth: self.depth, ..Self::default() };
            return word.to_owned();
        }
        if !is_option(word)
            && let Some(told) = self.awaited(next, word)
        {
            return told;
        }
        if word.len() > 1
            && word.starts_with('-')
            && let Some(told) = self.option(word)
        {
            return told;
        }
        self.other(word)
    }

    /// A word that the one before announced.
    fn awaited(&mut self, next: Next, word: &str) -> Option<String> {
        match next {
            Next::Anything => None,
            Next::Secret if is_plain(word) => None,
            Next::Secret => Some(HIDDEN.to_owned()),
            Next::Login => Some(login(word)).filter(|told| told != word),
            Next::Key => may_be_key(word, 8).then(|| HIDDEN.to_owned()),
            Next::Scheme if is_scheme(word) => {
                self.next = Next::Secret;
                Some(word.to_owned())
            }
            Next::Scheme => Some(HIDDEN.to_owned()),
            Next::Cookie => {
                self.next = if word.ends_with(';') { Next::Cookie } else { Next::Anything };
                Some(HIDDEN.to_owned())
            }
        }
    }

    /// An option that announces a secret or holds one.
    fn option(&mut self, word: &str) -> Option<String> {
        let body = word.trim_start_matches('-');
        let dashes = &word[..word.len() - body.len()];
        let letter = body.chars().next()?;
        let rest = &body[letter.len_utf8()..];
        if dashes.len() == 1 && takes_secret(&self.program, self.login, letter) {
            if rest.is_empty() {
                self.next = Next::Secret;
                return Some(word.to_owned());
            }
            return Some(format!("-{letter}{HIDDEN}"));
        }
        if dashes.len() == 1 && matches!(letter, 'u' | 'U') && (rest.is_empty() || colons(rest)) {
            if rest.is_empty() {
                self.next = Next::Login;
            }
            return Some(format!("-{letter}{}", login(rest)));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if name.contains([':', '/', '"', '\'', ' ']) {
            return None;
        }
        if matches!(name, "user" | "proxy-user" | "userpwd") {
            return Some(match value {
                Some(value) => format!("{dashes}{name}={}", login(value)),
                None => {
                    self.next = Next::Login;
                    word.to_owned()
                }
            });
        }
        let secret = body.len() > 1 && names_secret(name);
        match value {
            Some(value) if secret && !is_plain(value) => Some(format!("{dashes}{name}={HIDDEN}")),
            Some(value) if names_key(name) && may_be_key(value, 8) => {
                Some(format!("{dashes}{name}={HIDDEN}"))
            }
            None if secret => {
                self.next = if name.contains("ookie") { Next::Cookie } else { Next::Secret };
                Some(word.to_owned())
            }
            None if body.len() > 1 && names_key(name) => {
                self.next = Next::Key;
                Some(word.to_owned())
            }
            _ => None,
        }
    }

    fn other(&mut self, word: &str) -> String {
        let plain = bare(word);
        if plain.eq_ignore_ascii_case("bearer") {
            self.next = Next::Secret;
            return word.to_owned();
        }
        if is_shaped(plain) {
            return HIDDEN.to_owned();
        }
        if !word.starts_with('-') {
            let program = plain.rsplit('/').next().unwrap_or(plain);
            if self.program.is_empty() || is_tool(program) {
                program.clone_into(&mut self.program);
                self.login = false;
            }
            self.login |= plain == "login";
        }
        // What is in quotes is a line of its own.
        if self.depth < DEPTH_MAX
            && let Some(quote) = word.find(['"', '\'']).filter(|at| word[*at..].contains(' '))
        {
            let (before, inside) = word.split_at(quote);
            let sign = &inside[..1];
            if let Some(inner) = inside[1..].strip_suffix(sign)
                && !before.ends_with(is_sign_of_secret(before))
            {
                let told = self.inner(inner);
                return format!("{before}{sign}{told}{sign}");
            }
        }
        self.named = is_name(word);
        self.scan(word)
    }

    /// Takes out values behind secrets' names, and logins of URLs, within a word.
    fn scan(&mut self, word: &str) -> String {
        let mut told = String::with_capacity(word.len());
        let (mut copied, mut from) = (0, 0);
        while let Some(found) = word[from..].find(['=', ':']) {
            let sign = from + found;
            from = sign + 1;
            if let Some(rest) = word[sign..].strip_prefix("://") {
                from = sign + 3;
                if let Some(user) = userinfo(rest) {
                    let scheme = word[..sign].rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
                    told.push_str(&word[copied..from]);
                    told.push_str(&login_of_url(scheme.unwrap_or(""), user));
                    from += user.len();
                    copied = from;
                }
                continue;
            }
            let name = Name::before(word, sign);
            let is_colon = word[sign..].starts_with(':');
            let names = names_secret(name.text);
            let may_name = names || (!is_colon && names_key(name.text));
            if !may_name || (is_colon && name.after == Some('/')) {
                continue;
            }
            let value = &word[from..];
            let value = &value[..name.value_length(value, is_colon)];
            let secret = match names {
                true if value.is_empty() && is_colon => {
                    self.next = self.announced(name.text);
                    false
                }
                true if is_scheme(value) => {
                    self.next = Next::Secret;
                    false
                }
                true => !is_plain(value),
                false => {
                    let upper = !name.text.contains(|letter: char| letter.is_ascii_lowercase());
                    let least = if upper { 1 } else { 8 };
                    may_be_key(value, least)
                }
            };
            if secret {
                if name.text.to_ascii_lowercase().contains("cookie") && value.ends_with(';') {
                    self.next = Next::Cookie;
                }
                told.push_str(&word[copied..from]);
                told.push_str(&hidden(value));
                from += value.len();
                copied = from;
            }
        }
        told.push_str(&word[copied..]);
        told
    }

    fn announced(&self, name: &str) -> Next {
        let name = name.to_ascii_lowercase();
        match name {
            name if name.contains("authorization") => Next::Scheme,
            name if name.contains("cookie") => Next::Cookie,
            _ => Next::Secret,
        }
    }
}

/// A name before `=` or `:`.
struct Name<'a> {
    text: &'a str,
    /// The letter before it; `None` where the word begins with it.
    after: Option<char>,
    /// It stands in quotes, as JSON has it.
    is_quoted: bool,
}

impl<'a> Name<'a> {
    fn before(word: &'a str, sign: usize) -> Self {
        let whole = word[..sign].trim_end_matches(['"', '\'', '\\']);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_-.[]".contains(letter);
        let start = whole.trim_end_matches(is_part).len();
        let text = whole[start..].trim_start_matches('-');
        let after = word[..start].chars().next_back();
        Self { text, after, is_quoted: whole.len() < sign }
    }

    /// Bytes of the value that follows: in a list or query up to its separator, else all of it.
    fn value_length(&self, value: &str, is_colon: bool) -> usize {
        let first = value.chars().next();
        if let Some(quote @ ('"' | '\'')) = first {
            return quoted(&value[1..], quote).map_or(value.len(), |length| length + 1);
        }
        let ends: &[char] = match self.after {
            _ if self.is_quoted && is_colon => &[',', '}', ']'],
            None => return value.len(),
            Some('"' | '\'') => return value.trim_end_matches(['"', '\'']).len(),
            Some(_) => &['&', ',', ';', '#', '"', '\'', '}', ')', ' '],
        };
        value.find(ends).unwrap_or(value.len())
    }
}

/// A hidden value in the quotes that it had.
fn hidden(value: &str) -> String {
    let quote = value.chars().next().filter(|letter| matches!(letter, '"' | '\''));
    match quote.filter(|quote| value.len() > 1 && value.ends_with(*quote)) {
        Some(quote) => format!("{quote}{HIDDEN}{quote}"),
        None => HIDDEN.to_owned(),
    }
}

/// `-x` or `--word`: not what a secret looks like.
fn is_option(word: &str) -> bool {
    word.starts_with("--") || (word.len() == 2 && word.starts_with('-'))
}

/// A word that is nothing but a secret's name.
fn is_name(word: &str) -> bool {
    let name = word.trim_matches(['{', '[', ',', '"', '\'']);
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
        && names_secret(name)
}

/// Whether quotes that follow hold a secret, so that they are no line of their own.
fn is_sign_of_secret(before: &str) -> impl Fn(char) -> bool + use<> {
    let name = before.strip_suffix(['=', ':']).map(|rest| Name::before(before, rest.len()).text);
    let secret = name.is_some_and(names_secret);
    move |_| secret
}

fn is_scheme(word: &str) -> bool {
    let schemes = ["bearer", "basic", "digest", "token", "negotiate", "apikey"];
    schemes.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

fn colons(word: &str) -> bool {
    word.contains(':') && !word.contains('=')
}

/// `user:password`, where it is that and not two numbers, a path or a URL.
fn login(word: &str) -> String {
    let Some((user, password)) = word.split_once([':', '%']) else { return word.to_owned() };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (number(user) && number(password)) || user.contains('/') || password.is_empty() {
        return word.to_owned();
    }
    if password.starts_with("//") {
        return Line::default().scan(word);
    }
    let sign = &word[user.len()..=user.len()];
    format!("{user}{sign}{HIDDEN}")
}

/// The login before the host of what follows `://`, without its `@`.
fn userinfo(rest: &str) -> Option<&str> {
    let end = rest.find(['/', '?', '#', '"', '\'', ' ']).unwrap_or(rest.len());
    if let Some(at) = rest[..end].rfind('@') {
        return Some(&rest[..at]);
    }
    // A password with a slash: what stands behind the colon is no port.
    let (_, port) = rest[..end].split_once(':').filter(|_| !rest.starts_with('['))?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { None } else { rest.rfind('@').map(|at| &rest[..at]) }
}

/// Schemes in which a login without a password is a user's name.
const NAMED_USERS: [&str; 12] = [
    "ssh",
    "sftp",
    "ftp",
    "svn",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "amqp",
    "mongodb",
    "smb",
    "rsync",
];

fn login_of_url(scheme: &str, user: &str) -> String {
    match user.split_once(':') {
        Some((_, "")) => user.to_owned(),
        // `https://TOKEN:x-oauth-basic@host` has the secret in front.
        Some((name, _)) if is_shaped(name) => HIDDEN.to_owned(),
        Some((name, _)) => format!("{name}:{HIDDEN}"),
        None if NAMED_USERS.contains(&scheme) || user == "git" => user.to_owned(),
        None => HIDDEN.to_owned(),
    }
}
