//! The pods' volumes: which of their claims are to grow, and when the record's history is to be left on them.
//!
//! The operator's `kubernetes::claims` reads and writes the claims.

pub mod history;
pub mod takeover;

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::api::resource::Quantity};

use crate::{
    names::{HISTORY, SetName, pod_of},
    quantity,
};

/// The `PersistentVolumeClaim` of one pod, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// `data-<pod>`.
    pub name: String,
    /// Its UID, as the precondition of a patch.
    pub uid: String,
    /// The pod that uses it.
    pub pod: String,
    /// What it asks for.
    pub requested: Option<Quantity>,
    /// What its volume has; none before there is one.
    pub capacity: Option<Quantity>,
    /// It has a volume. Only such a claim can grow.
    pub bound: bool,
    /// What Kubernetes says of a growth that is under way or failed.
    pub resize: Option<String>,
    /// The history that an earlier epoch left on it.
    pub history: Option<String>,
}

impl Claim {
    /// Reads a claim; `None` where it is not one of this set's pods', or is being deleted.
    pub fn read(set: &SetName, claim: &PersistentVolumeClaim) -> Option<Self> {
        let name = claim.metadata.name.clone()?;
        let pod = pod_of(set, &name)?.to_owned();
        if claim.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
        let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        let capacity = status.and_then(|status| status.capacity.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        // An error tells more than the step that it ended.
        let resize = conditions.into_iter().flatten().filter(|c| c.status == "True").max_by_key(|c| {
            ["Resizing", "FileSystemResizePending", "NodeResizeError", "ControllerResizeError"]
                .iter()
                .position(|type_| *type_ == c.type_)
        });
        Some(Self {
            name,
            uid: claim.metadata.uid.clone()?,
            pod,
            requested: requests.and_then(|all| all.get("storage")).cloned(),
            capacity: capacity.and_then(|all| all.get("storage")).cloned(),
            bound: status.and_then(|status| status.phase.as_deref()) == Some("Bound"),
            resize: resize.map(|c| match &c.message {
                Some(message) => format!("{}: {message}", c.type_),
                None => c.type_.clone(),
            }),
            history: claim.metadata.annotations.as_ref().and_then(|all| all.get(HISTORY)).cloned(),
        })
    }
}

/// What a claim needs to become of the wanted size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has it, or more.
    Nothing,
    /// To be asked for it.
    Ask,
    /// Time; what it waits for.
    Time(String),
}

/// What this claim needs.
pub fn need(claim: &Claim, size: &Quantity) -> Need {
    if is_less(claim.requested.as_ref(), size) {
        return if claim.bound { Need::Ask } else { Need::Time("it has no volume yet".to_owned()) };
    }
    // A claim without a volume gets one of the size that it asks for.
    if claim.bound && is_less(claim.capacity.as_ref(), size) {
        return Need::Time(claim.resize.clone().unwrap_or_else(|| "the volume's driver is asked".to_owned()));
    }
    Need::Nothing
}

/// Whether a quantity is known to be worth less than another.
pub fn is_less(quantity: Option<&Quantity>, than: &Quantity) -> bool {
    let worth = |quantity: &Quantity| quantity::nanos(&quantity.0);
    quantity.and_then(worth).zip(worth(than)).is_some_and(|(worth, than)| worth < than)
}

/// How far the claims are from the wanted size. Nothing in it: they have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// The wanted size.
    pub size: String,
    /// Claims that grow, each with what it waits for.
    pub running: Vec<String>,
    /// Claims that the API server does not let grow, each with its words.
    pub refused: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn size(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    fn claim(requested: &str, status: &Value) -> Claim {
        let claim = json!({
            "metadata": {"name": "data-redis-2", "uid": "u", "annotations": {"replication.redis/history": "{}"}},
            "spec": {"resources": {"requests": {"storage": requested}}},
            "status": status,
        });
        Claim::read(&SetName::new("lab", "redis"), &serde_json::from_value(claim).unwrap()).unwrap()
    }

    fn bound(capacity: &str) -> Value {
        json!({"phase": "Bound", "capacity": {"storage": capacity}})
    }

    #[test]
    fn a_claim_grows_and_never_shrinks() {
        for (claim, expected) in [
            (claim("1Gi", &bound("1Gi")), Need::Ask),
            (claim("1Gi", &json!({"phase": "Pending"})), Need::Time("it has no volume yet".into())),
            (claim("2Gi", &bound("1Gi")), Need::Time("the volume's driver is asked".into())),
            (claim("2Gi", &bound("2Gi")), Need::Nothing),
            (claim("2048Mi", &bound("2048Mi")), Need::Nothing),
            (claim("5Gi", &bound("5Gi")), Need::Nothing),
            // Some drivers give more than was asked for.
            (claim("1Gi", &bound("4Gi")), Need::Ask),
            (claim("2Gi", &json!({"phase": "Pending"})), Need::Nothing),
        ] {
            assert_eq!(need(&claim, &size("2Gi")), expected, "{claim:?}");
        }
    }

    #[test]
    fn what_kubernetes_says_of_a_growth_is_shown() {
        let said = |conditions: &Value| {
            let status = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": conditions});
            need(&claim("2Gi", &status), &size("2Gi"))
        };
        let resizing = json!({"type": "Resizing", "status": "True"});
        let pending =
            json!({"type": "FileSystemResizePending", "status": "True", "message": "restart a pod"});
        let failed = json!({"type": "ControllerResizeError", "status": "True", "message": "no space"});
        let past = json!({"type": "NodeResizeError", "status": "False", "message": "gone by"});
        for (conditions, expected) in [
            (json!([resizing]), "Resizing"),
            (json!([pending, resizing]), "FileSystemResizePending: restart a pod"),
            (json!([failed, resizing, past]), "ControllerResizeError: no space"),
        ] {
            assert_eq!(said(&conditions), Need::Time(expected.into()), "{conditions}");
        }
    }

    #[test]
    fn only_claims_of_this_sets_pods_are_read() {
        let set = SetName::new("lab", "redis");
        let read = |metadata: Value| {
            Claim::read(&set, &serde_json::from_value(json!({ "metadata": metadata })).unwrap())
        };
        let own = read(json!({"name": "data-redis-2", "uid": "u"})).unwrap();
        assert_eq!((own.pod.as_str(), own.bound, own.history), ("redis-2", false, None));
        for name in ["data-other-2", "redis-2", "data-redis-x", "log-redis-2", "data-redis-02"] {
            assert_eq!(read(json!({"name": name, "uid": "u"})), None, "{name}");
        }
        let going = json!({"name": "data-redis-2", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(read(going), None);
    }
}
