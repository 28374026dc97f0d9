//! What the benchmarks of the deny path share.
#![allow(dead_code)]

pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

pub fn median(values: &[f64]) -> f64 {
    sorted(values)[values.len() / 2]
}

/// Median and quartiles.
pub fn spread(values: &[f64]) -> String {
    let sorted = sorted(values);
    let at = |quarter: usize| sorted[(sorted.len() - 1) * quarter / 4];
    format!("{:.1} ({:.1} to {:.1})", at(2), at(1), at(3))
}

/// Detaches also when the benchmark fails.
pub struct Unpin(pub std::path::PathBuf);

impl Drop for Unpin {
    fn drop(&mut self) {
        let _ = hedgerow_responder::remove_pins(&self.0);
    }
}

/// Keeps this thread on a CPU of its own, where there are two.
pub fn pin(cpu: usize) {
    // SAFETY: the set is plain data, made from zeroes and passed with its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        // A machine with one CPU, or a container without this one: then it stays where it is.
        let _ = libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// What the machine calls its CPU.
pub fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name\t: "));
    name.unwrap_or("?").to_owned()
}
