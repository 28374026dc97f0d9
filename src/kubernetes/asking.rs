//! What the thread does: it lists and watches this node's pods, and answers what others want to know.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hedgerow_event::PeerPod;
use hyper::Request as Http;
use kube::{
    Client,
    core::{
        Request,
        params::{GetParams, ListParams, WatchParams},
    },
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Settings, Shared, Trouble,
    client::{self, LIST_BYTES_MAX, Lines, OBJECT_BYTES_MAX, ask, connect},
    objects::{self, Change, Controller, Meta},
    table::{Ask, Said},
};

/// The API ends a watch after so many seconds, so that one that hangs is known soon after.
const WATCH_SECONDS: u32 = 60;
const WATCH_MAX: Duration = Duration::from_secs(75);
/// It is tried again after so long, twice as long each time, up to the second.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// No two questions follow each other faster: a node that tells many findings is no load for the API.
const PACE: Duration = Duration::from_millis(50);
/// Who asks about an owner or an address waits no longer, nor does whoever asks next.
const QUESTION: Duration = Duration::from_secs(2);

/// Asks for as long as somebody may want to know.
pub async fn run(settings: Settings, shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    let mut pause = AGAIN;
    loop {
        let trouble = match connect(&settings).await {
            Ok(client) => {
                let was_up = shared.times_up();
                let trouble = tokio::select! {
                    trouble = watch(&client, &settings.node, &shared) => trouble,
                    () = answer(&client, &shared, &mut asks) => return,
                };
                if shared.times_up() > was_up {
                    pause = AGAIN;
                }
                trouble
            }
            Err(trouble) => trouble,
        };
        shared.down(&trouble);
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

fn pods() -> Request {
    Request::new("/api/v1/pods")
}

fn built(
    request: Result<Http<Vec<u8>>, kube::core::request::Error>,
) -> Result<Http<Vec<u8>>, Trouble> {
    request.map_err(Trouble::lost)
}

/// Keeps the table as the API has it, until that can't be.
async fn watch(client: &Client, node: &str, shared: &Shared) -> Trouble {
    loop {
        if let Err(trouble) = list_and_follow(client, node, shared).await {
            return trouble;
        }
    }
}

/// Returns where everything has to be listed anew.
async fn list_and_follow(client: &Client, node: &str, shared: &Shared) -> Result<(), Trouble> {
    let of_node = format!("spec.nodeName={node}");
    let request = built(pods().list_metadata(&ListParams::default().fields(&of_node).match_any()))?;
    let page = ask(client, request, LIST_BYTES_MAX).await?;
    let page = objects::page(&page).map_err(Trouble::lost)?;
    let mut version = page.version.clone();
    shared.listed(page);
    loop {
        let watched = WatchParams::default().fields(&of_node).timeout(WATCH_SECONDS);
        let request = built(pods().watch_metadata(&watched, &version))?;
        let opened = Lines::open(client, request, WATCH_MAX).await;
        let mut lines = match opened {
            // Its version is too old.
            Err(Trouble::Refused(status)) if status.code == 410 => return Ok(()),
            opened => opened?,
        };
        shared.heard();
        while let Some(line) = lines.next().await? {
            let (change, after) = objects::change(&line).map_err(Trouble::lost)?;
            match change {
                Change::Ended(410, _) => return Ok(()),
                Change::Ended(code, message) => {
                    return Err(Trouble::Refused(objects::Status { code, message }));
                }
                change => shared.changed(change),
            }
            if !after.is_empty() {
                version = after;
            }
        }
        // An API that ends each watch at once is not asked without a pause.
        sleep(PACE).await;
    }
}

/// Answers until nobody can ask any more.
async fn answer(client: &Client, shared: &Shared, asks: &mut mpsc::Receiver<Ask>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(ask) = asks.recv().await {
        if shared.knows(&ask) {
            shared.answered(&ask, None);
            continue;
        }
        pace.tick().await;
        let said = match &ask {
            Ask::Owner(namespace, owned) => {
                let above = timeout(QUESTION, owner_of(client, namespace, owned)).await;
                above.map(|above| above.map(Said::Owner))
            }
            Ask::Address(address) => {
                let pod = timeout(QUESTION, pod_of(client, *address, shared)).await;
                pod.map(|pod| pod.map(Said::Pod))
            }
        };
        match said {
            Ok(Ok(said)) => shared.answered(&ask, Some(said)),
            Ok(Err(trouble)) => shared.unanswered(&ask, &trouble),
            Err(_) => {
                let late = format!("no answer within {} s", QUESTION.as_secs());
                shared.unanswered(&ask, &Trouble::Lost(late));
            }
        }
    }
}

/// Who made what makes pods: a Deployment makes ReplicaSets, a CronJob Jobs.
async fn owner_of(
    client: &Client,
    namespace: &str,
    owned: &Controller,
) -> Result<Option<Controller>, Trouble> {
    let Some(base) = objects::path_of(namespace, &owned.kind) else { return Ok(None) };
    let request = built(Request::new(base).get_metadata(&owned.name, &GetParams::any()))?;
    let object = match ask(client, request, OBJECT_BYTES_MAX).await {
        Err(Trouble::Refused(status)) if status.code == 404 => return Ok(None),
        answer => objects::object(&answer?).map_err(Trouble::lost)?,
    };
    // Another one of that name is somebody else's.
    let same = object.filter(|object| object.uid == owned.uid);
    Ok(same.and_then(|object| object.controller))
}

/// The only pod that runs with this address as its own: those in the network of their node have the node's.
async fn pod_of(
    client: &Client,
    address: IpAddr,
    shared: &Shared,
) -> Result<Option<PeerPod>, Trouble> {
    let of = format!("status.podIP={address},status.phase=Running,spec.hostNetwork=false");
    let request = built(pods().list_metadata(&ListParams::default().fields(&of).match_any()))?;
    let page = ask(client, request, OBJECT_BYTES_MAX).await?;
    let page = objects::page(&page).map_err(Trouble::lost)?;
    let [pod] = page.items.as_slice() else { return Ok(None) };
    let owner = nearest_known(client, pod, shared).await;
    Ok(Some(PeerPod {
        address,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        owner: owner.map(|owner| owner.told()),
        as_of_ns: hedgerow_responder::now().wall_ns,
    }))
}

async fn nearest_known(client: &Client, pod: &Meta, shared: &Shared) -> Option<Controller> {
    let nearest = pod.controller.clone()?;
    let ask = Ask::Owner(pod.namespace.clone(), nearest.clone());
    if !shared.knows(&ask) {
        match owner_of(client, &pod.namespace, &nearest).await {
            Ok(above) => shared.answered(&ask, Some(Said::Owner(above))),
            Err(trouble) => shared.unanswered(&ask, &trouble),
        }
    }
    Some(shared.above(&nearest).unwrap_or(nearest))
}

/// Where it is, as `host:port`. The service account's is known to whoever protects this host's addresses.
pub fn peer(settings: &Settings) -> Option<String> {
    client::server(settings.kubeconfig.as_ref()?)
}

/// What may be asked, each as the daemon asks it; for who wants to know what is missing.
pub async fn rights(settings: &Settings) -> Result<Vec<(&'static str, Option<String>)>, Trouble> {
    let client = connect(settings).await?;
    let mut told = Vec::new();
    let lists = [
        ("pods", "/api/v1/pods", format!("spec.nodeName={}", settings.node)),
        ("replicasets", "/apis/apps/v1/replicasets", String::new()),
        ("jobs", "/apis/batch/v1/jobs", String::new()),
    ];
    for (name, path, fields) in lists {
        let mut params = ListParams::default().limit(1);
        if !fields.is_empty() {
            params = params.fields(&fields);
        }
        let request = built(Request::new(path).list_metadata(&params))?;
        let why = match ask(&client, request, OBJECT_BYTES_MAX).await {
            Ok(_) => None,
            // It is not there at all: the others would wait for it as long.
            Err(lost @ Trouble::Lost(_)) => return Err(lost),
            Err(refused) => Some(refused.to_string()),
        };
        told.push((name, why));
    }
    Ok(told)
}
