//! `spec.auth`: how applications log in, and how long a former password is taken.

use std::time::Duration;

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// How applications log in. Replication, the operator and the probes have users of their own, which nothing here touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.disabled || !has(self.secretName)", "auth.disabled asks for no password, and auth.secretName names one: remove one of the two")
)]
pub struct Auth {
    /// Secret of the same namespace whose key `password` holds what applications log in with, as user `default`. If absent, the
    /// operator makes the Secret `<name>-auth` with a random password, and never writes to it again. A password that is changed in
    /// the Secret reaches all servers within a minute, without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,

    /// Ask applications for no password: whoever reaches the port can read, write and delete everything.
    #[serde(default)]
    pub disabled: bool,

    /// Seconds for which the servers also take the former password, after each server has taken the changed one.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub grace: i32,

    /// Days after which the operator changes the passwords of its own users, and so again and again. If absent, it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub internal_rotation_days: Option<i32>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { secret_name: None, disabled: false, grace: default_grace(), internal_rotation_days: None }
    }
}

impl Auth {
    /// Whether the spec says something else than that the operator makes the Secret.
    pub fn is_chosen(&self) -> bool {
        self.disabled || self.secret_name.is_some()
    }

    /// For how long a former password of the application is taken.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace.try_into().unwrap_or(0))
    }
}

/// Time for applications that mount the Secret: kubelets bring them a change within two minutes.
fn default_grace() -> i32 {
    300
}
