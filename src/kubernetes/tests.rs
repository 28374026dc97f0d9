//! Against an API that does what none should: real ones are asked by `make k8s-truth`.
#![allow(clippy::unwrap_used)]
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
};

use hedgerow_event::{Contact, FlowDirection, Process, Program, Subject, Workload};
use serde_json::{Value, json};

use super::*;

/// What a request is answered with; what it does with the connection is its own.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// Listens on loopback, a thread a connection; a daemon's end is told of it by a kubeconfig.
struct Api {
    home: tempfile::TempDir,
}

impl Api {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let home = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(home.path().join("kubeconfig"), text).unwrap();
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { home }
    }

    fn asked(&self) -> Kubernetes {
        let kubeconfig = Some(self.home.path().join("kubeconfig"));
        Kubernetes::start(Settings { kubeconfig, node: "n-1".into() }).unwrap()
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line);
    }
    assert!(lines.iter().any(|line| line.trim() == "authorization: Bearer t"), "{lines:?}");
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    answer(&path, &mut stream);
}

fn say(stream: &mut TcpStream, code: u16, body: &Value) {
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// Begins a watch; what follows are its lines.
fn begin(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
}

fn pod(name: &str, app: &str) -> Value {
    let owner =
        json!({ "kind": "ReplicaSet", "name": "web-5d4f8c6b7d", "uid": "r-1", "controller": true });
    json!({ "metadata": {
        "uid": format!("u-{name}"), "namespace": "shop", "name": name, "resourceVersion": "5",
        "labels": { "app": app }, "ownerReferences": [owner],
    } })
}

fn list(pods: &[Value]) -> Value {
    json!({ "metadata": { "resourceVersion": "4" }, "items": pods })
}

fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(10));
    }
}

const NAME: &str = "web-5d4f8c6b7d-q8x2z";

fn finding() -> Finding {
    let subject =
        Arc::new(Subject::new(Workload::new("k8s:shop/web/nginx"), Program::new("/bin/sh")));
    let contact = Contact {
        address: [10, 0, 0, 9].into(),
        port: Some(5432),
        direction: FlowDirection::Outbound,
        protocol: None,
    };
    let did = Object::Did {
        subject: Arc::clone(&subject),
        deed: hedgerow_event::Deed::Outflow,
        what: "".into(),
        contact: Some(contact),
    };
    let process = Process { pod: Some(NAME.to_owned()), ..Process::default() };
    Finding {
        subject,
        objects: vec![did],
        process: Some(process),
        ..crate::daemon::example_finding("w", "", 0)
    }
}

fn told(kubernetes: &Kubernetes) -> Finding {
    let mut finding = finding();
    kubernetes.prepare(std::iter::once(&finding));
    kubernetes.tell(&mut finding);
    finding
}

#[test]
fn a_finding_has_its_pods_labels_the_deployment_and_the_pod_that_was_called() {
    let api = Api::start(|path, stream| match path {
        path if path.contains("watch=true") => {
            begin(stream);
            let line = json!({ "type": "ADDED", "object": pod("db-0", "db") });
            let _ = stream.write_all(format!("{line}\n").as_bytes());
            thread::sleep(Duration::from_secs(30));
        }
        path if path.contains("podIP%3D10.0.0.9%2C") => {
            say(stream, 200, &list(&[pod("db-0", "db")]))
        }
        path if path.starts_with("/api/v1/pods?") => {
            assert!(path.contains("fieldSelector=spec.nodeName%3Dn-1"), "{path}");
            say(stream, 200, &list(&[pod(NAME, "web")]));
        }
        path if path.starts_with("/apis/apps/v1/namespaces/shop/replicasets/web-5d4f8c6b7d") => {
            let owner =
                json!({ "kind": "Deployment", "name": "web", "uid": "d-1", "controller": true });
            let meta =
                json!({ "uid": "r-1", "name": "web-5d4f8c6b7d", "ownerReferences": [owner] });
            say(stream, 200, &json!({ "metadata": meta }));
        }
        path => panic!("{path}"),
    });
    let kubernetes = api.asked();
    until(|| kubernetes.now().pods == 2);
    let finding = told(&kubernetes);
    let pod = finding.pod.unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_deref()), ("shop", Some(NAME)));
    assert_eq!(pod.labels["app"], "web");
    let owner = pod.owner.unwrap();
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Deployment", "web"));
    let [peer] = finding.peer_pods.as_slice() else { panic!("{:?}", finding.peer_pods) };
    assert_eq!((peer.namespace.as_str(), peer.name.as_str()), ("shop", "db-0"));
    assert_eq!(peer.owner.as_ref().unwrap().name, "web");
    let now = kubernetes.now();
    assert_eq!((now.down, now.missing, now.asks_refused), (None, None, 0));
}

#[test]
fn what_is_refused_is_told_with_the_way_out_and_escaped() {
    let api = Api::start(|_, stream| {
        let message = "pods is forbidden: User \"x\" cannot list\u{1b}[31m";
        say(stream, 403, &json!({ "kind": "Status", "code": 403, "message": message }));
    });
    let kubernetes = api.asked();
    until(|| kubernetes.now().down.is_some_and(|why| why.contains("forbidden")));
    let why = kubernetes.now().down.unwrap();
    assert!(why.contains("cannot list\\x1b[31m; packaging/kubernetes/rbac.yaml"), "{why}");
    let finding = told(&kubernetes);
    assert!(finding.pod.is_none() && finding.peer_pods.is_empty());
}

#[test]
fn an_answer_without_end_and_a_line_without_end_are_given_up() {
    let watches = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&watches);
    let api = Api::start(move |path, stream| {
        if path.contains("watch=true") || seen.load(Ordering::Relaxed) == 0 {
            // The first list, and each watch.
            seen.fetch_add(1, Ordering::Relaxed);
            begin(stream);
            let _ = stream.write_all(b"{\"items\":[");
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
            return;
        }
        say(stream, 200, &list(&[pod(NAME, "web")]));
    });
    let kubernetes = api.asked();
    until(|| kubernetes.now().down.is_some_and(|why| why.contains("an answer is larger than")));
    until(|| kubernetes.now().down.is_some_and(|why| why.contains("a line is larger than")));
    assert_eq!(kubernetes.now().pods, 1, "what was known is known");
}

#[test]
fn a_torn_stream_is_taken_up_again_and_loses_nothing() {
    let watches = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&watches);
    let api = Api::start(move |path, stream| {
        if !path.contains("watch=true") {
            let count = seen.load(Ordering::Relaxed);
            let pods: Vec<Value> =
                (0..=count).map(|number| pod(&format!("p{number}"), "a")).collect();
            return say(stream, 200, &list(&pods));
        }
        let number = seen.fetch_add(1, Ordering::Relaxed);
        begin(stream);
        let line = json!({ "type": "ADDED", "object": pod("x", "a") }).to_string();
        match number {
            // In the middle of a line: that is no line, and the next watch begins where this did.
            0 => drop(stream.write_all(&line.as_bytes()[..line.len() / 2])),
            // What is none is the end of it: all is listed anew.
            1 => drop(stream.write_all(b"<html>\n")),
            2 => {
                let gone =
                    json!({ "type": "ERROR", "object": { "code": 410, "message": "too old" } });
                let _ = stream.write_all(format!("{gone}\n").as_bytes());
            }
            _ => thread::sleep(Duration::from_secs(30)),
        }
    });
    let kubernetes = api.asked();
    until(|| watches.load(Ordering::Relaxed) >= 4);
    let now = kubernetes.now();
    assert_eq!((now.pods, now.down), (4, None));
}

#[test]
fn whoever_tells_findings_waits_for_a_moment_and_then_for_none() {
    let api = Api::start(|path, stream| match path {
        path if path.contains("watch=true") || path.contains("podIP") || path.contains("apps") => {
            thread::sleep(Duration::from_secs(30));
        }
        _ => say(stream, 200, &list(&[pod(NAME, "web")])),
    });
    let kubernetes = api.asked();
    until(|| kubernetes.now().pods == 1);
    let begun = Instant::now();
    let finding = told(&kubernetes);
    let waited = begun.elapsed();
    assert!(waited >= WAIT && waited < WAIT * 4, "{waited:?}");
    // What the list says is there; the nearest owner stands for the one who can't be asked for.
    assert_eq!(finding.pod.unwrap().owner.unwrap().kind, "ReplicaSet");
    assert!(finding.peer_pods.is_empty());
    let begun = Instant::now();
    told(&kubernetes);
    assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
}

#[test]
fn a_pod_that_says_that_it_runs_where_another_does_is_nobodys_to_name() {
    let (asks, _) = mpsc::channel(1);
    let kubernetes = Kubernetes { shared: Arc::new(Shared::new("n-1".into())), asks };
    let pod = |name: &str, says: &str| {
        let annotations = match says {
            "" => json!({}),
            says => json!({ objects::STATIC: says }),
        };
        json!({ "metadata": { "uid": format!("u-{name}"), "namespace": "shop", "name": name,
            "annotations": annotations } })
    };
    let items = [pod("web", ""), pod("thief", "u-web"), pod("etcd", "a1"), pod("kubelet", "b2")];
    let page = json!({ "metadata": { "resourceVersion": "1" }, "items": items });
    kubernetes.shared.listed(objects::page(page.to_string().as_bytes()).unwrap());
    let named = |name: &str| kubernetes.chosen(&Chosen::Pod(&format!("shop/{name}")));
    assert!(named("thief").unwrap_err().contains("another one does"));
    for (name, runs) in [("web", "u-web"), ("etcd", "a1"), ("kubelet", "b2")] {
        let chosen = named(name).unwrap();
        assert_eq!((chosen.len(), chosen[0].cgroup_uid.as_str()), (1, runs));
    }
}

#[test]
fn what_was_being_asked_when_the_api_went_is_asked_again() {
    let shared = Shared::new("n-1".into());
    let ask = Ask::Address(IpAddr::from([10, 0, 0, 7]));
    shared.known().asked.insert(ask.clone());
    shared.down(&Trouble::lost("gone"));
    assert!(!shared.known().asked.contains(&ask) && !shared.knows(&ask));
}

#[test]
fn pods_that_found_no_room_count_until_all_are_listed_anew() {
    let shared = Shared::new("n-1".into());
    let listed = |refused| shared.listed(Page { refused, ..Page::default() });
    listed(2);
    assert_eq!(shared.known().table.refused, 2);
    listed(0);
    assert_eq!(shared.known().table.refused, 0);
}

#[test]
fn where_the_api_is_stands_in_the_kubeconfig() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("kubeconfig");
    for (server, expected) in [
        ("https://api.example:6443/k8s", Some("api.example:6443")),
        ("https://192.0.2.7", Some("192.0.2.7:443")),
        ("http://[::1]:8080", Some("[::1]:8080")),
        ("no address", None),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: o, cluster: {{server: \"https://other:1\"}}}}, \
                        {{name: k, cluster: {{server: \"{server}\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let settings = |path| Settings { kubeconfig: path, node: "n-1".into() };
        assert_eq!(peer(&settings(Some(path.clone()))).as_deref(), expected, "{server}");
        assert_eq!(peer(&settings(None)), None);
    }
    assert_eq!(client::server(&home.path().join("none")), None);
}
