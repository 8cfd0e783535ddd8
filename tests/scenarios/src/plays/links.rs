//! One link is cut for a minute, and everything else goes on: nobody takes over from a primary that serves its clients, and
//! nothing is lost.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, ResourceExt};

use crate::{
    client::service_of,
    cut::{Cut, Dropped},
    inside::{Inside, since},
    operators,
    plays::outside::info,
    stage::Stage,
};
use rig::{
    Failure,
    cluster::set::{PROBING_NODE, address},
};

/// How long the link is cut.
const CUT: Duration = Duration::from_secs(60);

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// All between every operator and the primary.
    OperatorsAndPrimary,
    /// The primary hears every operator, and none hears it.
    PrimaryToOperators,
    /// All between every operator and one replica.
    OperatorsAndReplica,
    /// All between the operator that leads and the API server.
    LeaderAndApiServer,
    /// All between the primary and one replica.
    PrimaryAndReplica,
    /// One replica hears the primary, which does not hear it.
    ReplicaToPrimary,
    /// All between the primary and every replica.
    PrimaryAndReplicas,
    /// Every replica hears the primary, which hears none.
    ReplicasToPrimary,
    /// All between clients and the primary that goes through the Service.
    ClientsAndService,
    /// Every question of the set's Pods to DNS.
    PodsAndDns,
}

impl Between {
    /// Whether the replicas follow on as if nothing was.
    fn leaves_replicas(self) -> bool {
        !matches!(
            self,
            Self::PrimaryAndReplica
                | Self::ReplicaToPrimary
                | Self::PrimaryAndReplicas
                | Self::ReplicasToPrimary
        )
    }

    /// Whether a standby is to lead.
    fn loses_the_leader(self) -> bool {
        self == Self::LeaderAndApiServer
    }

    /// The rules, as the Pods stand now.
    async fn dropped(self, stage: &Stage<'_>) -> Result<Vec<Dropped>, Failure> {
        let primary = stage.set.pod(&stage.set.primary()?)?;
        let replicas = stage.members()?.into_iter().filter(|pod| *pod != primary.name_any());
        let replicas = replicas.map(|pod| stage.set.pod(&pod)).collect::<Result<Vec<_>, _>>()?;
        let one = replicas.first().ok_or("the set has no replica")?;
        let operators = addresses(&operators::pods(stage.lab).await?)?;
        Ok(match self {
            Self::OperatorsAndPrimary => both(&primary, &operators)?,
            Self::PrimaryToOperators => from(&primary, &operators)?,
            Self::OperatorsAndReplica => both(one, &operators)?,
            Self::LeaderAndApiServer => both(&stage.lab.leader().await?.1, &api_servers(stage).await?)?,
            Self::PrimaryAndReplica => both(&primary, &addresses([one])?)?,
            Self::ReplicaToPrimary => to(&primary, &addresses([one])?)?,
            Self::PrimaryAndReplicas => both(&primary, &addresses(&replicas)?)?,
            Self::ReplicasToPrimary => to(&primary, &addresses(&replicas)?)?,
            Self::ClientsAndService => through_the_service(stage).await?,
            Self::PodsAndDns => questions(&[vec![primary], replicas].concat())?,
        })
    }
}

/// The link is cut for a minute. The primary stays the same process, in the same epoch.
pub async fn cut(stage: &Stage<'_>, between: Between) -> Result<(), Failure> {
    let before = stage.set.status()?.primary.ok_or("the set has no primary")?;
    let primary = before.pod.clone();
    let leader = stage.lab.leader().await?.1.name_any();
    let links = links_made(stage, &primary).await?;
    let inside = Inside::begin(stage, &primary).await?;
    let dropped = between.dropped(stage).await?;
    stage.forget();
    let cut = Cut::begin(stage.lab, &dropped)?;
    let disturbed = stage.disturb();
    tokio::time::sleep(CUT).await;
    let leads = stage.lab.leader().await;
    drop(cut);
    inside.end(stage, since(disturbed)).await?;
    if between.loses_the_leader() {
        let leads = leads?.1.name_any();
        println!("  {leads} leads in place of {leader}");
        if leads == leader {
            return Err(format!("{leader} leads on without the API server").into());
        }
    }
    stage.whole().await?;
    stage.settled(None).await?;
    let after = stage.set.status()?.primary;
    if after.as_ref() != Some(&before) {
        return Err(format!("{primary} served all the time, and the primary changed to {after:?}").into());
    }
    let now = links_made(stage, &primary).await?;
    if between.leaves_replicas() && now != links {
        return Err(format!("replicas were taken off {primary} and led back: {links:?}, then {now:?}").into());
    }
    Ok(())
}

/// How often a replica has linked to this Pod: in full and in part.
async fn links_made(stage: &Stage<'_>, pod: &str) -> Result<[String; 2], Failure> {
    Ok([info(stage, pod, "stats", "sync_full").await?, info(stage, pod, "stats", "sync_partial_ok").await?])
}

/// What a Pod sends to these addresses is dropped on its node.
fn from(pod: &Pod, others: &[String]) -> Result<Vec<Dropped>, Failure> {
    of(pod, others, |pod, other| format!("FORWARD -s {pod} -d {other}"))
}

/// What these addresses send to a Pod is dropped on its node.
fn to(pod: &Pod, others: &[String]) -> Result<Vec<Dropped>, Failure> {
    of(pod, others, |pod, other| format!("FORWARD -s {other} -d {pod}"))
}

/// Both.
fn both(pod: &Pod, others: &[String]) -> Result<Vec<Dropped>, Failure> {
    Ok([from(pod, others)?, to(pod, others)?].concat())
}

/// What a Pod asks DNS is dropped on its node, whichever server its Service chooses.
fn questions(pods: &[Pod]) -> Result<Vec<Dropped>, Failure> {
    let protocols = ["udp".to_owned(), "tcp".to_owned()];
    let of_each = pods
        .iter()
        .map(|pod| of(pod, &protocols, |pod, protocol| format!("FORWARD -s {pod} -p {protocol} --dport 53")));
    Ok(of_each.collect::<Result<Vec<_>, _>>()?.concat())
}

/// One rule for each of these on the Pod's node.
fn of(pod: &Pod, others: &[String], packets: impl Fn(&str, &str) -> String) -> Result<Vec<Dropped>, Failure> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node.ok_or_else(|| format!("{} has no node", pod.name_any()))?;
    let own = address_of(pod)?;
    Ok(others.iter().map(|other| Dropped { node: node.clone(), packets: packets(&own, other) }).collect())
}

/// What the clients' node sends to the Service of the primary, and what comes back; the Pod's own address stays reachable.
async fn through_the_service(stage: &Stage<'_>) -> Result<Vec<Dropped>, Failure> {
    let service = service_of(stage.lab, &stage.set, &stage.set.name.name).await?;
    let address = service.ok_or("the set has no Service of the primary")?.address;
    let dropped = |chain: &str| Dropped {
        node: PROBING_NODE.to_owned(),
        packets: format!("{chain} -m conntrack --ctorigdst {address}"),
    };
    Ok(vec![dropped("OUTPUT"), dropped("INPUT")])
}

/// Addresses behind the Service of the API server.
async fn api_servers(stage: &Stage<'_>) -> Result<Vec<String>, Failure> {
    let slices: Api<EndpointSlice> = Api::namespaced(stage.lab.client.clone(), "default");
    let slice = slices.get("kubernetes").await?;
    Ok(slice.endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect())
}

fn addresses<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Vec<String>, Failure> {
    pods.into_iter().map(address_of).collect()
}

fn address_of(pod: &Pod) -> Result<String, Failure> {
    address(pod).ok_or_else(|| format!("{} has no address", pod.name_any()).into())
}
