//! Whether a pod's name leads to the pod, as the operator sees it through the cluster's DNS.
//!
//! A primary that hands its role over dials its successor by name, with all writes paused and no time-out. What its own
//! resolver says cannot be asked; where that differs, the handover is taken back (`Decision::TakeBack`).

use std::{io, net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::{net::lookup_host, time::timeout};

use redis_node::files::REDIS_PORT;

/// A resolver that has no answer by then has none in time for Redis either, which waits for it in its event loop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Several caches may stand behind the one address of the cluster's DNS.
const QUESTIONS: usize = 2;

/// The cluster's DNS, if it is asked.
#[derive(Clone, Copy, Debug)]
pub struct ClusterDns {
    /// Not where the operator runs outside of the cluster.
    pub is_asked: bool,
}

impl ClusterDns {
    /// Asks whether this name leads to this pod and nowhere else; why not, in plain words.
    pub async fn leads_to(self, host: &str, pod: &Pod) -> Result<(), String> {
        if !self.is_asked {
            return Ok(());
        }
        let own = addresses(pod);
        for _ in 0..QUESTIONS {
            let answer = timeout(PATIENCE, lookup_host((host, REDIS_PORT))).await;
            let found = match answer {
                Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::other(format!("no answer within {PATIENCE:?}"))),
            };
            leads(host, found, &own)?;
        }
        Ok(())
    }
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| &ip.ip);
    let one = status.and_then(|status| status.pod_ip.as_ref());
    all.chain(one).filter_map(|ip| ip.parse().ok()).collect()
}

/// Redis takes the first address that it is given, so each has to be the pod's.
fn leads(host: &str, found: io::Result<Vec<IpAddr>>, own: &[IpAddr]) -> Result<(), String> {
    let found = found.map_err(|error| format!("the cluster's DNS does not resolve {host}: {error}"))?;
    let elsewhere: Vec<String> =
        found.iter().filter(|ip| !own.contains(ip)).map(ToString::to_string).collect();
    if found.is_empty() {
        Err(format!("the cluster's DNS knows no address of {host}"))
    } else if elsewhere.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "the cluster's DNS leads {host} to {}, which is not its pod's address",
            elsewhere.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_leads_to_a_pod_by_addresses_that_are_all_its_own() {
        let own = [ip("10.0.0.1"), ip("fd00::1")];
        for (found, why) in [
            (Ok(vec![ip("10.0.0.1")]), None),
            (Ok(vec![ip("fd00::1"), ip("10.0.0.1")]), None),
            (Ok(vec![ip("10.0.0.9")]), Some("leads redis-1 to 10.0.0.9, which is not its pod's")),
            (Ok(vec![ip("10.0.0.1"), ip("10.0.0.9")]), Some("to 10.0.0.9,")),
            (Ok(vec![]), Some("knows no address of redis-1")),
            (Err(io::Error::other("no answer within 1s")), Some("does not resolve redis-1: no answer")),
        ] {
            let said = leads("redis-1", found, &own);
            assert_eq!(said.is_ok(), why.is_none(), "{said:?}");
            assert!(why.is_none_or(|why| said.clone().unwrap_err().contains(why)), "{said:?}");
        }
        assert!(leads("redis-1", Ok(vec![ip("10.0.0.1")]), &[]).is_err(), "the pod has no address");
    }

    #[test]
    fn a_pod_has_the_addresses_of_both_families() {
        let pod =
            |status| -> Pod { serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap() };
        let both = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
        assert!(addresses(&pod(both)).contains(&ip("fd00::1")));
        assert_eq!(addresses(&pod(json!({"podIP": "10.0.0.1"}))), [ip("10.0.0.1")]);
        assert!(addresses(&pod(json!({}))).is_empty());
    }

    #[tokio::test]
    async fn a_name_is_asked_for() {
        let pod = |ip: &str| -> Pod {
            let ips = json!([{"ip": ip}, {"ip": "::1"}]);
            serde_json::from_value(json!({"metadata": {}, "status": {"podIPs": ips}})).unwrap()
        };
        let asked = ClusterDns { is_asked: true };
        assert_eq!(asked.leads_to("localhost", &pod("127.0.0.1")).await, Ok(()));
        assert!(asked.leads_to("127.0.0.1", &pod("127.0.0.2")).await.is_err());
        let not_asked = ClusterDns { is_asked: false };
        assert_eq!(not_asked.leads_to("127.0.0.1", &pod("127.0.0.2")).await, Ok(()));
    }
}
