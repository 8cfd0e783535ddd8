//! `spec.networkPolicy`: who may connect to the pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_derive::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Who may connect to the pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Whether the operator keeps a `NetworkPolicy` named like the set. It closes every port of the pods but 6379. Where
    /// false, the operator deletes the one that it made.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// Who may connect to port 6379, beside the pods of the set and the operator. If absent, everybody may: only the
    /// other ports are closed. An operator that runs outside of the cluster needs an `ipBlock` here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub clients: Option<Vec<Client>>,
}

impl Default for Network {
    fn default() -> Self {
        Self { enabled: yes(), clients: None }
    }
}

fn yes() -> bool {
    true
}

/// Pods or addresses, as in a `NetworkPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)", "a client must have podSelector, namespaceSelector, both, or ipBlock. podSelector: {} means every pod of this namespace, namespaceSelector: {} every pod of all namespaces"),
    validation = ("!has(self.ipBlock) || (!has(self.podSelector) && !has(self.namespaceSelector))", "a client must not have ipBlock beside podSelector or namespaceSelector: write two clients")
)]
pub struct Client {
    /// Pods with these labels: in the set's namespace, or in those that `namespaceSelector` chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub pod_selector: Option<LabelSelector>,

    /// Namespaces with these labels: all of their pods, or those that `podSelector` chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub namespace_selector: Option<LabelSelector>,

    /// Addresses, for clients outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("isCIDR(self.cidr)", "ipBlock.cidr must be a range of addresses, for example 192.0.2.0/24 or 2001:db8::/64"),
    validation = ("!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, isCIDR(e) && cidr(self.cidr).containsCIDR(e) && cidr(e).prefixLength() > cidr(self.cidr).prefixLength())", "ipBlock.except: each must be a range of addresses within cidr, and smaller than it")
)]
pub struct IpBlock {
    /// The range, for example `192.0.2.0/24`.
    #[schemars(length(min = 1, max = 49))]
    pub cidr: String,

    /// Ranges within it that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ranges_schema")]
    pub except: Vec<String>,
}

/// Kubernetes' own brings a kilobyte of description wherever it stands, and no bounds.
fn selector_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that it has.",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "description": "What else holds of its labels; all of it must.",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "description": "The label.", "maxLength": 317},
                        "operator": {
                            "type": "string",
                            "description": "How its value stands to values.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "type": "array",
                            "description": "For In and NotIn: at least one. For the others: none.",
                            "maxItems": 32,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                },
            },
        },
    })
}

fn ranges_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": {"type": "string", "maxLength": 49}})
}
