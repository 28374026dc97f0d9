//! Isolation forests in linfa's conventions.

pub mod calibration;
