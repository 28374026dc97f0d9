//! A broker of the test's own, driven through `scripts/kafka`.

use std::{path::Path, process::Command};

pub struct Broker {
    name: String,
    pub address: String,
}

impl Broker {
    pub fn start(name: &str) -> Self {
        let mut broker =
            Self { name: format!("{name}-{}", std::process::id()), address: String::new() };
        broker.address = broker.script("start");
        broker
    }
    pub fn start_again(&self) {
        assert_eq!(self.script("start"), self.address);
    }
    /// SIGKILL.
    pub fn kill(&self) {
        self.script("kill");
    }
    pub fn stop(&self) {
        self.script("stop");
    }
    /// Address, certificate file, user and password of its TLS and SASL listener.
    pub fn secure(&self) -> [String; 4] {
        let text = self.script("secure");
        text.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
    }
    fn script(&self, command: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
        let output = Command::new(script).args([command, "--name", &self.name]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "scripts/kafka {command}: {}", text(&output.stderr));
        text(&output.stdout).lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.script("remove");
    }
}
