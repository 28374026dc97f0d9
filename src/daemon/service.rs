//! What the service manager is told, by its socket: nobody is asked for help, and nothing waits.

use hedgerow_detect::Phase;
use sd_notify::NotifyState;

use crate::{control::Status, text};

/// Tells the service manager, if there is one.
fn tell(state: &[NotifyState<'_>]) {
    // Who doesn't hear it ends the service by itself.
    drop(sd_notify::notify(state));
}

pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Everything is attached.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read anew, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The loop turns. Only where the manager waits for it.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// One line of health.
pub fn status(status: &Status) {
    tell(&[NotifyState::Status(&line(status))]);
}

fn line(status: &Status) -> String {
    let what = match status.phase {
        Phase::Scoring => format!("scoring, {}", status.state),
        phase => {
            format!("{}, scores in {}", text::phase(phase), text::seconds(status.seconds_left))
        }
    };
    let refuses = match (status.mode, status.armed) {
        (None, _) => "can't deny".to_owned(),
        (_, Some(false)) => "disarmed".to_owned(),
        (Some(mode), _) => format!("{mode}, {} entries", status.entries),
    };
    let still = match status.stands_still.is_empty() {
        true => String::new(),
        false => format!("; stands still: {}", status.stands_still.join(", ")),
    };
    format!(
        "{what}; {} programs, {} of {} records lost, {} alerts; {refuses}{still}",
        status.programs,
        status.lost,
        text::count(status.sent as f64),
        status.alerts
    )
}
