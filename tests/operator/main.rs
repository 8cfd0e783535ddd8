//! The operator's own binary against a real kube-apiserver, with the rights of `config/rbac` and no more.
//!
//! There are no nodes: what stands in for the kubelets runs real redis-servers (`rig::local::kubelet`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a step that fails is the test's failure"
)]

mod append_only;
mod children;
mod config;
mod divergence;
mod failover;
mod full_volume;
mod injection;
mod lab;
mod leadership;
mod lost_pod;
mod many;
mod mutations;
mod names;
mod network;
mod never_stopped;
mod password;
mod quorum;
mod refused;
mod requests;
mod rights;
mod roll;
mod start;
mod status;
mod storage;
mod switchover;
mod tenancy;
mod told;
mod typed_failover;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service},
        events::v1::Event,
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
};
use operator_core::{api::RedisReplicaSet, crd};
use rig::local::control_plane::ControlPlane;
use rig::local::plane::{
    PATIENCE, assert_nothing_was_forbidden, controllers, plane, requests, wait_for, writes,
};
use rig::local::sets::{apply, conditions_of, create_namespace, install_crd, rustls_provider};
use rig::{
    local::kubelet::Kubelet,
    local::operator::{Operator, grant, until},
};
use serde_json::{Value, json};

use lab::{Lab, PASSWORD, assert_key, budget_writes, by_role, former_clients_are_cut, labels_follow, uids};
