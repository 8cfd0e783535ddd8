//! What the operator decides: from what a user wrote and what the servers answered to what is to be there, what is to be done, and
//! what the status says. Without a client, a runtime, a clock: the dependencies of this crate have none.

// kube's derive macros name what they need as `::kube`. Here that is the part of kube without a client.
extern crate self as kube;
#[doc(hidden)]
pub use kube_core as core;
#[doc(hidden)]
pub use kube_derive::KubeSchema;

pub mod api;
pub mod config;
pub mod crd;
pub mod decide;
pub mod desired;
pub mod drift;
pub mod events;
pub mod hash;
pub mod image;
pub mod immutable;
pub mod names;
pub mod observed;
pub mod plan;
pub mod quantity;
pub mod requeue;
pub mod roles;
pub mod settings;
pub mod status;
pub mod subject;
pub mod topology;
pub mod volumes;
