//! How a window's calls compare with those of its program before: in their order and in their mix.
//!
//! A program does a few different things, so that its mix of calls has no middle to be far from. What
//! is kept instead are *habits*: mixes of windows of *fill*, each apart from all others. A window is
//! as far from what is usual as from the most alike of them.
//!
//! The order is told by back-off: a call ends an unseen 6-gram, or even an unseen 3-gram, or 2-gram.
//! How much that says depends on how often the program shows new ones, which windows of *fit* tell,
//! since the n-grams and habits of fill are not theirs. Both numbers are multiples of what those had.

use std::sync::LazyLock;

use hedgerow_event::{CLASSES, calls::CLASS_NAMES};
use hedgerow_features::{Window, column_index};
use serde::{Deserialize, Serialize};

/// Habits of a group; where there are more, those that are less alike are kept.
const HABITS_MAX: usize = 256;
/// Hellinger distance (0 to 1) that habits are apart, at first and when there is no more room.
const APART: f32 = 0.05;
const APART_GROWS: f32 = 1.25;
/// What is held to be usual before anything is known: so many windows at such a distance, and one
/// unseen n-gram in so many calls.
const DISTANCE_PRIOR: f64 = 0.1;
const WINDOWS_PRIOR: f64 = 10.0;
const CALLS_PRIOR: f64 = 100.0;
/// What a program never shows is no rarer than this: a share of its calls.
const RATE_LEAST: f64 = 0.002;
/// What a window is usually, weighs so many units of the forest's log-odds (`datasets/README.md`).
const WEIGHT: f64 = 5.0;
/// Distances are summed up in such parts: a sum of integers is the same in any order.
const PARTS: f64 = 1e6;

/// Square roots of the shares of the classes, in 255ths.
pub type Mix = [u8; CLASSES];

/// Columns of the window: the first class, the calls that were checked, unseen n-grams of six, three
/// and two.
static COLUMNS: LazyLock<Option<(usize, usize, [usize; 3])>> = LazyLock::new(|| {
    let first = column_index(&format!("classes_{}_count", CLASS_NAMES[0]))?;
    let checked = column_index("order_checked_count")?;
    let unseen = |length: u32| column_index(&format!("order_unseen{length}_count"));
    Some((first, checked, [unseen(6)?, unseen(3)?, unseen(2)?]))
});

/// What is known of a group's sequences of calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequences {
    habits: Habits,
    usual: Usual,
}

/// A window's calls in multiples of what is usual.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sequence {
    /// Mean over the lengths of ln(1 + the share of unseen n-grams in units of the usual one).
    pub order: f64,
    /// Distance to the most alike habit in units of the usual one.
    pub mix: f64,
}

/// Mixes of calls, each apart from all others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    /// By class: the part of each habit; empty for a class that none has.
    parts: Vec<Vec<u8>>,
    /// By habit: one divided by the length of its mix.
    scales: Vec<f32>,
    apart: f32,
}

/// Sums over windows of *fit*.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    windows: u64,
    distances: u64,
    checked: u64,
    unseen: [u64; 3],
}

/// The mix of a window's calls; `None` without calls.
fn mix(window: &Window) -> Option<Mix> {
    let first = COLUMNS.as_ref()?.0;
    let counts = window.values.get(first..first + CLASSES)?;
    // Whole numbers: their sum is the same in any order.
    let mut sums = [0.0; 8];
    for counts in counts.chunks_exact(sums.len()) {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let calls: f64 = sums.iter().sum();
    let mut mix = [0; CLASSES];
    for (part, count) in mix.iter_mut().zip(counts).filter(|(_, count)| **count > 0.0) {
        *part = (255.0 * (count / calls).sqrt()).round() as u8;
    }
    (calls > 0.0).then_some(mix)
}

/// Calls that were checked, and those that ended an unseen n-gram; `None` where none was.
fn unseen(window: &Window) -> Option<(f64, [f64; 3])> {
    let (_, checked, unseen) = (*COLUMNS).as_ref()?;
    let value = |column: &usize| window.values.get(*column).copied().unwrap_or(f64::NAN);
    let (checked, unseen) = (value(checked), unseen.each_ref().map(value));
    (checked > 0.0 && unseen.iter().all(|count| !count.is_nan())).then_some((checked, unseen))
}

fn scale(mix: &Mix) -> f32 {
    let square: u32 = mix.iter().map(|part| u32::from(*part).pow(2)).sum();
    1.0 / (square.max(1) as f32).sqrt()
}

impl Habits {
    /// Takes a mix in that is apart from all that are there.
    fn add(&mut self, mix: &Mix) {
        self.apart = self.apart.max(APART);
        while self.distance(mix).is_none_or(|distance| distance > self.apart) {
            if self.scales.len() < HABITS_MAX {
                self.put(mix);
                return;
            }
            let (kept, apart) = (self.mixes(), self.apart * APART_GROWS);
            *self = Self { apart, ..Self::default() };
            for kept in kept {
                if self.distance(&kept).is_none_or(|distance| distance > apart) {
                    self.put(&kept);
                }
            }
        }
    }

    fn put(&mut self, mix: &Mix) {
        self.parts.resize(CLASSES, Vec::new());
        for (parts, part) in self.parts.iter_mut().zip(mix) {
            if *part > 0 {
                parts.resize(self.scales.len(), 0);
            }
            if *part > 0 || !parts.is_empty() {
                parts.push(*part);
            }
        }
        self.scales.push(scale(mix));
    }

    fn mixes(&self) -> Vec<Mix> {
        let part = |class: usize, habit: usize| {
            self.parts.get(class).and_then(|parts| parts.get(habit)).copied().unwrap_or(0)
        };
        (0..self.scales.len())
            .map(|habit| std::array::from_fn(|class| part(class, habit)))
            .collect()
    }

    /// Hellinger distance to the most alike habit; `None` where there is none.
    fn distance(&self, mix: &Mix) -> Option<f32> {
        let mut overlaps = [0u32; HABITS_MAX];
        for (parts, part) in self.parts.iter().zip(mix).filter(|(_, part)| **part > 0) {
            for (overlap, other) in overlaps.iter_mut().zip(parts) {
                *overlap += u32::from(*part) * u32::from(*other);
            }
        }
        let alike = overlaps.iter().zip(&self.scales);
        let most = alike.map(|(overlap, scale)| *overlap as f32 * scale).reduce(f32::max)?;
        Some((1.0 - most * scale(mix)).max(0.0).sqrt())
    }
}

impl Sequences {
    /// Of mixes, taken in in this order, and of what is usual beside them.
    pub fn of_mixes<'a>(mixes: impl Iterator<Item = &'a Mix>, usual: Usual) -> Self {
        let mut habits = Habits::default();
        mixes.for_each(|mix| habits.add(mix));
        Self { habits, usual }
    }

    pub fn mixes(&self) -> Vec<Mix> {
        self.habits.mixes()
    }

    pub fn usual(&self) -> &Usual {
        &self.usual
    }

    pub fn is_empty(&self) -> bool {
        self.habits.scales.is_empty()
    }

    /// Adds a window of *fill*.
    pub fn add(&mut self, window: &Window) {
        if let Some(mix) = mix(window) {
            self.habits.add(&mix);
        }
    }

    /// Adds a window of *fit*: what is usual beside what fill knows.
    pub fn add_usual(&mut self, window: &Window) {
        if let Some(distance) = mix(window).and_then(|mix| self.habits.distance(&mix)) {
            self.usual.windows += 1;
            self.usual.distances += (f64::from(distance) * PARTS).round() as u64;
        }
        if let Some((checked, unseen)) = unseen(window) {
            self.usual.checked += checked as u64;
            for (sum, unseen) in self.usual.unseen.iter_mut().zip(unseen) {
                *sum += unseen as u64;
            }
        }
    }

    /// A window beside what is usual; `None` where no habits are known.
    pub fn of(&self, window: &Window) -> Option<Sequence> {
        let distance = f64::from(self.habits.distance(&mix(window)?)?);
        let order = unseen(window).map_or(0.0, |(checked, unseen)| {
            let known = self.usual.checked as f64 + CALLS_PRIOR;
            let terms = unseen.iter().zip(self.usual.unseen).filter(|(unseen, _)| **unseen > 0.0);
            let terms = terms.map(|(unseen, usual)| {
                let rate = ((usual as f64 + 1.0) / known).max(RATE_LEAST);
                (unseen / checked / rate).ln_1p()
            });
            terms.sum::<f64>() / 3.0
        });
        Some(Sequence { order, mix: distance / self.usual.distance() })
    }
}

impl Usual {
    /// Adds the sums of another run.
    pub fn absorb(&mut self, other: &Self) {
        self.windows += other.windows;
        self.distances += other.distances;
        self.checked += other.checked;
        self.unseen.iter_mut().zip(other.unseen).for_each(|(sum, unseen)| *sum += unseen);
    }

    fn distance(&self) -> f64 {
        let sum = self.distances as f64 / PARTS + WINDOWS_PRIOR * DISTANCE_PRIOR;
        (sum / (self.windows as f64 + WINDOWS_PRIOR)).max(DISTANCE_PRIOR)
    }
}

impl Sequence {
    /// What is added to the amounts of a window.
    pub fn measure(self) -> f64 {
        WEIGHT * (self.order + self.mix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Epoch, Loss, Scale};
    use hedgerow_features::{COLUMNS as ALL, WindowTime};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::common;

    /// A window of calls by class, with as many checked, of which some ended unseen n-grams.
    fn window(classes: &[(usize, f64)], unseen: [f64; 3]) -> Window {
        let (first, checked, columns) = COLUMNS.unwrap();
        let mut window = Window {
            host: "h".into(),
            subject: common::subject("web.service", "/usr/bin/web"),
            time: WindowTime {
                scale: Scale::Seconds5,
                epoch: Epoch(0),
                parts: 1,
                start_boot_ns: 0,
                end_boot_ns: 5_000_000_000,
                realtime_offset_ns: 0,
                suspended_ns: 0,
                unattributed: Loss::default(),
                shed: false,
            },
            early: None,
            hard: false,
            programs: 1,
            records: 0,
            loss: Loss::default(),
            values: vec![f64::NAN; ALL.len()].into(),
        };
        window.values[first..first + CLASSES].fill(0.0);
        classes.iter().for_each(|(class, count)| window.values[first + class] = *count);
        window.values[checked] = classes.iter().map(|(_, count)| count).sum();
        for (column, unseen) in columns.into_iter().zip(unseen) {
            window.values[column] = unseen;
        }
        window
    }

    #[test]
    fn classes_stand_one_after_another() {
        let first = COLUMNS.unwrap().0;
        for (column, name) in ALL[first..].iter().zip(CLASS_NAMES) {
            assert_eq!(*column.name, format!("classes_{name}_count"));
        }
    }

    /// It reads, or it maps; never half of both, which lies in the middle of what it does.
    #[test]
    fn what_lies_between_two_habits_is_neither() {
        let mut known = Sequences::default();
        assert_eq!(known.of(&window(&[(1, 9.0)], [0.0; 3])), None);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut lived = |unseen| {
            let (most, some) = (rng.gen_range(80.0..99.0), rng.gen_range(1.0..9.0));
            let class = rng.gen_range(0..2);
            window(&[(class, most), (5, some)], unseen)
        };
        (0..300).for_each(|_| known.add(&lived([0.0; 3])));
        (0..100).for_each(|_| known.add_usual(&lived([10.0, 1.0, 0.0])));
        let usual = known.of(&lived([10.0, 1.0, 0.0])).unwrap();
        assert!(usual.mix < 1.0 && (0.3..0.7).contains(&usual.order), "{usual:?}");
        let between = known.of(&window(&[(0, 50.0), (1, 50.0)], [10.0, 1.0, 0.0])).unwrap();
        assert!(between.mix > 3.0, "{between:?}");
        // As many calls out of order, but of an order that it never breaks.
        let strange = known.of(&window(&[(0, 100.0)], [10.0, 10.0, 10.0])).unwrap();
        assert!(strange.order > usual.order + 1.0, "{strange:?}");
    }

    #[test]
    fn habits_stay_within_their_room_and_near_what_was_seen() {
        let mut habits = Habits::default();
        let mut rng = SmallRng::seed_from_u64(2);
        let mut any = || -> Mix {
            let mut counts = [0.0; CLASSES];
            (0..60).for_each(|_| counts[rng.gen_range(0..6)] += f64::from(rng.gen_range(1..20)));
            let calls: f64 = counts.iter().sum();
            counts.map(|count| (255.0 * (count / calls).sqrt()).round() as u8)
        };
        let mixes: Vec<Mix> = (0..3_000).map(|_| any()).collect();
        mixes.iter().for_each(|mix| habits.add(mix));
        let count = habits.scales.len();
        assert!((HABITS_MAX / 4..=HABITS_MAX).contains(&count), "{count}");
        // What made room is near another, which may have made room later: each time a quarter farther.
        for mix in &mixes {
            assert!(habits.distance(mix).unwrap() < 5.0 * habits.apart);
        }
    }
}
