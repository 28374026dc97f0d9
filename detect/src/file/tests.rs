#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// A small model with something in every section.
fn model() -> ModelFile {
    let (machine, workload) = ("x86_64".to_owned(), "web.service".to_owned());
    let mut program = ProgramProfile::empty(machine, workload, "/usr/bin/nginx".into());
    program.digest = Some([7; 32]);
    let grams: Vec<u32> =
        (0..SIX_GRAM_BITS as u32).filter(|bit| [0, 2].contains(&(bit % 64))).collect();
    program.six_grams.add_window(grams.iter());
    let mut model = ModelFile {
        summary: TrainingSummary { host: "h".into(), ended_unix_s: 9, ..Default::default() },
        schema: SchemaId { version: 3, hash: [1; 32], columns: vec!["errors_share".into()] },
        profile: Arc::new(Profile { gram_hash_key: u64::MAX, programs: vec![program] }),
        ..ModelFile::default()
    };
    model.attach("first-seen", 1, &vec!["/usr/bin/psql", "10.0.0.7"]).unwrap();
    model
}

/// Section lists are what rules about other versions are made of.
fn with_section(name: &str, version: u16, required: bool) -> Vec<u8> {
    let mut sections = container::decode(&model().to_bytes().unwrap()).unwrap();
    sections.retain(|s| s.name != name);
    sections.push(Section { name: name.into(), version, required, payload: vec![1, 2, 3] });
    container::encode(&sections).unwrap()
}

#[test]
fn a_model_survives_the_way_through_a_file_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    let model = model();
    model.save(&path).unwrap();
    let loaded = ModelFile::load(&path).unwrap();
    assert_eq!(loaded, model);
    assert_eq!(loaded.to_bytes().unwrap(), model.to_bytes().unwrap());
    let seen: Vec<String> = loaded.attached("first-seen", 1).unwrap().unwrap();
    assert_eq!(seen, ["/usr/bin/psql", "10.0.0.7"]);
    assert_eq!(loaded.attached::<u8>("first-seen", 2).unwrap(), None);
    // Replacing leaves nothing else in the directory, and the file is private.
    model.save(&path).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no/such/model");
    assert!(matches!(model().save(&missing), Err(FileError::Io { .. })));
    // The target is a directory: the rename fails, and the temporary file is cleared away.
    let target = directory.path().join("taken");
    std::fs::create_dir_all(target.join("x")).unwrap();
    assert!(matches!(model().save(&target), Err(FileError::Io { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_told_apart_from_damaged_ones() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(ModelFile::load(directory.path()), Err(FileError::NotAModelFile)));
    assert!(matches!(ModelFile::from_bytes(b""), Err(FileError::NotAModelFile)));
    assert!(matches!(ModelFile::from_bytes(b"PAR1...."), Err(FileError::NotAModelFile)));
    let mut longer = model().to_bytes().unwrap();
    longer.push(0);
    assert!(matches!(ModelFile::from_bytes(&longer), Err(FileError::TrailingBytes(1))));
}

#[test]
fn another_major_version_is_refused_with_advice() {
    for (major, advice) in [(2, "upgrade Hedgerow"), (0, "train again")] {
        let mut bytes = model().to_bytes().unwrap();
        bytes[8] = major;
        let message = ModelFile::from_bytes(&bytes).unwrap_err().to_string();
        assert!(message.contains(advice), "{message}");
    }
}

/// `with_vectorisers.model` was written by an earlier version, with all of the retired sections but
/// the budget.
#[test]
fn a_file_with_retired_sections_is_read_and_loses_them() {
    let bytes = include_bytes!("../../tests/fixtures/with_vectorisers.model");
    let names = |bytes: &[u8]| -> Vec<String> {
        container::decode(bytes).unwrap().into_iter().map(|s| s.name).collect()
    };
    assert!(names(bytes).iter().any(|name| RETIRED.contains(&name.as_str())));
    let model = ModelFile::from_bytes(bytes).unwrap();
    assert_eq!((model.summary.host.as_str(), model.schema.version), ("h", 3));
    let seen: Vec<String> = model.attached("first-seen", 1).unwrap().unwrap();
    assert_eq!(seen, ["/usr/bin/psql"]);
    let again = model.to_bytes().unwrap();
    assert!(!names(&again).iter().any(|name| RETIRED.contains(&name.as_str())));
    assert_eq!(ModelFile::from_bytes(&again).unwrap(), model);
}

#[test]
fn an_unknown_optional_section_is_kept() {
    let loaded = ModelFile::from_bytes(&with_section("reservoir", 1, false)).unwrap();
    assert!(loaded.other_sections().any(|s| s == ("reservoir", 1)));
    let again = ModelFile::from_bytes(&loaded.to_bytes().unwrap()).unwrap();
    assert_eq!(again, loaded);
}

#[test]
fn an_unknown_required_section_is_refused() {
    let error = ModelFile::from_bytes(&with_section("reservoir", 1, true)).unwrap_err();
    assert!(matches!(error, FileError::UnknownRequired { version: 1, .. }), "{error}");
    let error = ModelFile::from_bytes(&with_section("profile", 2, true)).unwrap_err();
    assert!(matches!(error, FileError::UnknownRequired { version: 2, .. }), "{error}");
}

#[test]
fn a_file_without_a_schema_is_refused() {
    let mut sections = container::decode(&model().to_bytes().unwrap()).unwrap();
    sections.retain(|s| s.name != "schema");
    let bytes = container::encode(&sections).unwrap();
    assert!(matches!(ModelFile::from_bytes(&bytes), Err(FileError::Missing("schema"))));
}

#[test]
fn the_files_own_names_are_not_for_attachments() {
    for name in ["profile", "budget", "", "Upper", "with space", &"x".repeat(33)] {
        assert!(matches!(model().attach(name, 1, &0u8), Err(FileError::BadName(_))), "{name}");
    }
}

#[test]
fn sections_of_older_files_that_nobody_reads_any_more_are_left_out() {
    for name in RETIRED {
        assert_eq!(ModelFile::from_bytes(&with_section(name, 1, true)).unwrap(), model());
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = model().to_bytes().unwrap();
    for end in (0..bytes.len()).filter(|end| *end < 2_000 || end % 97 == 0) {
        assert!(ModelFile::from_bytes(&bytes[..end]).is_err(), "truncated to {end}");
    }
}

fn valid_bytes() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| model().to_bytes().unwrap())
}

proptest! {
    #[test]
    fn every_flipped_bit_is_an_error(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut bytes = valid_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(ModelFile::from_bytes(&bytes).is_err());
    }

    #[test]
    fn hostile_payloads_with_right_checksums_never_panic(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut sections = container::decode(valid_bytes()).unwrap();
        let at = which.index(sections.len());
        let payload = &mut sections[at].payload;
        for (at, byte) in edits {
            let length = payload.len();
            payload[at.index(length)] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        if let Ok(model) = ModelFile::from_bytes(&container::encode(&sections).unwrap()) {
            model.to_bytes().unwrap();
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ModelFile::from_bytes(&bytes);
        let mut framed = valid_bytes()[..16].to_vec();
        framed.extend(bytes);
        let _ = ModelFile::from_bytes(&framed);
    }
}
