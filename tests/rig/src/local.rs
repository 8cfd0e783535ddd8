//! A control plane, an operator and redis-servers as processes of this machine, without a cluster.

pub mod control_plane;
pub mod kubelet;
pub mod operator;
pub mod plane;
pub mod pods;
pub mod redis_server;
pub mod sets;
pub mod told;
