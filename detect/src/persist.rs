//! What was learned, as a model file, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::file::{ModelFile, SchemaId, TrainingSummary};
use hedgerow_event::{Digest, Object, Scale};
use hedgerow_features::{Baseline, COLUMNS, SCHEMA_VERSION, Window, schema_hash};
use hedgerow_model::IsolationForest;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Engine, Phase, Settings,
    deeds::Deeds,
    parts::Parts,
    probation::Probation,
    reference::{DEVIATIONS, deviation_columns},
    said::{
        accepted::{Accepted, Files},
        finding::hex,
    },
    scale::Learned,
    surprise::{floors::Floors, notices::Notices, rates::Rates},
    usual::{daily::Daily, drift::Drift},
};
use crate::error::{Error, Result, chain};

/// Name and version of the section that holds what isn't the model crate's.
const SECTION: &str = "hedgerow.learned";
const VERSION: u16 = 2;
/// What the first version doesn't hold (rates, floors, tails, first uses) is learned anew in service,
/// for a day.
const RELEARN_EPOCHS: u32 = 17_280;

/// A loaded model file.
#[derive(Debug, Clone)]
pub struct SavedModel {
    pub file: ModelFile,
    learned: LearnedSection,
    /// As it was read; none once something of it was put in the place of what was learned.
    digest: Option<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LearnedSection {
    model_id: String,
    seed: u64,
    baseline: Baseline,
    scales: BTreeMap<Scale, Learned>,
    #[serde(default)]
    probation: Probation,
    /// What waits for the end of the day to be learned by the profile.
    #[serde(default)]
    daily: Daily,
    #[serde(default)]
    accepted: Accepted,
    #[serde(default)]
    files: Files,
    #[serde(default)]
    drift: Drift,
    /// Epochs of the day that runs, and what waits for its end.
    #[serde(default)]
    day: u32,
    #[serde(default, with = "crate::text")]
    unsuspected: BTreeSet<Object>,
    #[serde(default)]
    deeds: Deeds,
    #[serde(default)]
    rates: Rates,
    #[serde(default)]
    floors: Option<Floors>,
    #[serde(default)]
    notices: Notices,
    /// Epochs for which first uses are learned and not told.
    #[serde(default)]
    relearning: u32,
    /// Wall time at which learning ended.
    #[serde(default)]
    learned_ns: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    profile_of: Vec<String>,
}

/// Earlier files name one model.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Named {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Named::deserialize(from)? {
        Named::One(one) => vec![one],
        Named::Many(many) => many,
    })
}

/// The schema that models of this build are learned on.
pub(crate) fn schema() -> SchemaId {
    SchemaId {
        version: SCHEMA_VERSION,
        hash: Sha256::digest(schema_hash().as_bytes()).into(),
        columns: COLUMNS.iter().map(|column| column.name.to_string()).collect(),
    }
}

/// Reads a model file of this build's schema and architecture.
pub(crate) fn load(path: &std::path::Path) -> Result<ModelFile> {
    let broken = |why: String| Error::Load { path: path.to_owned(), why };
    let file = ModelFile::load(path).map_err(|why| broken(chain(&why)))?;
    if file.schema != schema() {
        return Err(broken(format!(
            "the model was learned on another set of columns (schema {}, this build has {}); \
             learn anew with `hedgerow run --learn 1d` or `hedgerow train`",
            file.schema.version, SCHEMA_VERSION
        )));
    }
    let here = std::env::consts::ARCH;
    let mut programs = file.profile.programs.iter().map(|program| &*program.architecture);
    if let Some(other) = programs.find(|other| !other.is_empty() && *other != here) {
        return Err(broken(format!(
            "the model was learned on {other}, where system calls have other numbers than on {here}; \
             learn anew with `hedgerow run --learn 1d`"
        )));
    }
    Ok(file)
}

impl SavedModel {
    /// Reads a model file, and refuses one of another schema.
    pub fn load(path: &std::path::Path) -> Result<Self> {
        let broken = |why: String| Error::Load { path: path.to_owned(), why };
        let file = load(path)?;
        let mut found: Option<Vec<u8>> = None;
        let mut old = false;
        for version in (1..=VERSION).rev() {
            if found.is_none() {
                found = file.attached(SECTION, version).map_err(|why| broken(why.to_string()))?;
                old = version != VERSION;
            }
        }
        let section = found;
        let section = section.ok_or_else(|| match Parts::is_in(&file) {
            true => broken(
                "it is a part, which `hedgerow model merge` makes a model of, with others"
                    .to_owned(),
            ),
            false => broken("it has no learned section".to_owned()),
        })?;
        let mut learned: LearnedSection = ciborium::from_reader(section.as_slice())
            .map_err(|why| broken(format!("its learned section: {why}")))?;
        if old {
            let scales = learned.scales.values_mut();
            scales.for_each(|learned| learned.reference.compare_rates_as_counts());
        }
        if old || learned.deeds.is_empty() {
            learned.relearning = RELEARN_EPOCHS;
        }
        let digest = Some(file.digest(SECTION)?);
        Ok(Self { file, learned, digest })
    }

    /// Alerts a day that it was last judged for.
    pub fn budget_per_day(&self) -> f64 {
        self.learned.floors.as_ref().map_or(1.0, |floors| floors.asked_per_day())
    }

    /// The key of the n-gram hash, from which the seed of the forest is derived.
    pub fn seed(&self) -> u64 {
        self.learned.seed
    }

    pub fn model_id(&self) -> &str {
        &self.learned.model_id
    }

    /// Whether what is counted by the profile of the model of this id is counted as by its own.
    pub fn has_profile_of(&self, model_id: &str) -> bool {
        let mut ids = std::iter::once(&self.learned.model_id).chain(&self.learned.profile_of);
        ids.any(|id| id == model_id)
    }

    /// Judges windows and early rows as the model was saved. Nothing is learned and nothing waits, so
    /// that neither order nor company matters; `None` for windows that weren't watched long enough,
    /// and where too little was learned of their length.
    pub fn judge(&self, windows: &[Window]) -> Vec<Option<Judged>> {
        let mut judged = vec![None; windows.len()];
        for (scale, learned) in &self.learned.scales {
            let of_scale = |(_, window): &(usize, &Window)| {
                window.time.scale == *scale && window.time.is_valid()
            };
            let (places, part): (Vec<usize>, Vec<&Window>) =
                windows.iter().enumerate().filter(of_scale).unzip();
            let scored = learned.detector.score(&learned.reference, &part);
            for ((place, window), scored) in places.into_iter().zip(part).zip(scored) {
                let surprise = learned.surprise(window, &scored);
                judged[place] =
                    Some(Judged { score: scored.forest, measure: scored.measure, surprise });
            }
        }
        judged
    }

    /// The forest of windows of one length; `None` where too few were seen to fit one.
    pub fn forest(&self, scale: Scale) -> Option<&IsolationForest> {
        self.learned.scales.get(&scale).map(|learned| learned.detector.forest())
    }

    /// Puts a forest that was fitted elsewhere in the place of a model's own. What was held back of
    /// the old one's measure says nothing of the new one's, so that windows of this length are silent
    /// until enough were held back anew; `origin` is what the model's new name is made of.
    ///
    /// # Errors
    /// The model has no windows of this length, or the forest reads other columns.
    pub fn put_forest(
        &mut self,
        scale: Scale,
        forest: IsolationForest,
        origin: &[u8],
    ) -> Result<()> {
        let Some(learned) = self.learned.scales.get_mut(&scale) else {
            return Err(Error::Exchange("the model has no forest of such windows".to_owned()));
        };
        if forest.n_features() != DEVIATIONS {
            return Err(Error::Exchange(format!(
                "the forest reads {} columns, windows have the {DEVIATIONS} deviations {}",
                forest.n_features(),
                deviation_columns().join(", ")
            )));
        }
        self.digest = None;
        learned.detector.put_forest(forest);
        learned.forget_held_back();
        // They make another forest.
        Parts::detach(&mut self.file);
        let mut hasher = Sha256::new();
        hasher.update(self.learned.model_id.as_bytes());
        hasher.update(origin);
        let old = std::mem::replace(&mut self.learned.model_id, hex(&hasher.finalize()[..8]));
        self.learned.profile_of.push(old);
        Ok(())
    }

    /// Takes over what an engine, which was made of this model, held back of windows of one length.
    pub fn take_held_back(&mut self, engine: &Engine, scale: Scale) {
        let held = engine.learned.get(&scale);
        self.digest = None;
        if let (Some(own), Some(held)) = (self.learned.scales.get_mut(&scale), held) {
            (own.tails, own.sequences) = (held.tails.clone(), held.sequences.clone());
        }
    }

    /// Programs of which enough windows of one length were held back to judge them by their own.
    pub fn measured_programs(&self, scale: Scale) -> usize {
        self.learned.scales.get(&scale).map_or(0, |learned| learned.tails.programs())
    }

    /// The model as a file.
    ///
    /// # Errors
    /// It can't be encoded.
    pub fn to_file(&self) -> Result<ModelFile> {
        let mut file = self.file.clone();
        attach(&mut file, &self.learned)?;
        Ok(file)
    }
}

/// What a frozen model says of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The isolation forest's (Liu 2008), in (0, 1].
    pub score: f64,
    /// Log-odds of the score and distance to the nearest neighbours.
    pub measure: f64,
    /// How surprising that is, in nats; `None` where nothing was held back of its kind.
    pub surprise: Option<f64>,
}

fn attach(file: &mut ModelFile, learned: &LearnedSection) -> Result<()> {
    // CBOR, since the nouns of the event crate describe themselves (tags, absent fields).
    let mut bytes = Vec::new();
    ciborium::into_writer(learned, &mut bytes).map_err(|why| Error::Encode(why.to_string()))?;
    Ok(file.attach(SECTION, VERSION, &bytes)?)
}

impl Engine {
    /// What was learned, for saving; `None` before scoring starts.
    pub fn save(&self) -> Result<Option<ModelFile>> {
        let (Phase::Scoring, Some(profile)) = (self.phase, &self.profile) else { return Ok(None) };
        let mut file = ModelFile::default();
        file.summary = self.summary();
        file.schema = schema();
        file.profile = Arc::clone(profile);
        self.grams.put_digests(&mut file.profile);
        let section = LearnedSection {
            model_id: self.model_id.clone(),
            seed: self.settings.seed,
            baseline: self.baseline.clone(),
            scales: self.learned.clone(),
            probation: self.probation.clone(),
            daily: self.daily.clone(),
            accepted: self.accepted.clone(),
            files: self.accepted.files().clone(),
            drift: self.drift.clone(),
            day: self.day,
            unsuspected: self.unsuspected.clone(),
            deeds: self.deeds.clone(),
            rates: self.rates.clone(),
            floors: Some(self.floors.clone()),
            notices: self.notices.clone(),
            relearning: self.relearning,
            learned_ns: self.learned_ns,
            profile_of: self.profile_of.clone(),
        };
        attach(&mut file, &section)?;
        Ok(Some(file))
    }

    /// What was saved is in a file by now: what is found from here on tells its digest.
    ///
    /// # Errors
    /// It can't be encoded.
    pub fn saved_as(&mut self, file: &ModelFile) -> Result<()> {
        self.model_digest = Some(file.digest(SECTION)?);
        Ok(())
    }

    fn summary(&self) -> TrainingSummary {
        let schedule = self.settings.schedule;
        let seconds = |epochs: u32| u64::from(epochs) * super::EPOCH_SECONDS;
        let mut summary = TrainingSummary {
            written_by: format!("hedgerow {}", env!("CARGO_PKG_VERSION")),
            host: self.settings.host_id.to_string(),
            ..TrainingSummary::default()
        };
        summary.part_s = BTreeMap::from([
            ("fill".to_owned(), seconds(schedule.fill)),
            ("fit".to_owned(), seconds(schedule.fit)),
            ("calibrate".to_owned(), seconds(schedule.calibrate)),
        ]);
        let programs = self.profile.as_ref().map_or(0, |profile| profile.programs.len());
        summary.counts = BTreeMap::from([
            ("programs".to_owned(), programs as u64),
            ("held_back_windows".to_owned(), self.held_back),
        ]);
        summary.notices =
            self.baseline.distrusted().iter().map(|object| object.to_string()).collect();
        summary
    }

    /// An engine that scores with a saved model.
    pub fn scoring(mut settings: Settings, saved: SavedModel) -> Result<Self> {
        let SavedModel { file, learned, digest } = saved;
        settings.seed = learned.seed;
        let mut engine = Self::empty(settings, learned.baseline);
        engine.daily = learned.daily;
        engine.daily.follow(&file.profile);
        engine.profile = Some(file.profile);
        engine.probation = learned.probation;
        engine.accepted = learned.accepted.with_files(learned.files);
        engine.drift = learned.drift;
        engine.day = learned.day;
        engine.unsuspected = learned.unsuspected;
        engine.phase = Phase::Scoring;
        engine.learned = learned.scales;
        engine.deeds = learned.deeds;
        engine.rates = learned.rates;
        engine.notices = learned.notices;
        engine.relearning = learned.relearning;
        engine.model_id = learned.model_id;
        engine.model_digest = digest;
        engine.learned_ns = learned.learned_ns;
        engine.profile_of = learned.profile_of;
        if let Some(floors) = learned.floors {
            engine.floors = floors;
        }
        // Who only asks what would be told asks for the boot that the model was saved in.
        let boot_id = &engine.settings.boot_id;
        if !boot_id.is_empty() && engine.notices.begin_boot(boot_id) {
            engine.floors.begin_boot();
        }
        engine.know_programs();
        // What was held back is scored by what is known today, by the floors of owners that follow from it,
        // too.
        engine.floors.rescore_all(&engine.rates);
        engine.solve();
        engine.floors.rescore_all(&engine.rates);
        // The operator's word of today holds, not that of when the model was learned.
        engine.set_budget(engine.settings.budget_per_day);
        Ok(engine)
    }

    /// The profile in force, for the kernel; `None` before the end of fill.
    pub fn profile(&self) -> Option<&crate::file::Profile> {
        self.profile.as_deref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_names_one_model_is_read_as_one_of_several() {
        #[derive(Deserialize)]
        struct Section {
            #[serde(default, deserialize_with = "one_or_many")]
            profile_of: Vec<String>,
        }
        let read = |section: BTreeMap<&str, ciborium::Value>| {
            let mut bytes = Vec::new();
            ciborium::into_writer(&section, &mut bytes).unwrap();
            ciborium::from_reader::<Section, _>(bytes.as_slice()).unwrap().profile_of
        };
        let text = |text: &str| ciborium::Value::Text(text.to_owned());
        assert_eq!(read(BTreeMap::new()), [""; 0]);
        assert_eq!(read(BTreeMap::from([("profile_of", text("a"))])), ["a"]);
        let both = ciborium::Value::Array(vec![text("a"), text("b")]);
        assert_eq!(read(BTreeMap::from([("profile_of", both)])), ["a", "b"]);
    }
}
