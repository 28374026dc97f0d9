use super::{COMMAND_BYTES_MAX, command, json, shown, text};

/// What a shell would give to the program, and what is told of it. `S3CRET` marks each secret.
const SECRETS: &[(&[&str], &str)] = &[
    (&["mysql", "-pS3CRET", "db"], "mysql -p*** db"),
    (
        &["/usr/bin/mysqldump", "-u", "root", "-p", "S3CRET", "db"],
        "/usr/bin/mysqldump -u root -p *** db",
    ),
    (&["sudo", "mariadb", "-uroot", "-pS3CRET two"], "sudo mariadb -uroot -p***"),
    (&["sshpass", "-p", "S3CRET", "ssh", "-p", "22", "h"], "sshpass -p *** ssh -p *** h"),
    (&["redis-cli", "-a", "S3CRET", "ping"], "redis-cli -a *** ping"),
    (&["ldapsearch", "-x", "-wS3CRET"], "ldapsearch -x -w***"),
    (&["docker", "login", "-u", "me", "-p", "S3CRET"], "docker login -u me -p ***"),
    (&["app", "--password=S3CRET"], "app --password=***"),
    (&["app", "--password", "S3CRET"], "app --password ***"),
    (&["app", "--password", "-S3CRET-"], "app --password ***"),
    (&["app", "--password", "S3CRET two words", "x"], "app --password *** x"),
    (&["app", "--db-pass=S3CRET&more"], "app --db-pass=***"),
    (&["java", "-Dspring.datasource.password=S3CRET"], "java -Dspring.datasource.password=***"),
    (&["openssl", "rsa", "-passin", "pass:S3CRET"], "openssl rsa -passin ***"),
    (&["curl", "-u", "me:S3CRET", "http://h/"], "curl -u me:*** http://h/"),
    (&["curl", "-ume:S3CRET", "http://h/"], "curl -ume:*** http://h/"),
    (&["curl", "--user", "me:S3CRET"], "curl --user me:***"),
    (&["curl", "--user=me:S3CRET"], "curl --user=me:***"),
    (&["smbclient", "-U", "me%S3CRET"], "smbclient -U me%***"),
    (&["curl", "-H", "Authorization: Bearer S3CRET"], "curl -H Authorization: Bearer ***"),
    (&["curl", "-H", "authorization:Basic S3CRET"], "curl -H authorization:Basic ***"),
    (&["curl", "-HAuthorization: Bearer S3CRET"], "curl -HAuthorization:***"),
    (&["curl", "-H", "X-Auth-Token: S3CRET"], "curl -H X-Auth-Token: ***"),
    (&["curl", "-H", "Api-Key:S3CRET"], "curl -H Api-Key:***"),
    (&["curl", "-H", "Cookie: a=S3CRET; b=S3CRET"], "curl -H Cookie: *** ***"),
    (&["curl", "--cookie", "sid=S3CRET; b=S3CRET", "h"], "curl --cookie *** h"),
    (&["app", "Bearer", "S3CRET"], "app Bearer ***"),
    (&["curl", "http://h/?token=S3CRET"], "curl http://h/?token=***"),
    (&["curl", "http://h/?a=1&api_key=S3CRET&b=2"], "curl http://h/?a=1&api_key=***&b=2"),
    (&["curl", "https://h/b?sig=S3CRET&se=1"], "curl https://h/b?sig=***&se=1"),
    (&["git", "clone", "https://S3CRET@host/r.git"], "git clone https://***@host/r.git"),
    (&["git", "clone", "https://u:S3CRET@host/r"], "git clone https://u:***@host/r"),
    (&["psql", "postgres://u:S3C/RET@db/x"], "psql postgres://u:***@db/x"),
    (&["psql", "host=db password=S3CRET user=u"], "psql host=db password=*** user=u"),
    (&["sh", "-c", "PGPASSWORD='S3CRET two' psql -h db"], "sh -c PGPASSWORD='***' psql -h db"),
    (&["env", "PGPASSWORD=S3CRET two", "psql"], "env PGPASSWORD=*** psql"),
    (&["env", "AWS_SECRET_ACCESS_KEY=S3CRET", "aws"], "env AWS_SECRET_ACCESS_KEY=*** aws"),
    (&["docker", "run", "-e", "KEY=S3CRET", "i"], "docker run -e KEY=*** i"),
    (&["docker", "run", "-eDB_PASSWORD=S3CRET", "i"], "docker run -eDB_PASSWORD=*** i"),
    (
        &["curl", "-d", r#"{"user":"u","password":"S3CRET"}"#],
        r#"curl -d {"user":"u","password":"***"}"#,
    ),
    (
        &["curl", "-d", r#"{"password" : "S3CRET two", "a": 1}"#],
        r#"curl -d {"password" : *** "a": 1}"#,
    ),
    (&["curl", "-d", r#"{\"token\":\"S3CRET\",\"a\":1}"#], r#"curl -d {\"token\":***,\"a\":1}"#),
    (&["curl", "-d", "user=u&password=S3CRET&x=1"], "curl -d user=u&password=***&x=1"),
    (&["app", "--token", "UzNDUkVUUzNDUkVUUzNDUkVU+/=="], "app --token ***"),
    (&["app", "--token=UzNDUkVUUzNDUkVU=="], "app --token=***"),
    (&["app", "ghp_S3CRETS3CRETS3CRET00"], "app ***"),
    (&["app", "--encryption-key", "S3CRET1234"], "app --encryption-key ***"),
    (
        &["mount.cifs", "//h/s", "-o", "username=u,password=S3CRET,vers=3"],
        "mount.cifs //h/s -o username=u,password=***,vers=3",
    ),
    (&["app", "Server=h;Password=S3CRET;Database=d"], "app Server=h;Password=***;Database=d"),
    (&["sh", "-c", "mysql -pS3CRET db | gzip -p x"], "sh -c mysql -p*** db | gzip -p x"),
    (&["bash", "-c", r#"app --password "S3CRET two" x"#], "bash -c app --password *** x"),
    (
        &["bash", "-c", r#"curl -H "Authorization: Bearer S3CRET" h"#],
        r#"bash -c curl -H "Authorization: Bearer ***" h"#,
    ),
];

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
