//! The Services: one to reach each pod by name, one to reach the primary, one to reach replicas.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::labels;
use crate::{labels::Role, names::REDIS_PORT_NAME, plan::Plan};
use redis_node::files::REDIS_PORT;

/// Gives each pod a DNS name that follows it to a new address.
///
/// It names pods that are not ready too: a loading primary and the replicas that look for it would otherwise wait
/// for each other.
pub(super) fn headless(plan: &Plan) -> Service {
    let mut spec = spec(labels::labels(&plan.subject.set));
    spec.cluster_ip = Some("None".to_owned());
    spec.publish_not_ready_addresses = Some(true);
    Service {
        metadata: metadata(plan, plan.subject.set.headless_service()),
        spec: Some(spec),
        ..Service::default()
    }
}

/// One address for writes: leads to the pod that is labelled as the primary.
pub(super) fn primary(plan: &Plan) -> Service {
    by_role(plan, plan.subject.set.primary_service(), Role::Primary)
}

/// One address for reads: leads to the pods that are labelled as replicas.
pub(super) fn replicas(plan: &Plan) -> Service {
    by_role(plan, plan.subject.set.replicas_service(), Role::Replica)
}

/// With an address of its own and not headless: a client needs no DNS to find the pod that has the role now.
fn by_role(plan: &Plan, name: String, role: Role) -> Service {
    let mut spec = spec(labels::of_role(&plan.subject.set, role));
    spec.publish_not_ready_addresses = Some(false);
    Service { metadata: metadata(plan, name), spec: Some(spec), ..Service::default() }
}

fn spec(selector: BTreeMap<String, String>) -> ServiceSpec {
    ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        ip_family_policy: Some("PreferDualStack".to_owned()),
        selector: Some(selector),
        ports: Some(vec![ServicePort {
            name: Some(REDIS_PORT_NAME.to_owned()),
            port: i32::from(REDIS_PORT),
            target_port: Some(IntOrString::String(REDIS_PORT_NAME.to_owned())),
            protocol: Some("TCP".to_owned()),
            app_protocol: Some("redis".to_owned()),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    }
}
