//! What the responder itself raises: a finding above all others that no window was scored for. Pure.

use std::sync::Arc;

use hedgerow_event::{
    Activity, Class, Disposition, Finding, Loss, Maturity, Program, Scale, Severity, Subject,
};
use hedgerow_responder::Alarm;
use sha2::{Digest, Sha256};

use crate::host::Host;

/// Nothing is more surprising: it is no statistic.
const SURPRISE: f64 = 100.0;
/// The program in whose name the finding stands.
const PROGRAM: &str = "hedgerow";

/// The finding: critical, with the highest score, and no window, since nothing was scored.
pub fn finding(
    alarm: &Alarm,
    host: &Host,
    state: Maturity,
    model_id: &str,
    now_wall_ns: i64,
) -> Finding {
    let subject = Subject::new(alarm.workload.clone(), Program::new(PROGRAM));
    let mut hasher = Sha256::new();
    for part in [&*host.id, &host.boot_id, &subject.to_string(), &alarm.reason] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.update(now_wall_ns.to_le_bytes());
    let uid = hasher.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    Finding {
        uid,
        activity: Activity::Create,
        sequence: 0,
        first_alert: Some(true),
        host_id: host.id.clone(),
        boot_id: host.boot_id.clone(),
        subject: Arc::new(subject),
        scale: Scale::Seconds5,
        early: false,
        window_start_ns: now_wall_ns,
        window_end_ns: now_wall_ns,
        time_ns: now_wall_ns,
        state,
        severity: Severity::Critical,
        disposition: Disposition::Alert,
        score: 1.0,
        class: Class::Intrinsic,
        surprise: SURPRISE,
        floor: 0.0,
        p_value: None,
        families: Vec::new(),
        objects: Vec::new(),
        attribution: Vec::new(),
        process: None,
        loss: Loss::default(),
        model_id: model_id.to_owned(),
        model_digest: None,
        model_seed: None,
        claimed_names: Vec::new(),
        vulnerabilities: Vec::new(),
        pod: None,
        peer_pods: Vec::new(),
        reason: alarm.reason.clone(),
    }
}

/// A finding for tests: of a host `h` in its boot `b`.
#[cfg(test)]
pub fn example(workload: &str, reason: &str, time_ns: i64) -> Finding {
    let (id, boot_id, name) = ("h".into(), "b".into(), "n".into());
    let host = Host { id, boot_id, name, realtime_offset_ns: 0 };
    let workload = hedgerow_event::Workload::new(workload);
    finding(&Alarm { workload, reason: reason.into() }, &host, Maturity::Mature, "m", time_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_alert_above_all_with_its_reason_and_one_of_its_kind() {
        let told = |time| example("web", "breaker tripped", time);
        let first = told(1);
        assert!(first.disposition.is_alert() && first.severity == Severity::Critical);
        assert_eq!((&*first.reason, first.subject.workload.as_str()), ("breaker tripped", "web"));
        assert_ne!(first.uid, told(2).uid);
    }
}
