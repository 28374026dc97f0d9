//! Labels instead of scores: a detector with a threshold, as scikit-learn's `predict`.
//!
//! [`LabelParams`] wraps the hyper-parameters of any detector of this crate. Fitting fits the
//! detector, scores the training rows, and puts the threshold where the asked share of them
//! (*contamination*) lies above. A label is true for a row that scores above the threshold.
//!
//! Training rows judge themselves here, so the share of fresh normal rows that is labelled is not
//! guaranteed; where rows can be held back, [`calibration`](crate::calibration) keeps its promise.

use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use linfa::{Float, ParamGuard};
use ndarray::{Array1, ArrayBase, Data, Ix2};
use thiserror::Error;

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum LabelParamsError {
    /// `contamination` must be in (0, 0.5].
    #[error("the contamination must be in (0, 0.5], not {0}")]
    Contamination(f64),
}

/// Why no detector with labels was fitted; `E` is the detector's own error.
#[derive(Debug, Error)]
pub enum LabelError<E: std::error::Error + 'static> {
    /// The contamination is out of range.
    #[error(transparent)]
    Params(#[from] LabelParamsError),
    /// The detector can't be fitted.
    #[error("the detector can't be fitted")]
    Detector(#[source] E),
    /// An error of linfa's data structures.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// Checked hyper-parameters of a [`Labelled`] detector.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelValidParams<P> {
    detector: P,
    contamination: f64,
}

impl<P> LabelValidParams<P> {
    /// Hyper-parameters of the detector.
    pub fn detector(&self) -> &P {
        &self.detector
    }

    /// Share of the training rows above the threshold.
    pub fn contamination(&self) -> f64 {
        self.contamination
    }
}

/// Hyper-parameters of a [`Labelled`] detector, to be checked by [`ParamGuard`].
///
/// ```
/// use hedgerow_model::IsolationForest;
/// use hedgerow_model::labels::LabelParams;
/// use linfa::prelude::*;
/// use ndarray::{Array2, array};
///
/// let rows = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
/// let params = LabelParams::new(IsolationForest::params()).contamination(0.01);
/// let labelled = params.fit(&Dataset::from(rows)).expect("there are rows");
/// assert_eq!(labelled.predict(&array![[0.0, 0.0], [9.0, -9.0]]), array![false, true]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LabelParams<P>(LabelValidParams<P>);

impl<P> LabelParams<P> {
    /// A contamination of 0.1 for the detector with these hyper-parameters.
    pub fn new(detector: P) -> Self {
        Self(LabelValidParams { detector, contamination: 0.1 })
    }

    /// Sets the share of the training rows that is to lie above the threshold (default 0.1).
    pub fn contamination(mut self, contamination: f64) -> Self {
        self.0.contamination = contamination;
        self
    }
}

impl<P> ParamGuard for LabelParams<P> {
    type Checked = LabelValidParams<P>;
    type Error = LabelParamsError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let contamination = self.0.contamination;
        if !(contamination > 0.0 && contamination <= 0.5) {
            return Err(LabelParamsError::Contamination(contamination));
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}

/// A detector and the score above which a row is anomalous.
///
/// `predict` takes an (n rows, columns) matrix and gives n labels, true for an anomalous row. A
/// score that is no number is not above any threshold.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Labelled<M> {
    detector: M,
    threshold: f64,
}

impl<M> Labelled<M> {
    /// Labels by a threshold of one's own, in units of the detector's score.
    pub fn with_threshold(detector: M, threshold: f64) -> Self {
        Labelled { detector, threshold }
    }

    /// The detector, for its scores.
    #[must_use]
    pub fn detector(&self) -> &M {
        &self.detector
    }

    /// The score above which a row is anomalous.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }
}

impl<F, D, T, P, E> Fit<ArrayBase<D, Ix2>, T, LabelError<E>> for LabelValidParams<P>
where
    F: Float,
    D: Data<Elem = F>,
    P: Fit<ArrayBase<D, Ix2>, T, E>,
    P::Object: PredictInplace<ArrayBase<D, Ix2>, Array1<F>>,
    E: std::error::Error + From<linfa::Error> + 'static,
{
    type Object = Labelled<P::Object>;

    /// Fits the detector and its threshold: the least score that no more than the asked share of
    /// the records lies above, which is fewer where scores are equal. Targets are ignored.
    ///
    /// # Errors
    /// If the detector can't be fitted.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self::Object, LabelError<E>> {
        let detector = self.detector.fit(dataset).map_err(LabelError::Detector)?;
        let mut scores = detector.default_target(dataset.records());
        detector.predict_inplace(dataset.records(), &mut scores);
        let mut scores: Vec<f64> = scores.iter().map(|&score| in_f64(score)).collect();
        scores.sort_unstable_by(f64::total_cmp);
        let above = (self.contamination * scores.len() as f64) as usize;
        let threshold = scores[scores.len() - 1 - above.min(scores.len() - 1)];
        Ok(Labelled { detector, threshold })
    }
}

impl<F, D, M> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for Labelled<M>
where
    F: Float,
    D: Data<Elem = F>,
    M: PredictInplace<ArrayBase<D, Ix2>, Array1<F>>,
{
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<bool>) {
        let mut scores = self.detector.default_target(x);
        self.detector.predict_inplace(x, &mut scores);
        assert_eq!(
            scores.len(),
            y.len(),
            "The number of data points must match the number of output targets."
        );
        y.zip_mut_with(&scores, |label, &score| *label = in_f64(score) > self.threshold);
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(x.nrows(), false)
    }
}

fn in_f64<F: Float>(score: F) -> f64 {
    // f32 and f64 always succeed.
    score.to_f64().unwrap_or(f64::NAN)
}
