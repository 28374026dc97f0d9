//! Isolation forests in linfa's conventions.
