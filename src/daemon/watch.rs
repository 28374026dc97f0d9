//! Own watch: what somebody else changed of Hedgerow in the kernel is a finding of the top severity.
//! It passes by the alert budget and while learning: whoever blinds the sensor must not also be able
//! to buy its silence.

use std::{collections::BTreeSet, sync::Arc};

use hedgerow_event::{
    Activity, Disposition, EpochClose, Family, Finding, Loss, Object, Scale, Severity, Subject,
    Tampering,
};
use sha2::{Digest, Sha256};

use crate::{engine::Engine, host::Host};

/// What has been told already. As many at most as there are hooks and maps.
#[derive(Debug)]
pub struct Watch {
    host_id: String,
    boot_id: String,
    told: BTreeSet<Tampering>,
}

impl Watch {
    pub fn new(host: &Host) -> Self {
        let Host { id, boot_id, .. } = host.clone();
        Self { host_id: id, boot_id, told: BTreeSet::new() }
    }

    /// A finding for each change that was not there in the window before.
    pub fn findings(
        &mut self,
        found: BTreeSet<Tampering>,
        close: &EpochClose,
        engine: &Engine,
    ) -> Vec<Finding> {
        let fresh: Vec<Tampering> = found.difference(&self.told).cloned().collect();
        self.told = found;
        fresh.into_iter().map(|tampering| self.finding(tampering, close, engine)).collect()
    }

    fn finding(&self, tampering: Tampering, close: &EpochClose, engine: &Engine) -> Finding {
        let subject = Arc::new(Subject::host());
        let unix_ns = |boot_ns: u64| {
            i64::try_from(boot_ns).unwrap_or(i64::MAX).saturating_add(close.realtime_offset_ns)
        };
        Finding {
            uid: self.uid(&tampering, close),
            activity: Activity::Create,
            sequence: 0,
            host_id: self.host_id.clone(),
            boot_id: self.boot_id.clone(),
            subject: Arc::clone(&subject),
            scale: Scale::Seconds5,
            early: false,
            window_start_ns: unix_ns(close.start_boot_ns),
            window_end_ns: unix_ns(close.end_boot_ns),
            time_ns: unix_ns(close.end_boot_ns),
            state: engine.state(),
            severity: Severity::Critical,
            disposition: Disposition::Alert,
            score: 1.0,
            threshold: 0.0,
            p_value: None,
            level_supported: 1.0,
            families: vec![Family::Host],
            reason: format!("somebody else changed Hedgerow in the kernel: {tampering}"),
            objects: vec![Object::Tampered { subject, tampering }],
            attribution: Vec::new(),
            process: None,
            loss: Loss::default(),
            model_id: engine.model_id().to_owned(),
        }
    }

    fn uid(&self, tampering: &Tampering, close: &EpochClose) -> String {
        let mut hasher = Sha256::new();
        for part in [&*self.host_id, &*self.boot_id, &*tampering.part, &*tampering.how] {
            hasher.update(part.as_bytes());
            hasher.update([0]);
        }
        hasher.update(close.epoch.0.to_le_bytes());
        hasher.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
