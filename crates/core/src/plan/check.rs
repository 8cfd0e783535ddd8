//! The checks of a spec, field by field. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{InvalidSpec, Storage};
use crate::{
    api::{
        directives as table,
        spec::{self, MAX_NAME_LENGTH, MAX_REPLICAS, Resources},
        users::AclUser,
    },
    names::{GROUP, SetName},
    quantity,
};

/// Longest name in the DNS (RFC 1035). Redis takes two characters more (`NET_HOST_STR_LEN` is 256).
const MAX_HOST_NAME_LENGTH: usize = 253;

pub(super) fn name(set: &SetName) -> Result<(), InvalidSpec> {
    let name = &set.name;
    let label = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if label && name.len() <= MAX_NAME_LENGTH {
        return Ok(());
    }
    Err(InvalidSpec::new(
        "metadata.name",
        format!(
            "{name:?} must be lower-case letters, digits and dashes, a letter first, at most {MAX_NAME_LENGTH} \
             characters: Services and pods are named after it. Create the set again under another name"
        ),
    ))
}

pub(super) fn replicas(replicas: i32) -> Result<(), InvalidSpec> {
    if (1..=MAX_REPLICAS).contains(&replicas) {
        return Ok(());
    }
    Err(InvalidSpec::new("spec.replicas", format!("{replicas} is not in the range 1 to {MAX_REPLICAS}")))
}

/// Every pod announces its DNS name to the primary, which must be able to hold it.
pub(super) fn host_names(set: &SetName, replicas: i32, cluster_domain: &str) -> Result<(), InvalidSpec> {
    let longest = set.fqdn(replicas - 1, cluster_domain);
    if longest.len() <= MAX_HOST_NAME_LENGTH {
        return Ok(());
    }
    Err(InvalidSpec::new(
        "metadata.name",
        format!(
            "the pods' DNS names would have {} characters, and DNS allows {MAX_HOST_NAME_LENGTH} ({longest}). \
             Create the set again under a shorter name, or in a namespace with a shorter one",
            longest.len()
        ),
    ))
}

pub(super) fn image(image: &str) -> Result<(), InvalidSpec> {
    if image.is_empty() || image.contains(char::is_whitespace) {
        return Err(InvalidSpec::new(
            "spec.image",
            format!("{image:?} is not an image: write it as registry/repository:tag"),
        ));
    }
    Ok(())
}

pub(super) fn directives(directives: &BTreeMap<String, String>) -> Result<(), InvalidSpec> {
    table::check(directives).map_err(|problem| InvalidSpec::new("spec.config", problem))
}

pub(super) fn users(users: &[AclUser]) -> Result<(), InvalidSpec> {
    match users.iter().find_map(AclUser::problem) {
        Some(problem) => Err(InvalidSpec::new("spec.users", problem)),
        None => Ok(()),
    }
}

pub(super) fn storage(storage: &spec::Storage) -> Result<Storage, InvalidSpec> {
    match (&storage.size, &storage.ephemeral) {
        (Some(size), None) if quantity::nanos(&size.0).is_some_and(|worth| worth > 0) => {
            Ok(Storage::Volume {
                size: size.clone(),
                class: storage.storage_class_name.clone(),
                retention: storage.retention.unwrap_or_default(),
            })
        }
        (Some(size), None) => Err(InvalidSpec::new(
            "spec.storage.size",
            format!("{:?} is not a quantity above zero: write for example 10Gi", size.0),
        )),
        (None, Some(_)) if storage.storage_class_name.is_some() || storage.retention.is_some() => {
            Err(InvalidSpec::new(
                "spec.storage",
                "storageClassName and retention are about volumes: remove them, or give a size instead of ephemeral",
            ))
        }
        (None, Some(_)) => Ok(Storage::Ephemeral),
        (Some(_), Some(_)) | (None, None) => Err(InvalidSpec::new(
            "spec.storage",
            "give either size (a volume for each pod) or ephemeral: {} (data lives and dies with the pod)",
        )),
    }
}

pub(super) fn resources(resources: &Resources) -> Result<(), InvalidSpec> {
    let worths = |field: &str, quantities: &BTreeMap<String, Quantity>| {
        let worth = |(name, quantity): (&String, &Quantity)| match quantity::nanos(&quantity.0) {
            Some(worth) if worth >= 0 => Ok((name.clone(), worth)),
            _ => Err(InvalidSpec::new(
                format!("spec.resources.{field}.{name}"),
                format!("{:?} is not a quantity: write for example cpu: 100m, memory: 1Gi", quantity.0),
            )),
        };
        quantities.iter().map(worth).collect::<Result<BTreeMap<String, i128>, InvalidSpec>>()
    };
    let requests = worths("requests", &resources.requests)?;
    let limits = worths("limits", &resources.limits)?;
    match requests.iter().find(|(name, wanted)| limits.get(*name).is_some_and(|limit| *wanted > limit)) {
        None => Ok(()),
        Some((name, _)) => Err(InvalidSpec::new(
            format!("spec.resources.requests.{name}"),
            "is more than the limit: raise spec.resources.limits or lower the request",
        )),
    }
}

/// Keys of labels or annotations for the pods.
pub(super) fn pod_metadata(field: &str, entries: &BTreeMap<String, String>) -> Result<(), InvalidSpec> {
    let ours = format!("{GROUP}/");
    for key in entries.keys() {
        if key.starts_with("app.kubernetes.io/") || key.starts_with(&ours) {
            return Err(InvalidSpec::new(
                field,
                format!(
                    "{key} cannot be set: app.kubernetes.io/ and {ours} are the operator's. Use a prefix of your own"
                ),
            ));
        }
        let (prefix, name) =
            key.split_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        if !prefix.is_none_or(is_dns_subdomain) || name.is_empty() || !is_label_text(name) {
            return Err(InvalidSpec::new(
                field,
                format!(
                    "{key:?} is not a key: write [prefix/]name, with a name of at most 63 letters, digits, dashes, \
                     underscores and dots"
                ),
            ));
        }
    }
    Ok(())
}

pub(super) fn label_values(field: &str, labels: &BTreeMap<String, String>) -> Result<(), InvalidSpec> {
    match labels.iter().find(|(_, value)| !is_label_text(value)) {
        None => Ok(()),
        Some((key, value)) => Err(InvalidSpec::new(
            field,
            format!(
                "{value:?}, the value of {key}, is more than letters, digits, dashes, underscores and dots, or \
                 longer than 63: use podAnnotations for such text"
            ),
        )),
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.')))
}

fn is_dns_subdomain(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
