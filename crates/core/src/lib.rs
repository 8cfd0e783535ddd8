//! What the operator decides: from what a user wrote and what the servers answered to what is to be there, what is to be done, and
//! what the status says. Without a client, a runtime, a clock: the dependencies of this crate have none.

// kube's derive macros name what they need as `::kube`. Here that is the part of kube without a client.
extern crate self as kube;
#[doc(hidden)]
pub use kube_core as core;
#[doc(hidden)]
pub use kube_derive::KubeSchema;

pub mod acl;
pub mod api;
pub mod crd;
pub mod credentials;
pub mod desired;
pub mod diff;
pub mod election;
pub mod events;
#[cfg(feature = "fixtures")]
pub mod fixtures;
pub mod hash;
pub mod labels;
pub mod live_config;
pub mod names;
pub mod observed;
pub mod plan;
pub mod quantity;
pub mod redis_conf;
pub mod refusal;
pub mod requeue;
pub mod role_labels;
pub mod rollout;
pub mod settings;
pub mod status;
pub mod subject;
pub mod topology;
pub mod volumes;
