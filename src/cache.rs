//! Objects as the caches keep them: encoded, beside the metadata by which they are found.
//!
//! A decoded `StatefulSet` takes ten times the memory of its text, above all for the volumes and probes of its pods, and the operator
//! keeps one for each set. Each object is read a few times a reconcile.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource, ResourceExt,
    runtime::{reflector::Store, watcher::Event},
};
use operator_core::names::SetName;
use serde::{Serialize, de::DeserializeOwned};

/// An object of this kind, encoded.
pub struct Packed<K> {
    /// Name and owners; the whole metadata is in the text.
    metadata: ObjectMeta,
    /// `None` for one that cannot be encoded. There is none: Kubernetes' own kinds come from JSON.
    text: Option<Box<str>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), text: self.text.clone(), kind: PhantomData }
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Packed<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Packed<K> {
    /// Encodes an object. Who wrote which of its fields is a third of its size, and nothing reads it.
    pub fn of(mut object: K) -> Self {
        object.meta_mut().managed_fields = None;
        let text = serde_json::to_string(&object).ok().map(String::into_boxed_str);
        let ObjectMeta { name, namespace, owner_references, .. } = std::mem::take(object.meta_mut());
        let metadata = ObjectMeta { name, namespace, owner_references, ..ObjectMeta::default() };
        Self { metadata, text, kind: PhantomData }
    }

    /// The object as it was.
    pub fn unpack(&self) -> Option<K> {
        serde_json::from_str(self.text.as_deref()?).ok()
    }

    /// What a watch shows, with its object encoded.
    pub fn of_event(event: Event<K>) -> Event<Self> {
        match event {
            Event::Apply(object) => Event::Apply(Self::of(object)),
            Event::Delete(object) => Event::Delete(Self::of(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(Self::of(object)),
            Event::InitDone => Event::InitDone,
        }
    }
}

/// The pods of a set, as the watch shows them; it shows only pods with the operator's labels.
pub fn pods_of(pods: &Store<Packed<Pod>>, set: &SetName) -> Vec<Arc<Pod>> {
    let belongs = |pod: &Packed<Pod>| {
        pod.namespace().as_deref() == Some(&set.namespace) && set.ordinal(&pod.name_any()).is_some()
    };
    pods.state().iter().filter(|pod| belongs(pod)).filter_map(|pod| pod.unpack()).map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSet;
    use serde_json::json;

    #[test]
    fn an_object_comes_back_as_it_was_but_for_who_wrote_it() {
        let owner = json!({"apiVersion": "v1", "kind": "X", "name": "redis", "uid": "u", "controller": true});
        let children: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(include_str!("../tests/golden/redis.yaml")).unwrap();
        let stateful_set = children.into_iter().find(|child| child["kind"] == "StatefulSet").unwrap();
        let mut wanted: StatefulSet = serde_json::from_value(stateful_set).unwrap();
        wanted.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
        let mut object = wanted.clone();
        object.metadata.managed_fields = Some(vec![serde_json::from_value(json!({"manager": "x"})).unwrap()]);
        let packed = Packed::of(object);
        assert_eq!(packed.owner_references(), wanted.owner_references());
        assert_eq!((packed.name_any(), packed.namespace()), (wanted.name_any(), wanted.namespace()));
        assert_eq!(Packed::<StatefulSet>::kind(&()), "StatefulSet");
        assert_eq!(packed.unpack(), Some(wanted));
    }
}
