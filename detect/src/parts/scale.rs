//! What runs taught of windows of one length.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{Epoch, Loss, Scale, Subject, Workload};
use hedgerow_features::{ItemKey, Window, WindowTime};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{draw, keep, packed::Packed};
use crate::{
    detector::{Detector, FIT_ROWS_LEAST, FIT_ROWS_MAX, Scored, rows},
    reference::{GROUPS_MAX, Reference, SAMPLE_MAX, Usual},
    scale::{Counts, Learned},
    surprise::tails::{BLOCK_EPOCHS, KEPT_MAX, Tails},
};

/// By what a sample is drawn, and what makes it no other row's: run, and epoch or block.
type Place = (u64, u64, u32);
/// A group by a hash of its name, by which some are kept where there are too many.
type Hashed<T> = (u64, T);

/// One subject's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct SubjectPart {
    usual: Usual,
    /// Windows of *fill*, as many as medians are estimated from.
    fill: BTreeMap<Place, Packed>,
    /// Windows held back, and blocks of them, as many as a tail keeps.
    held_back: u64,
    blocks: BTreeMap<Place, Block>,
}

/// The windows of a block that went farthest by their amounts, and with the order and mix of their
/// calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Block {
    amounts: Packed,
    /// `None` where it is the same one.
    measure: Option<Packed>,
    /// How far, by the model of its own run; of no use past it.
    #[serde(skip)]
    far: [f64; 2],
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalePart {
    subjects: BTreeMap<Hashed<Arc<Subject>>, SubjectPart>,
    workloads: BTreeMap<Hashed<Workload>, Usual>,
    host: Usual,
    /// Windows of *fit*, as many as the forest is fitted on.
    fit: BTreeMap<Place, (Arc<Subject>, Packed)>,
    #[serde(default)]
    counts: Counts,
}

/// Windows in the order of their numbers, and a subject's place among them.
fn place(run: u64, subject: u64, epoch: u32) -> Place {
    (draw(&[run, subject, u64::from(epoch)]), run, epoch)
}

/// Whether there is room for a row, maybe in the place of another one.
fn has_room<V>(map: &BTreeMap<Place, V>, at: &Place, most: usize) -> bool {
    map.len() < most || map.last_key_value().is_some_and(|(last, _)| at < last)
}

impl Block {
    fn new(packed: Packed, far: [f64; 2]) -> Self {
        Self { amounts: packed, measure: None, far }
    }

    fn add(&mut self, packed: Packed, far: [f64; 2]) {
        if far[1] > self.far[1] {
            self.far[1] = far[1];
            self.measure = Some(packed.clone());
        }
        if far[0] > self.far[0] {
            self.far[0] = far[0];
            let before = std::mem::replace(&mut self.amounts, packed);
            self.measure.get_or_insert(before);
        }
        if self.measure.as_ref() == Some(&self.amounts) {
            self.measure = None;
        }
    }
}

impl ScalePart {
    fn subject(&mut self, key: ItemKey, subject: &Arc<Subject>) -> Option<&mut SubjectPart> {
        let hashed = (key.subject(subject), Arc::clone(subject));
        if !self.subjects.contains_key(&hashed) {
            let full = self.subjects.len() >= GROUPS_MAX;
            if full && self.subjects.last_key_value().is_some_and(|(last, _)| hashed > *last) {
                return None;
            }
            self.subjects.insert(hashed.clone(), SubjectPart::default());
            keep(&mut self.subjects, GROUPS_MAX);
        }
        self.subjects.get_mut(&hashed)
    }

    /// A window of *fill*.
    pub fn add_fill(&mut self, key: ItemKey, run: u64, window: &Window) {
        let at = place(run, key.subject(&window.subject), window.time.epoch.0);
        let Some(subject) = self.subject(key, &window.subject) else { return };
        if has_room(&subject.fill, &at, SAMPLE_MAX) {
            subject.fill.insert(at, Packed::of(window));
            keep(&mut subject.fill, SAMPLE_MAX);
        }
    }

    /// A window of *fit*.
    pub fn add_fit(&mut self, key: ItemKey, run: u64, window: &Window) {
        let at = place(run, key.subject(&window.subject), window.time.epoch.0);
        if has_room(&self.fit, &at, FIT_ROWS_MAX) {
            self.fit.insert(at, (Arc::clone(&window.subject), Packed::of(window)));
            keep(&mut self.fit, FIT_ROWS_MAX);
        }
    }

    /// A window of *calibrate*. The blocks that are kept are the same ones of all subjects, as far as
    /// they had windows then, so that the largest of a workload's are among them.
    pub fn hold_back(&mut self, key: ItemKey, run: u64, window: &Window, scored: &Scored) {
        let block = window.time.epoch.0 / BLOCK_EPOCHS;
        let at = (draw(&[run, u64::from(block)]), run, block);
        let Some(subject) = self.subject(key, &window.subject) else { return };
        subject.held_back += 1;
        let far = [scored.amounts, scored.measure];
        if let Some(block) = subject.blocks.get_mut(&at) {
            if far[0] > block.far[0] || far[1] > block.far[1] {
                block.add(Packed::of(window), far);
            }
        } else if has_room(&subject.blocks, &at, KEPT_MAX) {
            subject.blocks.insert(at, Block::new(Packed::of(window), far));
            keep(&mut subject.blocks, KEPT_MAX);
        }
    }

    /// Ends a run: what its ranges and counts know of the groups.
    pub fn end(&mut self, key: ItemKey, reference: &Reference, counts: Counts) {
        for ((_, subject), part) in &mut self.subjects {
            part.usual = reference.usual_of(subject).unwrap_or_default();
        }
        self.workloads = reference
            .usual_of_workloads()
            .map(|(name, usual)| ((key.workload(name), name.clone()), usual))
            .collect();
        self.host = reference.usual_of_host();
        self.counts = counts;
    }

    /// Adds what other runs taught.
    pub fn absorb(&mut self, other: Self, key: ItemKey) {
        for (hashed, part) in other.subjects {
            let own = self.subjects.entry(hashed).or_default();
            own.usual.absorb(part.usual);
            own.fill.extend(part.fill);
            keep(&mut own.fill, SAMPLE_MAX);
            own.held_back += part.held_back;
            own.blocks.extend(part.blocks);
            keep(&mut own.blocks, KEPT_MAX);
        }
        keep(&mut self.subjects, GROUPS_MAX);
        for (hashed, usual) in other.workloads {
            self.workloads.entry(hashed).or_default().absorb(usual);
        }
        keep(&mut self.workloads, GROUPS_MAX);
        self.host.absorb(other.host);
        self.fit.extend(other.fit);
        keep(&mut self.fit, FIT_ROWS_MAX);
        self.counts.absorb(other.counts, |name| key.path(name));
    }

    /// What all of them know; `None` where too few windows are there for a forest.
    pub fn learned(&self, seed: u64) -> crate::Result<Option<Learned>> {
        if self.fit.len() < FIT_ROWS_LEAST {
            return Ok(None);
        }
        let reference = self.reference();
        let deviations: Vec<_> = self
            .fit
            .values()
            .map(|(subject, packed)| reference.deviation(&window(subject, packed)))
            .collect();
        let deviations: Array2<f32> = rows(deviations.iter());
        let detector = Detector::fit(&deviations, seed)?;
        let (tails, sequences) = self.tails(&reference, &detector);
        let counts = self.counts.clone();
        Ok(Some(Learned { reference, detector, counts, tails, sequences, recent: None }))
    }

    fn reference(&self) -> Reference {
        type Windows = BTreeMap<(Place, u64), Box<[f64]>>;
        let windows: BTreeMap<&Arc<Subject>, Windows> = self
            .subjects
            .iter()
            .map(|((hash, subject), part)| {
                let unpacked = |(at, packed): (&Place, &Packed)| ((*at, *hash), packed.values());
                (subject, part.fill.iter().map(unpacked).collect())
            })
            .collect();
        // A sample of the samples' rows is one of all rows, since all draw from the same numbers.
        let least = |of: &dyn Fn(&Subject) -> bool| -> Vec<&[f64]> {
            let own = windows.iter().filter(|(subject, _)| of(subject));
            let mut all: BTreeMap<&(Place, u64), &[f64]> = BTreeMap::new();
            for (at, values) in own.flat_map(|(_, windows)| windows) {
                all.insert(at, values);
                keep(&mut all, SAMPLE_MAX);
            }
            all.into_values().collect()
        };
        let subjects = self.subjects.iter().map(|((_, subject), part)| {
            (subject, &part.usual, windows[subject].values().map(|values| &**values).collect())
        });
        let workloads = self.workloads.iter().map(|((_, name), usual)| {
            (name, usual, least(&|subject| !subject.is_host() && subject.workload == *name))
        });
        let host = (&self.host, least(&|subject| !subject.is_host()));
        Reference::joined(subjects, workloads, host)
    }

    /// Tails of the amounts and of the measure, by what the detector of all says of the blocks.
    fn tails(&self, reference: &Reference, detector: &Detector) -> (Tails, Tails) {
        let mut tails = [Blocks::default(), Blocks::default()];
        for ((_, subject), part) in &self.subjects {
            if part.held_back == 0 {
                continue;
            }
            let amounts = part.blocks.values().map(|block| &block.amounts);
            let measures =
                part.blocks.values().map(|block| block.measure.as_ref().unwrap_or(&block.amounts));
            let windows: Vec<Window> =
                amounts.chain(measures).map(|packed| window(subject, packed)).collect();
            let scored = detector.score(reference, &windows);
            let (first, second) = scored.split_at(part.blocks.len());
            let places = || part.blocks.keys().copied();
            tails[0].add(subject, part.held_back, places().zip(first.iter().map(|s| s.amounts)));
            tails[1].add(subject, part.held_back, places().zip(second.iter().map(|s| s.measure)));
        }
        let [amounts, measures] = tails.map(Blocks::tails);
        (amounts, if reference.knows_sequences() { measures } else { Tails::default() })
    }
}

type Group = (u64, BTreeMap<Place, f64>);

/// Largest measures of blocks, by group.
#[derive(Debug, Default)]
struct Blocks {
    subjects: BTreeMap<String, Group>,
    workloads: BTreeMap<Workload, Group>,
    host: Group,
}

impl Blocks {
    fn add(
        &mut self,
        subject: &Subject,
        windows: u64,
        largest: impl Iterator<Item = (Place, f64)> + Clone,
    ) {
        let add = |group: &mut Group| {
            group.0 += windows;
            for (at, x) in largest.clone() {
                let own = group.1.entry(at).or_insert(x);
                *own = own.max(x);
            }
            keep(&mut group.1, KEPT_MAX);
        };
        add(self.subjects.entry(subject.text()).or_default());
        if !subject.is_host() {
            add(self.workloads.entry(subject.workload.clone()).or_default());
            add(&mut self.host);
        }
    }

    fn tails(self) -> Tails {
        let held = |(windows, blocks): Group| (windows, blocks.into_values().collect());
        Tails::of_blocks(
            self.subjects.into_iter().map(|(name, group)| (name, held(group))).collect(),
            self.workloads.into_iter().map(|(name, group)| (name, held(group))).collect(),
            held(self.host),
        )
    }
}

/// A kept window, as far as it is judged by its values.
fn window(subject: &Arc<Subject>, packed: &Packed) -> Window {
    let time = WindowTime {
        scale: Scale::Seconds5,
        epoch: Epoch(0),
        parts: 1,
        start_boot_ns: 0,
        end_boot_ns: 0,
        realtime_offset_ns: 0,
        suspended_ns: 0,
        unattributed: Loss::default(),
        shed: false,
    };
    Window {
        host: "".into(),
        subject: Arc::clone(subject),
        time,
        early: None,
        hard: false,
        programs: 1,
        records: 0,
        loss: Loss::default(),
        values: packed.values(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Program;
    use hedgerow_features::COLUMNS;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{reference::Deviation, said::finding::hex};

    const KEY: ItemKey = ItemKey(7);

    /// One run, with more of everything than is kept.
    fn run(id: u64) -> ScalePart {
        let mut rng = SmallRng::seed_from_u64(id);
        let mut part = ScalePart::default();
        for epoch in 0..3_000 {
            let at = rng.gen_range(0..4);
            let program = Program::new(format!("/usr/bin/{at}"));
            let subject = Arc::new(Subject::new(Workload::new("web.service"), program));
            let mut window = blank(&subject);
            window.time.epoch = Epoch(epoch * 30);
            for _ in 0..6 {
                let column = rng.gen_range(0..COLUMNS.len());
                window.values[column] = f64::from(rng.gen_range(0..50));
            }
            match epoch % 3 {
                0 => part.add_fill(KEY, id, &window),
                1 => part.add_fit(KEY, id, &window),
                _ => {
                    let measure = rng.gen_range(0.0..9.0);
                    let deviation = Deviation { row: [0.0; 20], column: [None; 20] };
                    let (nats, text) = (None, subject.text());
                    let (forest, amounts) = (0.5, measure);
                    let scored = Scored { text, forest, amounts, measure, nats, deviation };
                    part.hold_back(KEY, id, &window, &scored);
                }
            }
        }
        part
    }

    fn blank(subject: &Arc<Subject>) -> Window {
        let mut window = window(subject, &Packed::default());
        window.values.fill(0.0);
        window
    }

    fn joined(order: &[u64]) -> ScalePart {
        let mut all = run(order[0]);
        order[1..].iter().for_each(|id| all.absorb(run(*id), KEY));
        all
    }

    fn bytes(part: &ScalePart) -> String {
        let mut bytes = Vec::new();
        ciborium::into_writer(part, &mut bytes).unwrap();
        hex(&bytes)
    }

    #[test]
    fn samples_of_samples_are_samples_of_all() {
        let all = joined(&[1, 2, 3, 4]);
        assert!(all.subjects.values().all(|part| part.fill.len() == SAMPLE_MAX));
        assert!(all.subjects.values().all(|part| part.blocks.len() == KEPT_MAX));
        let mut pairs = joined(&[4, 2]);
        pairs.absorb(joined(&[3, 1]), KEY);
        assert!(bytes(&all) == bytes(&pairs) && bytes(&all) == bytes(&joined(&[3, 2, 4, 1])));
    }

    #[test]
    fn what_is_packed_is_unpacked_bit_for_bit() {
        let subject = Arc::new(Subject::host());
        let mut window = blank(&subject);
        for (at, value) in [1.0, f64::NAN, -0.0, 1e300, 0.1].into_iter().enumerate() {
            window.values[at * 7] = value;
        }
        let values = Packed::of(&window).values();
        let bits = |values: &[f64]| -> Vec<u64> {
            values.iter().map(|value| if value.is_nan() { 1 } else { value.to_bits() }).collect()
        };
        assert_eq!(bits(&values), bits(&window.values));
    }
}
