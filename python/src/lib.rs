//! Hedgerow for Python: the isolation forest over buffers where they lie, captures as Arrow streams,
//! frozen models, and the offline verbs. What people call is in `hedgerow/*.py`; here is what needs
//! Rust.

mod capture;
mod forest;
mod model;
mod rows;
mod verbs;

use pyo3::prelude::*;

pyo3::create_exception!(
    _hedgerow,
    Error,
    pyo3::exceptions::PyException,
    "Why something can't be answered."
);

/// An error of ours as Python's, with the whole chain of causes.
fn error(why: impl std::error::Error) -> PyErr {
    Error::new_err(hedgerow_detect::chain(&why))
}

#[pymodule]
fn _hedgerow(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<forest::Forest>()?;
    module.add_class::<model::Model>()?;
    module.add_function(wrap_pyfunction!(capture::read_capture, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::train, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::merge, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::export_forest, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::import_forest, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::share, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::score, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(verbs::backtest, module)?)?;
    Ok(())
}
