//! Deeds that an exec tells.

use std::sync::Arc;

use hedgerow_event::{Deed, Event, Exec, PATH_CUT, Provenance};
use hedgerow_features::parent_of;

/// The deeds in an exec, and to, of or from what. `served`: its parent serves connections, whatever it
/// listens on.
pub fn deeds(event: &Event, exec: &Exec, served: bool, done: &mut Vec<(Deed, Arc<str>)>) {
    let parent = parent_of(event, exec);
    let parent_name =
        || parent.map_or_else(|| "".into(), |parent| parent.program.to_string().into());
    if exec.socket_io {
        done.push((Deed::SocketStreams, parent_name()));
    }
    if (exec.under_listener || served) && exec.login_uid == u32::MAX && parent.is_some() {
        done.push((Deed::UnderListener, parent_name()));
    }
    if exec.path.starts_with(PATH_CUT) {
        done.push((Deed::ExecCut, Arc::clone(&exec.path)));
    }
    let deed = match exec.provenance {
        Provenance::Drift => Deed::ExecDrift,
        Provenance::Modified => Deed::ExecModified,
        Provenance::Unsigned => Deed::ExecUnsigned,
        Provenance::Unowned => Deed::ExecUnowned,
        Provenance::Unknown | Provenance::Package | Provenance::Image => return,
    };
    done.push((deed, Arc::clone(&exec.path)));
}
