//! Loads the sensors, drains their rings and decodes their records into events.

pub mod identity;
