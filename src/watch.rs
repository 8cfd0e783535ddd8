//! What starts a reconcile beside the controller's own watches: the pods, and the held connections to the servers.

use futures::channel::mpsc;
use kube::runtime::reflector::ObjectRef;
use operator_core::api::RedisReplicaSet;

pub mod pods;
pub mod servers;

/// Asks for a reconcile over one set.
pub type Trigger = mpsc::UnboundedSender<ObjectRef<RedisReplicaSet>>;
