//! Which names stand before a secret.

/// Ends of a name's words that make its value a secret.
const ENDS: [&str; 16] = [
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "secrets",
    "token",
    "tokens",
    "credential",
    "credentials",
    "authorization",
    "signature",
    "sessionid",
    "cookie",
    "cookies",
];
/// What does so over the borders of words: `api-key`, `AccountKey`.
const PARTS: [&str; 5] = ["apikey", "accesskey", "privatekey", "accountkey", "sharedkey"];
/// Whole words that do so: `DB_PASS`, `--pass`, but neither `bypass` nor `passenger`.
const WORDS: [&str; 12] = [
    "pass", "pw", "pwd", "passin", "passout", "auth", "jwt", "otp", "psk", "sig", "creds", "bearer",
];
/// Last words of a name that say that the value is something about a secret.
const ABOUT: [&str; 33] = [
    "file",
    "path",
    "dir",
    "stdin",
    "fd",
    "ttl",
    "type",
    "name",
    "url",
    "uri",
    "endpoint",
    "store",
    "length",
    "len",
    "timeout",
    "expiry",
    "env",
    "policy",
    "count",
    "method",
    "provider",
    "mode",
    "limit",
    "authentication",
    "max",
    "min",
    "helper",
    "jar",
    "version",
    "algorithm",
    "alg",
    "format",
    "config",
];
/// First words of options that ask for, or forbid, what the rest names.
const DOINGS: [&str; 20] = [
    "no", "skip", "disable", "without", "ask", "prompt", "show", "list", "rotate", "get",
    "require", "enable", "use", "allow", "max", "min", "default", "read", "reset", "verify",
];
/// Values that are no secret whatever the name.
const PLAIN: [&str; 13] =
    ["yes", "no", "true", "false", "on", "off", "none", "null", "0", "1", "prompt", "ask", "auto"];

/// The words of a name: split at `-`, `_`, `.` and where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for letter in name.chars() {
        let parts = matches!(letter, '-' | '_' | '.' | ' ' | '[' | ']');
        if parts || (small && letter.is_ascii_uppercase()) {
            words.push(String::new());
        }
        small = letter.is_ascii_lowercase();
        if let (false, Some(word)) = (parts, words.last_mut()) {
            word.push(letter.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value behind this name is a secret.
pub fn names_secret(name: &str) -> bool {
    // The shell's own names of where it is.
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let words = words(name);
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return false };
    if words.len() > 1 && (ABOUT.contains(&last.as_str()) || DOINGS.contains(&first.as_str())) {
        return false;
    }
    let whole = words.concat();
    PARTS.iter().any(|part| whole.contains(part))
        || words.iter().any(|word| {
            WORDS.contains(&word.as_str()) || ENDS.iter().any(|end| word.ends_with(end))
        })
}

/// Whether the name ends in *key*, which may be anything: a secret, a file, a column.
pub fn names_key(name: &str) -> bool {
    words(name).last().is_some_and(|last| last == "key")
}

/// Whether a value behind a secret's name is none: a switch, or nothing.
pub fn is_plain(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    value.is_empty() || PLAIN.contains(&value.to_ascii_lowercase().as_str())
}

/// Whether the value behind `key` is likely to be secret: no path, no number, no list of them.
pub fn may_be_key(value: &str, least: usize) -> bool {
    let value = value.trim_matches(['"', '\'']);
    let is_path = value.starts_with(['/', '.', '~', '$', '@']) || value.contains('/');
    let file = [".pem", ".key", ".crt", ".cer", ".gpg", ".asc", ".pub", ".der", ".p12"];
    let numbers = value.chars().all(|letter| letter.is_ascii_digit() || ",.:-nr".contains(letter));
    value.len() >= least && !is_path && !file.iter().any(|end| value.ends_with(end)) && !numbers
}

/// Beginnings of what well-known services hand out as secrets, wherever they stand.
const SHAPES: [&str; 16] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "hvs.",
    "eyJ",
];
/// Shorter than this it is a word.
const SHAPE_BYTES_LEAST: usize = 20;

/// Whether the word is a secret by its looks.
pub fn is_shaped(word: &str) -> bool {
    word.len() >= SHAPE_BYTES_LEAST
        && SHAPES.iter().any(|shape| word.starts_with(shape))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.=+/".contains(&byte))
}

/// Programs with short options whose value is a secret.
struct Tool {
    /// Names; one that ends in `*` is a beginning.
    names: &'static [&'static str],
    letters: &'static str,
    /// Only behind a `login`: elsewhere the letter means something else.
    login: bool,
}

const TOOLS: [Tool; 10] = [
    Tool {
        names: &["mysql*", "mariadb*", "mycli", "xtrabackup", "mariabackup", "innobackupex"],
        letters: "p",
        login: false,
    },
    Tool { names: &["sshpass", "mongo*", "useradd", "usermod"], letters: "p", login: false },
    Tool { names: &["7z", "7za", "7zr", "7zz", "rar", "unrar"], letters: "p", login: false },
    Tool { names: &["redis-cli", "valkey-cli", "keydb-cli"], letters: "a", login: false },
    Tool { names: &["http", "https", "xh"], letters: "a", login: false },
    Tool { names: &["ldap*"], letters: "w", login: false },
    Tool { names: &["zip", "unzip", "sqlcmd", "bcp", "isql", "tsql"], letters: "P", login: false },
    Tool { names: &["mosquitto_pub", "mosquitto_sub", "ipmitool"], letters: "P", login: false },
    Tool { names: &["snmp*"], letters: "AXc", login: false },
    Tool {
        names: &["docker", "podman", "buildah", "skopeo", "nerdctl", "helm", "az", "oc", "cf"],
        letters: "p",
        login: true,
    },
];

impl Tool {
    fn is(&self, program: &str) -> bool {
        self.names.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => program.starts_with(start),
            None => program == *name,
        })
    }
}

/// Whether a program's short option `letter` is followed by a secret.
pub fn takes_secret(program: &str, login: bool, letter: char) -> bool {
    let takes = |tool: &Tool| tool.letters.contains(letter) && (login || !tool.login);
    TOOLS.iter().any(|tool| takes(tool) && tool.is(program))
}

/// Whether the rules above know a program of this name.
pub fn is_tool(program: &str) -> bool {
    TOOLS.iter().any(|tool| tool.is(program))
}
