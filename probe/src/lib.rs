//! Loads the sensors, drains their rings and decodes their records into events.

pub mod flow_event;
pub mod flows;
pub mod host_counters;
pub mod identity;
pub mod support;
