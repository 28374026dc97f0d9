#![allow(clippy::unwrap_used)]
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use sha2::Digest as _;

use super::{finder::ctime_ns, *};

fn key(path: &Path) -> ContentKey {
    let metadata = fs::metadata(path).unwrap();
    ContentKey {
        device: metadata.dev(),
        inode: metadata.ino(),
        generation: 0,
        ctime_ns: ctime_ns(&metadata),
    }
}

/// As if this process' child had run the file, and were gone.
pub fn image(path: &Path) -> Image {
    let place = (Workload::host(), path.to_str().unwrap().into());
    Image {
        key: key(path),
        place,
        tgid: u32::MAX,
        parent_tgid: std::process::id(),
        layer: Layer::None,
    }
}

#[track_caller]
fn answer(digests: &mut Digests, image: &Image) -> (Digest, bool) {
    let start = Instant::now();
    loop {
        let answer = digests.exec(image);
        if let Some(digest) = answer.digest {
            return (digest, answer.replaced);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no digest");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn sha(text: &str) -> Digest {
    Digest(sha2::Sha256::digest(text).into())
}

#[test]
fn a_path_is_replaced_once_by_other_content_and_not_by_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let put = |text: &str| {
        let fresh = directory.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &path).unwrap();
    };
    let mut digests = Digests::start(Sources::host()).unwrap();
    put("one");
    let waits = |digests: &mut Digests, image: &Image| digests.exec(image).waits;
    assert_ne!(waits(&mut digests, &image(&path)), Waits::Digest, "nothing was known");
    assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false));
    put("one");
    assert_eq!(waits(&mut digests, &image(&path)), Waits::Digest, "another file, maybe the same");
    assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false));
    put("two");
    assert_eq!(answer(&mut digests, &image(&path)), (sha("two"), true));
    assert_eq!(answer(&mut digests, &image(&path)), (sha("two"), false), "said once");
    put("one");
    assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false), "both are known");
}

#[test]
fn a_script_is_replaced_once_by_other_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    let mut digests = Digests::start(Sources::host()).unwrap();
    let mut look = || {
        let start = Instant::now();
        let mut wanted = None;
        loop {
            assert!(start.elapsed() < Duration::from_secs(20), "it is never known");
            let answer = wanted.as_ref().map(|wanted| digests.answer(wanted, false));
            match answer {
                Some(Answer { digest: Some(digest), replaced, .. }) => return (digest, replaced),
                Some(answer) if answer.waits != Waits::Nothing => {}
                _ => {
                    wanted = digests.script(Script {
                        place: (Workload::host(), path.to_str().unwrap().into()),
                        tgid: u32::MAX,
                        parent_tgid: std::process::id(),
                    });
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    fs::write(&path, "one").unwrap();
    assert_eq!(look(), (sha("one"), false));
    fs::write(&path, "other").unwrap();
    assert_eq!(look(), (sha("other"), true));
    assert_eq!(look(), (sha("other"), false), "said once");
}

#[test]
fn what_was_learned_before_is_known() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "evil").unwrap();
    let image = image(file.path());
    let mut digests = Digests::start(Sources::host()).unwrap();
    digests.know(image.place.clone(), sha("good"));
    assert_eq!(answer(&mut digests, &image), (sha("evil"), true));
}

#[test]
fn a_program_that_removed_its_file_is_read_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    // Its name says what it is where it is busybox.
    let path = directory.path().join("sleep");
    // A child writes it: what another thread forks would hold it open, and nobody could start it.
    let copied = std::process::Command::new("cp").arg("/bin/sleep").arg(&path).status();
    assert!(copied.unwrap().success());
    let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
    let image = Image { tgid: child.id(), ..image(&path) };
    let content = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut digests = Digests::start(Sources::host()).unwrap();
    let told = answer(&mut digests, &image);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, (Digest(sha2::Sha256::digest(content).into()), false));
}

#[test]
fn caches_and_the_queue_stay_bounded() {
    let mut digests = Digests::start(Sources::host()).unwrap();
    for number in 0..(PATHS_MAX + 10) as u64 {
        let path: Arc<str> = format!("/{number}").into();
        digests.know((Workload::host(), path.clone()), sha("x"));
        let key = ContentKey { device: 1, inode: number, generation: 0, ctime_ns: 1 };
        let place = (Workload::host(), path);
        digests.exec(&Image {
            key,
            place,
            tgid: u32::MAX,
            parent_tgid: u32::MAX,
            layer: Layer::None,
        });
    }
    assert!(digests.paths.len() <= PATHS_MAX && digests.files.len() <= FILES_MAX);
    assert!(digests.forgotten() > 0);
    let place = (Workload::host(), Arc::from("/v"));
    (0..100u8).for_each(|byte| digests.know(place.clone(), sha(&byte.to_string())));
    assert_eq!(digests.paths[&place].len(), VERSIONS);
}

#[test]
fn a_known_path_whose_new_content_cant_be_had_is_told_once_and_never_taken_for_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    fs::write(&path, "one").unwrap();
    let mut digests = Digests::start(Sources::host()).unwrap();
    answer(&mut digests, &image(&path));
    // Another file at the path, larger than what is read.
    fs::remove_file(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let large = image(&path);
    let mut told = 0;
    let start = Instant::now();
    while told == 0 {
        let answer = digests.exec(&large);
        assert_eq!(answer.digest, None);
        told += u32::from(answer.replaced);
        assert!(start.elapsed() < Duration::from_secs(20), "not told");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!digests.exec(&large).replaced, "once");
    // One that is nowhere to be found: while it is looked for nothing is said.
    let gone = Image { key: ContentKey { ctime_ns: 1, ..large.key }, ..large };
    let wanted = Wanted::Image(gone);
    let start = Instant::now();
    while !digests.answer(&wanted, true).replaced {
        assert!(start.elapsed() < Duration::from_secs(20), "not told");
        std::thread::sleep(Duration::from_millis(1));
    }
    let never_read = directory.path().join("other");
    fs::File::create(&never_read).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let other = image(&never_read);
    let start = Instant::now();
    while !matches!(digests.files.get(&other.key), Some(State::Unreadable)) {
        assert!(!digests.exec(&other).replaced, "nothing was known of it");
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
}
