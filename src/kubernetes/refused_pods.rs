//! Events of a `StatefulSet`, where its controller tells of pods that it could not make.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};
use operator_core::{
    names::SetName,
    refusal::{FAILED_CREATE, Told},
};
use tokio::time::timeout;

/// Time that the API server has to list them: the status of the set waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// The controller's recorder makes fewer in the hour for which Events live: ten with different words in ten minutes, then one that it
/// counts up.
const MOST: u32 = 100;

/// What the controller told of pods that it could not make for the `StatefulSet` of this UID.
///
/// # Errors
/// In the words of the API server, why they cannot be listed.
pub async fn list(client: &Client, set: &SetName, uid: &str) -> Result<Vec<Told>, String> {
    let api: Api<Event> = Api::namespaced(client.clone(), &set.namespace);
    let fields = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},involvedObject.uid={uid},reason={FAILED_CREATE}",
        set.stateful_set()
    );
    let params = ListParams::default().fields(&fields).limit(MOST);
    match timeout(DEADLINE, api.list(&params)).await {
        Ok(Ok(events)) => Ok(events.iter().filter_map(Told::read).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the API server did not answer within {DEADLINE:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::FakeApi;
    use serde_json::json;

    #[tokio::test]
    async fn only_the_events_of_this_stateful_set_are_asked_for() {
        let event = |message: &str| {
            json!({
                "metadata": {}, "involvedObject": {}, "message": message,
                "lastTimestamp": "2026-01-01T00:00:00Z", "reportingComponent": "statefulset-controller",
            })
        };
        let listed = json!({
            "kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [
                event("create Pod redis-0 in StatefulSet redis failed error: no"), event("something else"),
            ],
        });
        let api = FakeApi::answering([(200, listed), (403, FakeApi::status(403, "Forbidden"))]);
        let (client, set) = (api.client(), SetName::new("lab", "redis"));
        let told = list(&client, &set, "u-1").await.unwrap();
        assert_eq!(told.iter().map(|told| told.words.as_str()).collect::<Vec<_>>(), ["no"]);
        let asked = &api.requests()[0];
        assert_eq!(asked.path, "/api/v1/namespaces/lab/events");
        for part in ["kind%3DStatefulSet", "name%3Dredis", "uid%3Du-1", "reason%3DFailedCreate", "limit=100"]
        {
            assert!(asked.query.contains(part), "{part}: {}", asked.query);
        }
        assert!(list(&client, &set, "u-1").await.unwrap_err().contains("Forbidden"));
    }
}
