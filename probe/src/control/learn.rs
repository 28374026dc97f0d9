//! What naming has found out, told to the kernel.

use std::{collections::HashSet, sync::Arc};

use hedgerow_event::Subject;
use libbpf_rs::{MapCore, MapFlags};

use super::{Shared, lock};
use crate::{Result, facts::STRANGER, identity::ServiceId, naming::Learned};

impl Shared {
    /// Tells the kernel what naming found out; true when threads have to look again.
    pub fn learn(&self, fact: Learned) -> Result<bool> {
        match fact {
            Learned::Workload { cgroup_id, number } => {
                // Full: the cgroup's programs stay without a profile.
                let (key, value) = (cgroup_id.to_ne_bytes(), number.to_ne_bytes());
                let entered = self.loaded.workloads.update(&key, &value, MapFlags::ANY).is_ok();
                if entered {
                    lock(&self.watch).workloads.wrote(&key, &value);
                }
                Ok(entered)
            }
            Learned::Service { id, number } => Ok(self.learn_service(id, number)),
            Learned::Removed { cgroup_id } => {
                let key = cgroup_id.to_ne_bytes();
                // It may never have had an entry.
                let _ = self.loaded.workloads.delete(&key);
                lock(&self.watch).workloads.removed(&key);
                let _ = self.loaded.budgets.delete(&key);
                Ok(false)
            }
            Learned::Forgotten { numbers } => self.forget_workloads(&numbers).map(|()| false),
            Learned::Program { workload, profile_id, slot, subject } => {
                self.learn_program(workload, profile_id, slot, &subject)
            }
        }
    }

    /// Programs of workloads that have no number any more: their slots go on knowing what they know,
    /// for when the workload comes back.
    fn forget_workloads(&self, numbers: &HashSet<u32>) -> Result<()> {
        let programs = &self.loaded.programs;
        let keys: Vec<Vec<u8>> = programs.keys().collect();
        for key in keys {
            let number = key.first_chunk().copied().map(u32::from_ne_bytes);
            if number.is_some_and(|number| numbers.contains(&number)) {
                // It may be gone by now.
                let _ = programs.delete(&key);
                if let Some(programs) = &mut lock(&self.watch).programs {
                    programs.removed(&key);
                }
            }
        }
        Ok(())
    }

    fn learn_service(&self, id: ServiceId, number: Option<u32>) -> bool {
        let key = [id.service.to_ne_bytes(), u64::from(id.login_uid).to_ne_bytes()].concat();
        let services = &self.loaded.services;
        let Some(number) = number.filter(|number| *number != 0) else {
            // It may never have had an entry.
            let _ = services.delete(&key);
            lock(&self.watch).services.removed(&key);
            return false;
        };
        // Full: the service's programs stay without a profile.
        let value = number.to_ne_bytes();
        let entered = services.update(&key, &value, MapFlags::ANY).is_ok();
        if entered {
            lock(&self.watch).services.wrote(&key, &value);
        }
        entered
    }

    /// Gives a program that the kernel gave no slot the one of its subject, or a new one when a
    /// profile waits for it: an upgraded file inherits, a restarted daemon goes on. So does one
    /// that ran before the sensor, of which the kernel can't tell what it is, while it is learned.
    fn learn_program(
        &self,
        workload: u32,
        profile_id: u64,
        slot: u32,
        subject: &Arc<Subject>,
    ) -> Result<bool> {
        let mut profiles = self.profiles();
        if slot != 0 {
            profiles.assign(slot, subject);
            return Ok(false);
        }
        let waits =
            profiles.is_preloaded(subject) || profile_id & STRANGER != 0 && self.is_learning();
        let slot = match profiles.slots_of(subject).first() {
            Some(&slot) => Some(slot),
            None if waits => self.free_slot(),
            None => None,
        };
        let Some(slot) = slot else { return Ok(false) };
        profiles.assign(slot, subject);
        let key = [workload.to_ne_bytes(), [0; 4]].concat();
        let key = [key, profile_id.to_ne_bytes().to_vec()].concat();
        let value = [slot.to_ne_bytes(), [0; 4]].concat();
        // Refused: the kernel was faster, or its table is full and the program stays unprofiled.
        let entered = self.loaded.programs.update(&key, &value, MapFlags::NO_EXIST).is_ok();
        if entered && let Some(programs) = &mut lock(&self.watch).programs {
            programs.wrote(&key, &value);
        }
        Ok(entered)
    }

    fn free_slot(&self) -> Option<u32> {
        let bytes = self.loaded.free_slots.lookup_and_delete(&[]).ok()??;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }
}
