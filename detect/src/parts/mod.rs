//! What each run taught, kept so that models of several runs can be put together: the model of many is
//! made of their parts, and parts are sums, unions, and samples, the same in any order. So
//! models of disjoint runs, merged, are the model of all of these runs, bit for bit.
//!
//! Each run is learned from by itself, whoever else is: its windows are held against its own ranges and
//! n-grams, its deeds against its own first-seen sets. What is common comes afterwards:
//!
//! - n-grams, first-seen sets, deeds, rates, hours and largest counts are added up or united;
//! - ranges are those of all windows of *fill*; medians are of samples;
//! - the forest and the neighbours are fitted on sampled windows of *fit*, held against the ranges of all;
//! - tails are of sampled blocks of *calibrate*: of each the windows that went farthest by their own
//!   run's model, measured again by that of all.
//!
//! A sample keeps the rows that draw the least numbers, and a row's number hangs on the key, the run,
//! the subject and the epoch alone. So a sample of samples is the sample of all. Tables
//! that overflow keep what has the least hashes, n-gram profiles those of who has fewest, for the same reason.

mod gathering;
mod packed;
mod scale;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use hedgerow_event::{Object, Scale, Subject};
pub(crate) use hedgerow_features::keep_least;
use hedgerow_features::{Baseline, fair};
use serde::{Deserialize, Serialize};

pub use self::gathering::Gathering;
use self::scale::ScalePart;
use crate::{
    Engine, Error, Phase, Result, Schedule, Settings,
    deeds::Deeds,
    file::{ModelFile, Profile, ProgramProfile},
    grams::{self, PROFILES_MAX},
    persist,
    surprise::{
        counted::Counted,
        floors::{Floors, HOURS_MAX, Hour},
    },
    usual::learn::UNSUSPECTED_MAX,
};

/// Name and version of the section that holds them.
const SECTION: &str = "hedgerow.parts";
const VERSION: u16 = 1;
/// A clock that is set back lets a run begin before the one before it has ended.
const SHARED_MOST_NS: i64 = 60_000_000_000;
/// With fewer held-back windows there is no model.
const HELD_BACK_LEAST: u64 = 5;

/// One run that was learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub host: String,
    boot: String,
    /// Wall time of its first and of its last epoch.
    pub from_ns: i64,
    pub to_ns: i64,
    /// Epochs of fill, fit and calibrate.
    epochs: [u32; 3],
}

/// Profiles, by a hash of whose they are.
type Programs = BTreeMap<(u64, Arc<Subject>), ProgramProfile>;
/// Digests of the programs' files; `None` where hosts have different ones.
type Digests = BTreeMap<Arc<Subject>, Option<[u8; 32]>>;

/// What runs taught, one or many.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parts {
    seed: u64,
    budget_per_day: f64,
    runs: BTreeMap<u64, Run>,
    programs: Programs,
    digests: Digests,
    baseline: Baseline,
    deeds: Deeds,
    counted: Counted,
    #[serde(with = "crate::text")]
    unsuspected: BTreeSet<Object>,
    /// Hours held back: by number drawn, run and place in it.
    hours: BTreeMap<(u64, u64, u32), Hour>,
    scales: BTreeMap<Scale, ScalePart>,
    held_back: u64,
}

/// A number that stands for chance: the same for the same thing, whoever draws (`SplitMix64`).
pub(crate) fn draw(of: &[u64]) -> u64 {
    of.iter().fold(0, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The number of what has no other name than its content.
pub(crate) fn draw_of(content: &[u8]) -> u64 {
    let word = |part: &[u8]| part.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    draw(&content.chunks(8).map(word).collect::<Vec<_>>())
}

/// Leaves the entries of least keys.
pub(crate) fn keep<K: Ord, V>(map: &mut BTreeMap<K, V>, most: usize) {
    while map.len() > most {
        map.pop_last();
    }
}

/// Of who has most profiles those of greatest hashes go: nobody's names take the others'. Not those of fewest
/// windows, as within a run: how many there are in all is known to no part of them, while who is left here is
/// left in every part that has him, so that nothing of his is lost in any order.
fn make_room(programs: &mut Programs) {
    let over = programs.len().saturating_sub(PROFILES_MAX);
    let all = programs.keys().map(|key| (key.1.workload.owner(), Reverse(key), key.clone()));
    for gone in fair::make_room(all, over) {
        programs.remove(&gone);
    }
}

impl Run {
    /// Wall time of one host that both were learned from.
    fn shared_ns(&self, other: &Self) -> i64 {
        let same = self.host == other.host;
        let shared = self.to_ns.min(other.to_ns) - self.from_ns.max(other.from_ns);
        if same { shared } else { 0 }
    }
}

impl Parts {
    /// Reads what a model, or a part, was learned from; `None` where it doesn't hold that.
    ///
    /// # Errors
    /// It can't be read, or is of another schema.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let file = persist::load(path)?;
        let Some(bytes) = file.attached::<Vec<u8>>(SECTION, VERSION)? else { return Ok(None) };
        let parts = ciborium::from_reader(bytes.as_slice());
        parts.map(Some).map_err(|why| Error::Load {
            path: path.to_owned(),
            why: format!("what it was learned from: {why}"),
        })
    }

    pub(crate) fn is_in(file: &ModelFile) -> bool {
        file.other_sections().any(|(name, _)| name == SECTION)
    }

    /// They alone as a file, for merging, however little they are.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn to_file(&self) -> Result<ModelFile> {
        let mut file = ModelFile::default();
        file.summary.host = self.host();
        file.summary.written_by = format!("hedgerow {}", env!("CARGO_PKG_VERSION"));
        file.schema = persist::schema();
        self.attach(&mut file)?;
        Ok(file)
    }

    /// The host, or how many they are.
    fn host(&self) -> String {
        let hosts = self.hosts();
        match hosts.first() {
            Some(one) if hosts.len() == 1 => one.clone(),
            _ => format!("{} hosts", hosts.len()),
        }
    }

    /// Writes them into a model.
    ///
    /// # Errors
    /// They can't be encoded, or are too large for a model file.
    pub fn attach(&self, file: &mut ModelFile) -> Result<()> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).map_err(|why| Error::Encode(why.to_string()))?;
        Ok(file.attach(SECTION, VERSION, &bytes)?)
    }

    /// Takes them out of a model that they no longer make.
    pub(crate) fn detach(file: &mut ModelFile) {
        file.detach(SECTION);
    }

    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }

    pub fn hosts(&self) -> BTreeSet<String> {
        self.runs().map(|run| run.host.clone()).collect()
    }

    /// Epochs of 5 s in all runs.
    pub fn epochs(&self) -> u64 {
        self.runs().flat_map(|run| run.epochs).map(u64::from).sum()
    }

    /// Adds what other runs taught.
    ///
    /// # Errors
    /// They have another key, or a host in common for some time: it would count twice.
    pub fn absorb(&mut self, other: Self) -> Result<()> {
        if self.seed != other.seed {
            return Err(Error::Merge(
                "it has another key; give all hosts one (`key_file` in the configuration, \
                 --key-file) and train anew"
                    .to_owned(),
            ));
        }
        for (id, run) in &other.runs {
            let shared = self.runs.values().map(|own| own.shared_ns(run)).max().unwrap_or(0);
            if shared > SHARED_MOST_NS || self.runs.contains_key(id) {
                return Err(Error::Merge(format!(
                    "{} s of host {} were learned from by another one, too: they would count twice",
                    shared / 1_000_000_000,
                    run.host
                )));
            }
        }
        self.runs.extend(other.runs);
        self.budget_per_day = self.budget_per_day.min(other.budget_per_day);
        self.absorb_programs(other.programs, other.digests);
        let key = self.baseline.key();
        self.baseline.absorb(other.baseline);
        self.deeds.absorb(other.deeds);
        self.counted.absorb(other.counted, key);
        self.unsuspected.extend(other.unsuspected);
        while self.unsuspected.len() > UNSUSPECTED_MAX {
            self.unsuspected.pop_last();
        }
        self.hours.extend(other.hours);
        keep(&mut self.hours, HOURS_MAX);
        for (scale, part) in other.scales {
            self.scales.entry(scale).or_default().absorb(part, key);
        }
        self.held_back += other.held_back;
        Ok(())
    }

    fn absorb_programs(&mut self, programs: Programs, digests: Digests) {
        for (key, program) in programs {
            match self.programs.get_mut(&key) {
                Some(own) => grams::add(own, &program),
                None => drop(self.programs.insert(key, program)),
            }
        }
        make_room(&mut self.programs);
        for (subject, digest) in digests {
            let own = self.digests.entry(subject).or_insert(digest);
            *own = own.filter(|own| Some(*own) == digest);
        }
        let key = self.baseline.key();
        keep_least(&mut self.digests, grams::DIGESTS_MAX, |subject| key.subject(subject));
    }

    /// The model of all, and an engine that judges by it; `None` where too little was seen.
    ///
    /// # Errors
    /// The forest can't be fitted, or the model not be encoded.
    pub fn model(&self) -> Result<Option<(ModelFile, Engine)>> {
        if self.held_back < HELD_BACK_LEAST {
            return Ok(None);
        }
        let sum = |at: usize| self.runs().map(|run| run.epochs[at]).fold(0, u32::saturating_add);
        let settings = Settings {
            host_id: self.host().into(),
            boot_id: String::new(),
            schedule: Schedule { fill: sum(0), fit: sum(1), calibrate: sum(2) },
            budget_per_day: self.budget_per_day,
            seed: self.seed,
            sensors: hedgerow_features::Sensors::default(),
            realtime_offset_ns: 0,
        };
        let mut baseline = self.baseline.clone();
        baseline.settle();
        let mut engine = Engine::empty(settings, baseline);
        let profile = self.profile();
        engine.daily.follow(&profile);
        engine.profile = Some(Arc::new(profile));
        engine.deeds = self.deeds.clone();
        engine.unsuspected.clone_from(&self.unsuspected);
        engine.held_back = self.held_back;
        for (scale, part) in &self.scales {
            if let Some(learned) = part.learned(self.seed)? {
                engine.learned.insert(*scale, learned);
            }
        }
        if !engine.learned.contains_key(&Scale::Seconds5) {
            return Ok(None);
        }
        engine.rates = self.counted.rates();
        engine.know_programs();
        let mut hours: Vec<_> = self.hours.iter().collect();
        hours.sort_by_key(|((_, run, at), _)| (*run, *at));
        let hours = hours.into_iter().map(|(_, hour)| hour.clone()).collect();
        engine.floors = Floors::of_hours(self.budget_per_day, hours, &engine.rates);
        engine.phase = Phase::Scoring;
        engine.learned_ns = self.runs().map(|run| run.to_ns).max().unwrap_or_default();
        engine.solve();
        engine.model_id = engine.name_model();
        let Some(mut file) = engine.save()? else { return Ok(None) };
        self.attach(&mut file)?;
        engine.saved_as(&file)?;
        Ok(Some((file, engine)))
    }

    fn profile(&self) -> Profile {
        let mut programs: Vec<(&Arc<Subject>, ProgramProfile)> = self
            .programs
            .iter()
            .map(|((_, subject), program)| (subject, program.clone()))
            .collect();
        programs.sort_by_key(|(subject, _)| *subject);
        for (subject, program) in &mut programs {
            program.digest = self.digests.get(*subject).copied().flatten();
        }
        let programs = programs.into_iter().map(|(_, program)| program).collect();
        Profile { gram_hash_key: self.seed, programs }
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Program, Workload};
    use proptest::prelude::*;

    use super::*;

    fn programs(of: &[(u8, u16)]) -> Programs {
        let profile = |(owner, name): &(u8, u16)| {
            let path = format!("/{name}");
            let subject = Subject::new(
                Workload::new(format!("{owner}.service")),
                Program::new(path.as_str()),
            );
            let mut profile = ProgramProfile::empty(String::new(), String::new(), path);
            // What is counted here needs no grams.
            for set in [&mut profile.two_grams, &mut profile.three_grams, &mut profile.six_grams] {
                *set = crate::file::GramSet::empty(0);
            }
            profile.windows = 1;
            ((draw(&[u64::from(*owner), u64::from(*name)]), Arc::new(subject)), profile)
        };
        of.iter().map(profile).collect()
    }

    fn merged(parts: &[&Programs]) -> Programs {
        let mut all = Programs::new();
        for part in parts {
            for (key, program) in *part {
                match all.get_mut(key) {
                    Some(own) => grams::add(own, program),
                    None => drop(all.insert(key.clone(), program.clone())),
                }
            }
            make_room(&mut all);
        }
        all
    }

    #[test]
    fn nobodys_names_take_the_profiles_of_others_in_whatever_order_parts_are_merged() {
        let loud: Vec<_> = (0..2 * PROFILES_MAX as u16).map(|name| (0, name)).collect();
        let quiet: Vec<_> = (1..20).map(|owner| (owner, 1)).collect();
        let kept = merged(&[&programs(&loud), &programs(&quiet)]);
        assert_eq!(kept.len(), PROFILES_MAX);
        assert!(programs(&quiet).keys().all(|key| kept.contains_key(key)));
        let part = || proptest::collection::vec((0..4u8, 0..200u16), 0..400);
        proptest!(ProptestConfig::with_cases(32), |(a in part(), b in part(), c in part())| {
            let [a, b, c] = [a, b, c].map(|part| programs(&part));
            let all = merged(&[&a, &b, &c]);
            prop_assert_eq!(&merged(&[&c, &merged(&[&b, &a])]), &all);
            prop_assert_eq!(&merged(&[&merged(&[&a, &c]), &b]), &all);
        });
    }
}
