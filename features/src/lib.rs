//! Windows of events as Arrow batches, and batches as matrices
