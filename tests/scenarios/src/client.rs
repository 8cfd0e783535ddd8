//! The clients of a scenario, seen from here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use tokio::task::JoinHandle;

use crate::node::{Checked, Heard, History, Order};
use rig::node::{InNode, Target};
use rig::{
    Failure,
    clock::now,
    cluster::lab::Lab,
    cluster::log::Log,
    cluster::set::{PROBING_NODE, Set},
};

/// Until the clients must have written.
const BEGIN_LIMIT: Duration = Duration::from_secs(20);
/// Until every key must have been read.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

/// Programs that write; they end when this is dropped.
pub struct Client {
    program: Arc<InNode>,
    feeder: JoinHandle<()>,
    heard: Arc<Log<Heard>>,
    service: Option<Target>,
    prefix: String,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

impl Client {
    /// Writes the first keys of a set that is Ready.
    pub async fn prepare(lab: &Lab, set: &Set, history: PathBuf) -> Result<Self, Failure> {
        let heard = Log::new();
        let told = heard.clone();
        // No other run has this prefix, so no key of an earlier one counts.
        let prefix = now().as_millisecond().to_string();
        let history = history.to_string_lossy().into_owned();
        let arguments = ["client", "--prefix", &prefix, "--history", &history];
        let program = Arc::new(InNode::start(&lab.cluster, PROBING_NODE, &arguments, move |answer| {
            told.push(now(), answer);
        })?);
        let feeder = set.feed(lab, Arc::clone(&program), Order::Member);
        let service = service_of(lab, set, &set.name.name).await?;
        Ok(Self { program, feeder, heard, service, prefix })
    }

    /// Writes the first keys, then goes on; returns once every writer has succeeded.
    pub async fn begin(&self) -> Result<(), Failure> {
        let begun = now();
        self.program.send(&Order::Begin { service: self.service.clone() })?;
        let mut wanted = vec!["members", "members+wait"];
        if self.has_service() {
            wanted.extend(["service", "service+wait"]);
        }
        for name in wanted {
            let is_first = |heard: &Heard| match heard {
                Heard::First { writer } if writer == name => Some(Ok(())),
                Heard::Failed(why) => Some(Err(why.clone())),
                _ => None,
            };
            let what = format!("a first success of the writer {name}");
            self.heard.find(begun, BEGIN_LIMIT, &what, is_first).await?.1?;
        }
        Ok(())
    }

    /// Begins every key of this run.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What writers elsewhere wrote is read back too.
    pub fn adopt(&self, histories: Vec<History>) -> Result<(), Failure> {
        self.program.send(&Order::Adopt(histories))
    }

    /// Whether there is a Service to write through.
    pub fn has_service(&self) -> bool {
        self.service.is_some()
    }

    /// After the Service was made again: writers go to the new one.
    pub async fn follow_service(&self, lab: &Lab, set: &Set) -> Result<(), Failure> {
        if self.has_service()
            && let Some(service) = service_of(lab, set, &set.name.name).await?
        {
            self.program.send(&Order::Service(service))?;
        }
        Ok(())
    }

    /// Stops writing and reads every key from these members.
    pub async fn check(&self, members: Vec<Target>) -> Result<Checked, Failure> {
        let asked = now();
        self.program.send(&Order::Check { members })?;
        let checked = |heard: &Heard| match heard {
            Heard::Checked(checked) => Some(Ok(checked.clone())),
            Heard::Failed(why) => Some(Err(why.clone())),
            _ => None,
        };
        Ok(self.heard.find(asked, CHECK_LIMIT, "all keys are read", checked).await?.1?)
    }
}

/// A Service of the set, as a server to talk to.
pub async fn service_of(lab: &Lab, set: &Set, name: &str) -> Result<Option<Target>, Failure> {
    let Some(service) = lab.api::<Service>().get_opt(name).await? else { return Ok(None) };
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
    let address = address.ok_or_else(|| format!("the Service {} has no address", service.name_any()))?;
    Ok(Some(Target { pod: service.name_any(), address, password: set.password(lab).await? }))
}
