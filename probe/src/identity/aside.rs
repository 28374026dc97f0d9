//! What names are read from where somebody else could hold the reader up: the command line of a
//! process, whose pages may lie where they are never found, and what a runtime wrote of a container.
//!
//! A thread of its own reads. Who asks waits for [`WAIT`] at most, and not at all while an earlier
//! answer is overdue, so that the drain thread loses a twentieth of its time at worst. What comes
//! later is kept for whoever asks again, and told by [`Aside::take_answered`].

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_bpf::wire;
use hedgerow_event::Program;
use hedgerow_hostfile::{Reader, Refusals, Refused, Whose};

use super::{
    container, program,
    workload::{ContainerFacts, Runtime},
};

/// An answer is waited for so long; reading one takes a fraction of a millisecond, unless the machine
/// is loaded.
pub const WAIT: Duration = Duration::from_millis(100);
/// Questions that wait for the thread. Full: the name stays unknown, and is asked for with the next
/// process.
const QUEUE: usize = 1024;
/// Late answers that nobody has asked for again; when full all are forgotten.
const LATE_MAX: usize = 4096;
/// Nanoseconds of a tick of `/proc/PID/stat`.
const TICK_NS: u64 = 10_000_000;
/// `task_struct::flags` of a kernel thread.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// Which program a process runs.
    Program { tgid: u32, start_boot_ns: u64 },
    /// What its runtime says of a container.
    Container { id: String, runtime: Runtime },
}

/// The program of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub program: Program,
    /// The path of its file, where it has one.
    pub file: Option<Arc<str>>,
    /// Only root can have put the file there.
    pub trusted: bool,
}

#[derive(Debug, Clone)]
pub enum Answer {
    /// `None`: the process is gone.
    Program(Option<Running>),
    Container(Box<ContainerFacts>),
}

/// Questions given and answered, for who watches the thread.
#[derive(Debug, Default)]
pub struct Count {
    given: AtomicU64,
    done: AtomicU64,
}

impl Count {
    /// Answers so far, and whether a question waits.
    pub fn progress(&self) -> (u64, bool) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.given.load(Ordering::Relaxed) > done)
    }
}

/// Asks the thread.
#[derive(Debug)]
pub struct Aside {
    questions: Sender<Question>,
    answers: Receiver<(Question, Answer)>,
    asked: HashSet<Question>,
    late: HashMap<Question, Answer>,
    answered: Vec<Question>,
    count: Arc<Count>,
    /// Questions that found the queue full.
    refused: u64,
}

impl Aside {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(refusals: Refusals) -> io::Result<Self> {
        let mut reader = Reader::sharing("names", refusals);
        Self::with(move |question| match question {
            Question::Program { tgid, start_boot_ns } => {
                Answer::Program(running(&mut reader, *tgid, *start_boot_ns))
            }
            Question::Container { id, runtime } => {
                Answer::Container(Box::new(container::facts_of(&mut reader, id, *runtime)))
            }
        })
    }

    fn with(mut read: impl FnMut(&Question) -> Answer + Send + 'static) -> io::Result<Self> {
        let (questions, work) = bounded::<Question>(QUEUE);
        // As many as can be asked, so that the thread never waits for who asked.
        let (done, answers) = bounded(QUEUE + 1);
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        std::thread::Builder::new().name("hedgerow-names".into()).spawn(move || {
            for question in work {
                let answer = read(&question);
                counted.done.fetch_add(1, Ordering::Relaxed);
                if done.send((question, answer)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            questions,
            answers,
            asked: HashSet::new(),
            late: HashMap::new(),
            answered: Vec::new(),
            count,
            refused: 0,
        })
    }

    /// The answer, or `None` where it takes too long.
    pub fn ask(&mut self, question: &Question) -> Option<Answer> {
        self.collect();
        if let Some(answer) = self.late.remove(question) {
            return Some(answer);
        }
        let behind = !self.asked.is_empty();
        if !self.asked.contains(question) {
            // Counted first: the thread must not be done before.
            self.count.given.fetch_add(1, Ordering::Relaxed);
            if self.asked.len() > QUEUE || self.questions.try_send(question.clone()).is_err() {
                self.count.done.fetch_add(1, Ordering::Relaxed);
                self.refused += 1;
                return None;
            }
            self.asked.insert(question.clone());
        }
        if behind {
            return None;
        }
        let until = Instant::now() + WAIT;
        while let Ok((answered, answer)) = self.answers.recv_deadline(until) {
            self.asked.remove(&answered);
            if answered == *question {
                return Some(answer);
            }
            self.keep(answered, answer);
        }
        None
    }

    /// Questions that were answered too late.
    pub fn take_answered(&mut self) -> Vec<Question> {
        self.collect();
        std::mem::take(&mut self.answered)
    }

    pub fn count(&self) -> Arc<Count> {
        Arc::clone(&self.count)
    }

    /// Questions that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn collect(&mut self) {
        while let Ok((question, answer)) = self.answers.try_recv() {
            self.asked.remove(&question);
            self.keep(question, answer);
        }
    }

    fn keep(&mut self, question: Question, answer: Answer) {
        if self.late.len() >= LATE_MAX {
            self.late.clear();
            self.answered.clear();
        }
        self.answered.push(question.clone());
        self.late.insert(question, answer);
    }
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    kernel: bool,
    start_ticks: u64,
}
impl Stat {
    fn read(tgid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
        // The command name, in parentheses, may hold spaces.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let flags: u32 = fields.nth(6)?.parse().ok()?;
        let start_ticks = fields.nth(12)?.parse().ok()?;
        Some(Self { kernel: flags & PF_KTHREAD != 0, start_ticks })
    }
}

/// Names a running process by `/proc`; `None` once it is gone, or another one has its number.
fn running(reader: &mut Reader, tgid: u32, start_boot_ns: u64) -> Option<Running> {
    let is_it = || Stat::read(tgid).filter(|stat| stat.start_ticks == start_boot_ns / TICK_NS);
    if is_it()?.kernel {
        let program = Program::new("(kernel thread)");
        return Some(Running { program, file: None, trusted: false });
    }
    let link = fs::read_link(format!("/proc/{tgid}/exe")).ok()?;
    let link = link.to_string_lossy().into_owned();
    let shown = link.clone();
    let lies = reader.run(&Whose::process(tgid, &link), move |_| lies(tgid, &shown));
    let (path, trusted) = match lies {
        Ok(Lies { deleted: false, trusted }) => (link.as_str(), trusted),
        Ok(Lies { deleted: true, trusted }) => {
            (link.strip_suffix(DELETED).unwrap_or(&link), trusted)
        }
        Err(_) => (link.strip_suffix(DELETED).unwrap_or(&link), false),
    };
    let most = u64::from(wire::WIRE_ARGUMENTS_MAX - 1);
    let command = reader.read_proc(tgid, "cmdline", most).unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    let named = program::name(&program::told(path), &program::words(&command), None);
    // Last, so that what was read is of this process: the number may have come round.
    is_it()?;
    let file = (path.starts_with('/') && path == link).then(|| path.into());
    Some(Running { program: named, file, trusted })
}

/// What the kernel appends to the name of a file that has none any more.
const DELETED: &str = " (deleted)";

struct Lies {
    /// The link's text has [`DELETED`] behind the path: no file is really named so.
    deleted: bool,
    trusted: bool,
}

/// How the file of a process lies; asks its file system.
fn lies(tgid: u32, link: &str) -> Result<Lies, Refused> {
    let file = fs::metadata(format!("/proc/{tgid}/exe"))?;
    let named_so = || {
        let there = fs::symlink_metadata(format!("/proc/{tgid}/root{link}"));
        there.is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino()))
    };
    Ok(Lies {
        deleted: link.ends_with(DELETED) && !named_so(),
        trusted: file.uid() == 0 && file.mode() & 0o022 == 0,
    })
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        path::Path,
        process::{Child, Command},
    };

    use super::*;

    /// In nanoseconds since boot, as the kernel tells it.
    pub fn started(tgid: u32) -> u64 {
        Stat::read(tgid).unwrap().start_ticks * TICK_NS + 5
    }

    pub fn this_process() -> Running {
        let tgid = std::process::id();
        running(&mut Reader::new("test"), tgid, started(tgid)).unwrap()
    }

    fn question(tgid: u32) -> Question {
        Question::Program { tgid, start_boot_ns: 1 }
    }

    #[test]
    fn who_asks_waits_a_moment_and_is_told_when_the_answer_comes() {
        let (go, wait) = bounded::<()>(0);
        let mut aside = Aside::with(move |question| {
            if *question == self::question(1) {
                let _ = wait.recv();
            }
            Answer::Program(None)
        })
        .unwrap();
        // A loaded machine may take longer for it.
        while aside.ask(&question(2)).is_none() {}
        let start = Instant::now();
        assert!(aside.ask(&question(1)).is_none(), "it hangs");
        let once = start.elapsed();
        // Nobody else waits for what hangs.
        (3..103).for_each(|tgid| assert!(aside.ask(&question(tgid)).is_none()));
        assert!(start.elapsed() < once + 50 * WAIT, "{:?}", start.elapsed());
        assert!(aside.take_answered().is_empty());
        drop(go);
        let mut answered = Vec::new();
        while answered.len() < 101 {
            answered.extend(aside.take_answered());
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(answered.contains(&question(1)));
        assert!(aside.ask(&question(1)).is_some(), "it was kept");
    }

    #[test]
    fn a_full_queue_is_counted_and_nobody_waits_for_it() {
        let (go, wait) = bounded::<()>(0);
        let mut aside = Aside::with(move |_| {
            let _ = wait.recv();
            Answer::Program(None)
        })
        .unwrap();
        (0..QUEUE as u32 + 10).for_each(|tgid| assert!(aside.ask(&question(tgid)).is_none()));
        assert!(aside.refused() > 0);
        drop(go);
    }

    struct Copy(Child);

    impl Copy {
        /// A copy of `sleep` that runs under this path.
        fn of_sleep(path: &Path) -> Self {
            fs::copy("/bin/sleep", path).unwrap();
            // Another test may fork while the file is open for writing.
            let run = || Command::new(path).arg("1000").spawn();
            let busy = |why: &io::Error| why.kind() == io::ErrorKind::ExecutableFileBusy;
            let mut child = run();
            while child.as_ref().is_err_and(busy) {
                child = run();
            }
            Self(child.unwrap())
        }
        fn name(&self) -> String {
            let tgid = self.0.id();
            let running = running(&mut Reader::new("test"), tgid, started(tgid)).unwrap();
            running.program.path.to_string()
        }
    }

    impl Drop for Copy {
        fn drop(&mut self) {
            drop((self.0.kill(), self.0.wait()));
        }
    }

    #[test]
    fn a_file_that_is_really_named_deleted_is_another_program() {
        if fs::canonicalize("/bin/sleep").unwrap().file_name() != Some("sleep".as_ref()) {
            eprintln!("not here: sleep is a part of busybox, which runs under no other name");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let honest = Copy::of_sleep(&at("psql"));
        let other = Copy::of_sleep(&at("psql (deleted)"));
        assert_eq!(Path::new(&honest.name()), at("psql"));
        assert_eq!(Path::new(&other.name()), at("psql (deleted)"));
        fs::remove_file(at("psql")).unwrap();
        assert_eq!(Path::new(&honest.name()), at("psql"), "it is deleted");
        fs::remove_file(at("psql (deleted)")).unwrap();
        assert_eq!(Path::new(&other.name()), at("psql (deleted)"));
    }

    #[test]
    fn another_process_of_the_same_number_is_gone() {
        let tgid = std::process::id();
        let started = started(tgid);
        let mut reader = Reader::new("test");
        assert!(running(&mut reader, tgid, started).is_some());
        assert!(running(&mut reader, tgid, started - 2 * TICK_NS).is_none());
    }
}
