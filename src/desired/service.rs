//! The headless Service.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{labels, metadata};
use crate::{
    names::{REDIS_PORT, REDIS_PORT_NAME},
    plan::Plan,
};

/// Gives each pod a DNS name that follows it to a new address.
///
/// It names pods that are not ready too: a loading primary and the replicas that look for it would otherwise wait
/// for each other.
pub(super) fn headless(plan: &Plan) -> Service {
    Service {
        metadata: metadata(plan, plan.set.headless_service()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            selector: Some(labels::labels(&plan.set)),
            ports: Some(vec![ServicePort {
                name: Some(REDIS_PORT_NAME.to_owned()),
                port: i32::from(REDIS_PORT),
                target_port: Some(IntOrString::String(REDIS_PORT_NAME.to_owned())),
                protocol: Some("TCP".to_owned()),
                app_protocol: Some("redis".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
