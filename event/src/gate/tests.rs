use super::{COMMAND_BYTES_MAX, command, corpus::SECRETS, json, shown, text};

/// What must stay readable.
const BENIGN: &[&[&str]] = &[
    &["ssh", "-p", "22", "host"],
    &["ssh", "-o", "PasswordAuthentication=no", "host"],
    &["mysql", "-P", "3306", "-h", "db", "-u", "root"],
    &["ps", "-p1", "-o", "pid,user"],
    &["ps", "-p", "1"],
    &["mkdir", "-p", "/var/lib/x"],
    &["docker", "run", "-p", "80:80", "--user", "1000:1000", "nginx:1.27"],
    &["docker", "run", "-v", "/run/secrets/token:/x:ro", "--password-stdin", "i"],
    &["cat", "/etc/passwd", "/etc/shadow"],
    &["app", "--password-file", "/run/secrets/db", "--token-ttl=5m"],
    &["app", "--no-password", "--max-tokens", "500", "--tokenizer", "bert"],
    &["env", "PWD=/root", "OLDPWD=/", "PATH=/bin:/usr/bin", "run"],
    &["git", "clone", "ssh://git@github.com/a/b"],
    &["git", "clone", "git@github.com:a/b.git"],
    &["curl", "http://[::1]:80/a@b", "http://h:8080/x@y", "-o", "out"],
    &["sort", "--key=2,3n", "-t:", "/etc/group"],
    &["nginx", "-g", "daemon off;", "-c", "/etc/nginx/nginx.conf"],
    &["curl", "--key", "tls.key", "--cert", "tls.crt", "https://h/"],
    &["journalctl", "-u", "ssh.service", "--since=10:00"],
    &["bash", "-c", "for n in 1 2; do echo $n; done"],
    &["passwd", "--expire", "alice"],
    &["echo", "it's", "don't", "bypass", "compass:north"],
    &["systemctl", "status", "token.service"],
];

#[test]
fn a_secret_is_taken_out_and_the_rest_stays() {
    for (words, told) in SECRETS {
        let said = command(words);
        assert_eq!(&said, told, "{words:?}");
        assert!(!said.contains("S3C") && !said.contains("UzND"), "{said}");
        // What has passed the gate passes it again unchanged in what matters.
        let again = text(&said);
        assert!(!again.contains("S3C"), "{again}");
    }
}

#[test]
fn a_secret_is_taken_out_of_a_joined_line_too() {
    let joined = [
        ("psql postgres://me:S3CRET@db/x", "psql postgres://me:***@db/x"),
        ("curl -H Authorization: Bearer S3CRET h", "curl -H Authorization: Bearer *** h"),
        ("app --password 'S3CRET two' x", "app --password *** x"),
        ("app --password=\"S3CRET two\" x", "app --password=*** x"),
        ("mysql -p'S3CRET two' db", "mysql -p*** db"),
        ("a  password: S3CRET,\n\tb", "a  password: ***\n\tb"),
        ("password = S3CRET", "password = ***"),
    ];
    for (given, told) in joined {
        assert_eq!(text(given), told);
    }
}

#[test]
fn what_holds_no_secret_stays_as_it_is() {
    for words in BENIGN {
        assert_eq!(command(words), words.join(" "));
    }
}

#[test]
fn any_text_is_read_to_its_end_and_cut_to_its_limit() {
    for hostile in [
        "é".repeat(9000),
        "\"".repeat(9000),
        "a=".repeat(9000),
        "://@:".repeat(3000),
        "\"a ' ".repeat(3000),
        "'a \"b ".repeat(800) + &"\" '".repeat(800),
    ] {
        let limit = COMMAND_BYTES_MAX + '…'.len_utf8();
        assert!(text(&hostile).len() <= limit);
        assert!(command(&[&hostile, "--password", &hostile]).len() <= limit);
    }
    for odd in
        ["-", "--", "=", ":", "-é", "'", "\"'", "-u", "-u:", "é:é=é", "://", "-=", "--=x", ""]
    {
        assert_eq!(text(odd), odd);
        assert_eq!(command(&[odd]), odd);
    }
}

#[test]
fn a_terminal_is_told_of_control_characters_and_obeys_none() {
    let forged = "x\n2026-11-26 12:00:00 RELEASED \u{1b}[2J\u{9b}31m\r\u{202e}gnp.exe\u{7f}";
    let told = shown(forged);
    assert_eq!(told, "x\\n2026-11-26 12:00:00 RELEASED \\x1b[2J\\u{9b}31m\\r\\u{202e}gnp.exe\\x7f");
    assert!(matches!(shown("naïve 名前 /usr/bin/a b"), std::borrow::Cow::Borrowed(_)));
    let line = json(&forged).unwrap_or_default();
    assert!(!line.chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{line}");
    assert_eq!(serde_json::from_str::<String>(&line).ok().as_deref(), Some(forged));
}
