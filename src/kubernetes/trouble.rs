//! Whom to ask, and why there is no answer.

use std::{fmt, path::PathBuf};

use super::objects::{Status, reason};

/// Whom to ask, about which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// None: as the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    pub node: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The API answered, and refused.
    Refused(Status),
    /// It can't be reached, or what came is no answer.
    Lost(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Status { code: 403, message }) => write!(
                f,
                "forbidden: {message}; packaging/kubernetes/rbac.yaml has the rights that it needs"
            ),
            Self::Refused(Status { code: 401, message }) => {
                write!(f, "the API knows no such token or certificate: {message}")
            }
            Self::Refused(Status { code, message }) => write!(f, "the API says {code}: {message}"),
            Self::Lost(why) => f.write_str(why),
        }
    }
}

impl Trouble {
    pub fn lost(why: impl fmt::Display) -> Self {
        Self::Lost(reason(&why.to_string()))
    }
}
