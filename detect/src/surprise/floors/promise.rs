//! What floors promise, as it is told.

use hedgerow_event::Class;
use serde::{Deserialize, Serialize};

use super::Floors;

/// What a budget asks, expects and had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    pub asked_per_day: f64,
    /// By the rates and the held-back hours, of what is above the floors.
    pub expected_per_day: f64,
    pub hours_held_back: f64,
    pub classes: Vec<ClassPromise>,
    /// Least surprise from which what several trees did is told; `None`: nothing is.
    #[serde(default)]
    pub campaign_floor: Option<f64>,
    /// Classes of which what is above the floor is only listed, since too little is known of the host.
    #[serde(default)]
    pub only_listed: Vec<Class>,
    /// Hours that are missing until it isn't; of a program that came later there are more.
    #[serde(default)]
    pub hours_missing: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassPromise {
    pub class: Class,
    /// Least surprise that notifies, in nats; `None`: nothing does.
    pub floor: Option<f64>,
    pub expected_per_day: f64,
    /// The held-back hours support the share by themselves; else the rates extrapolate.
    pub supported: bool,
}

impl Floors {
    pub fn promise(&self) -> Promise {
        let classes = Class::ALL.map(|class| {
            let expected_per_day = 24.0 * self.floors.get(&class).map_or(0.0, |(_, rate)| *rate);
            let floor = Some(self.floor(class)).filter(|floor| floor.is_finite());
            ClassPromise { class, floor, expected_per_day, supported: self.supports(class) }
        });
        Promise {
            asked_per_day: self.per_day,
            expected_per_day: classes.iter().map(|class| class.expected_per_day).sum::<f64>()
                + self.campaign.map_or(0.0, |(_, expected)| 24.0 * expected),
            hours_held_back: self.watched(),
            classes: classes.into(),
            campaign_floor: Some(self.campaign_floor()).filter(|floor| floor.is_finite()),
            only_listed: Class::ALL
                .into_iter()
                .filter(|class| !self.tells(*class, self.known))
                .collect(),
            hours_missing: self.hours_missing(self.known),
        }
    }
}
