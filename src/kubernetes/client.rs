//! The way to the API: who to ask as whom, and answers within bounds of size and time.

use std::{fmt, os::unix::fs::MetadataExt, path::Path, time::Duration};

use hedgerow_detect::chain;
use hedgerow_hostfile::own;
use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::{Instant, timeout_at};

use super::{Settings, Trouble, objects::Status};

/// A connection is there within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer is read within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// A kubeconfig holds certificates; a larger file is none.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What an answer about an object, or an error, may be long.
pub const OBJECT_BYTES_MAX: usize = 2 << 20;
/// A list of the metadata of a node's pods.
pub const LIST_BYTES_MAX: usize = 16 << 20;

/// Makes ready to ask; nothing is connected yet.
///
/// # Errors
/// There is no service account, or the file is none that is followed.
pub async fn connect(settings: &Settings) -> Result<Client, Trouble> {
    let mut config = match &settings.kubeconfig {
        Some(path) => of_file(path).await?,
        None => Config::incluster().map_err(|why| {
            Trouble::lost(format!(
                "no service account of a pod: {}; in a pod set automountServiceAccountToken, \
                 elsewhere name a kubeconfig",
                chain(&why)
            ))
        })?,
    };
    check(&config).map_err(Trouble::lost)?;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(CONNECT);
    config.proxy_url = None;
    config.default_retry = false;
    Client::try_from(config).map_err(|why| Trouble::lost(chain(&why)))
}

async fn of_file(path: &Path) -> Result<Config, Trouble> {
    let file = read(path)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.map_err(|why| wrong(path, chain(&why)))
}

fn read(path: &Path) -> Result<Kubeconfig, Trouble> {
    let told = path.metadata().map_err(|why| wrong(path, why))?;
    if !told.is_file() || told.len() > FILE_BYTES_MAX {
        return Err(wrong(path, format!("no file of at most {FILE_BYTES_MAX} bytes")));
    }
    // It says whom root believes, and holds who root is there.
    if ![0, own::user()].contains(&told.uid()) || told.mode() & 0o022 != 0 {
        return Err(wrong(path, "others than root may write to it: chown root, chmod go-w"));
    }
    Kubeconfig::read_from(path).map_err(|why| wrong(path, chain(&why)))
}

fn wrong(path: &Path, why: impl fmt::Display) -> Trouble {
    Trouble::lost(format!("{}: {why}", path.display()))
}

/// Whom the context in use of a kubeconfig is about, as `host:port`, if it says so.
pub fn server(path: &Path) -> Option<String> {
    let file = read(path).ok()?;
    let context = file.contexts.iter().find(|one| Some(&one.name) == file.current_context.as_ref());
    let cluster = &context?.context.as_ref()?.cluster;
    let of_it = file.clusters.iter().find(|one| one.name == *cluster);
    let url = of_it?.cluster.as_ref()?.server.as_ref()?.parse::<hyper::Uri>().ok()?;
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    Some(format!("{}:{port}", url.host()?))
}

/// Refuses what would run programs, or believe anybody.
fn check(config: &Config) -> Result<(), &'static str> {
    let user = &config.auth_info;
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("the kubeconfig runs a program for its token, which this never does: use a \
                    token, a tokenFile or a client certificate");
    }
    if config.accept_invalid_certs {
        return Err("insecure-skip-tls-verify is refused: anybody could say what pods there are");
    }
    let url = &config.cluster_url;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_own = host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_own => Ok(()),
        _ => Err("the API is asked by https, or by http on loopback"),
    }
}

async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Trouble> {
    let sent = client.send(request.map(Body::from)).await;
    sent.map_err(|why| Trouble::lost(chain(&why)))
}

fn until(limit: Duration) -> Instant {
    Instant::now() + limit
}

fn late(limit: Duration) -> Trouble {
    Trouble::Lost(format!("no whole answer within {} s", limit.as_secs()))
}

/// The whole answer.
///
/// # Errors
/// There is none in time, it is larger than may be, or a refusal.
pub async fn ask(
    client: &Client,
    request: Request<Vec<u8>>,
    bytes_max: usize,
) -> Result<Vec<u8>, Trouble> {
    let answer = async {
        let response = send(client, request).await?;
        let status = response.status();
        let body = response.into_body();
        if status.is_success() {
            return whole(body, bytes_max).await;
        }
        Err(refusal(status.as_u16(), body).await)
    };
    timeout_at(until(ANSWER), answer).await.unwrap_or_else(|_| Err(late(ANSWER)))
}

async fn whole(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(part) = part(&mut body).await? {
        if bytes.len() + part.len() > bytes_max {
            return Err(Trouble::Lost(format!("an answer is larger than {bytes_max} bytes")));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Why an answer is none; the API may say it in several lines, also where it was asked to watch.
async fn refusal(code: u16, body: Body) -> Trouble {
    match whole(body, OBJECT_BYTES_MAX).await {
        Ok(said) => Trouble::Refused(Status::read(code, &said)),
        Err(trouble) => trouble,
    }
}

async fn part(body: &mut Body) -> Result<Option<hyper::body::Bytes>, Trouble> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(why)) => return Err(Trouble::lost(chain(&why))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                // Trailers.
                Err(_) => continue,
            },
        }
    }
}

/// An answer that goes on, line by line.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no end of a line.
    looked: usize,
    deadline: Instant,
}

impl Lines {
    /// # Errors
    /// The API refuses it, or can't be reached.
    pub async fn open(
        client: &Client,
        request: Request<Vec<u8>>,
        limit: Duration,
    ) -> Result<Self, Trouble> {
        let opened = async {
            let response = send(client, request).await?;
            let status = response.status();
            let body = response.into_body();
            if status.is_success() {
                return Ok(Self { body, buffer: Vec::new(), looked: 0, deadline: until(limit) });
            }
            Err(refusal(status.as_u16(), body).await)
        };
        timeout_at(until(ANSWER), opened).await.unwrap_or_else(|_| Err(late(ANSWER)))
    }

    /// The next line; `None` where the API has ended it. What is left of a line then is no line.
    ///
    /// # Errors
    /// The time is over, the connection is lost, or a line is larger than may be.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Trouble> {
        loop {
            if let Some(at) = self.buffer[self.looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.looked + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.looked = 0;
                return Ok(Some(line));
            }
            self.looked = self.buffer.len();
            let part = timeout_at(self.deadline, part(&mut self.body)).await;
            let part = part.map_err(|_| Trouble::Lost("the API tells nothing any more".into()))?;
            let Some(part) = part? else { return Ok(None) };
            if self.looked + part.len() > OBJECT_BYTES_MAX {
                return Err(Trouble::Lost(format!(
                    "a line is larger than {OBJECT_BYTES_MAX} bytes"
                )));
            }
            self.buffer.extend_from_slice(&part);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        let settings = Settings { kubeconfig: Some(path), node: "n".into() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(connect(&settings)) {
            Ok(_) => String::new(),
            Err(why) => why.to_string(),
        }
    }

    fn file(server: &str, cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"{server}\"{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        )
    }

    #[test]
    fn a_kubeconfig_runs_no_program_and_believes_not_anybody() {
        let own = "http://127.0.0.1:1";
        assert_eq!(refused(&file(own, "", "token: t")), "");
        assert_eq!(refused(&file("https://192.0.2.1", "", "token: t")), "");
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false}";
        assert!(refused(&file(own, "", exec)).contains("runs a program"));
        let open = ", insecure-skip-tls-verify: true";
        assert!(refused(&file("https://192.0.2.1", open, "token: t")).contains("insecure"));
        assert!(refused(&file("http://192.0.2.1", "", "token: t")).contains("by https"));
        assert!(!refused("{").is_empty());
        assert!(refused(&" ".repeat(2 << 20)).contains("no file of at most"));
    }
}
