//! Model files, and what a frozen one says of windows.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    },
    datatypes::{DataType, Field, Schema},
};
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use hedgerow_detect::SavedModel;
use hedgerow_features::{Window, from_batch};
use hedgerow_offline::scores::scores_schema;
use pyo3::prelude::*;

use crate::error;

/// A model as it was saved: it judges, and learns nothing.
#[pyclass(frozen, module = "hedgerow._hedgerow")]
pub struct Model(SavedModel);

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| SavedModel::load(&path)).map(Self).map_err(error)
    }

    #[getter]
    fn id(&self) -> &str {
        self.0.model_id()
    }

    /// Schema of what `score` gives.
    #[staticmethod]
    fn schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        schema().to_pyarrow(py)
    }

    /// Judges a record batch of windows.
    fn score<'py>(
        &self,
        py: Python<'py>,
        batch: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let batch = RecordBatch::from_pyarrow_bound(batch)?;
        let scored = py.detach(|| self.scored(&batch))?;
        scored.to_pyarrow(py)
    }
}

/// The columns of `hedgerow score` that hang on the window and the model alone, in their order; then
/// what the surprise comes from.
fn schema() -> Schema {
    let read = hedgerow_detect::deviation_columns();
    let alone = |field: &&Arc<Field>| {
        let name = field.name();
        !["floor_nats", "finding_uid"].contains(&name.as_str()) && !read.contains(name)
    };
    let mut fields: Vec<_> = scores_schema().fields().iter().filter(alone).cloned().collect();
    // A scale of which too little was learned judges nothing.
    for field in &mut fields {
        if field.name() == "score" {
            *field = Arc::new(field.as_ref().clone().with_nullable(true));
        }
    }
    fields.push(Arc::new(Field::new("measure", DataType::Float64, true)));
    fields.push(Arc::new(Field::new("p", DataType::Float64, true)));
    Schema::new(fields)
}

impl Model {
    fn scored(&self, batch: &RecordBatch) -> PyResult<RecordBatch> {
        let windows = from_batch(batch).map_err(error)?;
        let judged = self.0.judge(&windows);
        let text = |of: fn(&Window) -> Option<&str>| -> ArrayRef {
            Arc::new(windows.iter().map(of).collect::<StringArray>())
        };
        let count = |of: fn(&Window) -> Option<u32>| -> ArrayRef {
            Arc::new(windows.iter().map(of).collect::<UInt32Array>())
        };
        let time = |of: fn(&Window) -> u64| -> ArrayRef {
            let wall = |window: &Window| {
                window.time.realtime_offset_ns.saturating_add_unsigned(of(window))
            };
            let times = TimestampNanosecondArray::from_iter_values(windows.iter().map(wall));
            Arc::new(times.with_timezone("UTC"))
        };
        let number = |of: fn(&hedgerow_detect::Judged) -> Option<f64>| -> ArrayRef {
            Arc::new(
                judged.iter().map(|judged| judged.as_ref().and_then(of)).collect::<Float64Array>(),
            )
        };
        let columns = vec![
            text(|window| Some(&window.host)),
            text(|window| Some(window.subject.workload.as_str())),
            text(|window| Some(&window.subject.program.path)),
            text(|window| window.subject.program.script.as_deref()),
            count(|window| Some(window.time.scale.epochs())),
            count(|window| Some(window.time.epoch.0)),
            count(|window| window.early),
            time(|window| window.time.start_boot_ns),
            time(|window| window.time.end_boot_ns),
            number(|judged| Some(judged.score)),
            number(|judged| judged.surprise),
            number(|judged| Some(judged.measure)),
            number(|judged| judged.surprise.map(|nats| (-nats).exp())),
        ];
        RecordBatch::try_new(Arc::new(schema()), columns).map_err(error)
    }
}
