//! Stands between the operator and the API server: hands every request on, and knows which ones change something.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode, header};
use kube::Client;
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::trap::{Moment, Trap};

/// Larger than any object here.
const LARGEST_BODY: usize = 4 << 20;

/// A listener that is not served yet.
pub struct ApiProxy(TcpListener);

/// A proxy that serves; ends with this value.
pub struct Serving(AbortHandle);

struct Shared {
    api_server: Client,
    trap: Arc<Trap>,
}

impl ApiProxy {
    /// Listens on the loopback.
    pub async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Where the operator is to look for the API server. Without TLS: both ends are in this process' reach.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Hands requests on to the API server, as the user of this client.
    pub fn serve(self, api_server: Client, trap: Arc<Trap>) -> Serving {
        let router = Router::new().fallback(hand_on).with_state(Arc::new(Shared { api_server, trap }));
        let serving = tokio::spawn(async move { axum::serve(self.0, router).await });
        Serving(serving.abort_handle())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn hand_on(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else { return unanswered() };
    let call = describe(&head.method, head.uri.path(), &body);
    // The client towards the API server says these itself.
    head.headers.remove(header::HOST);
    head.headers.remove(header::AUTHORIZATION);
    let request = http::Request::from_parts(head, kube::client::Body::from(body));

    let Some(call) = call else {
        return match shared.api_server.send(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(_) => unanswered(),
        };
    };
    let moment = shared.trap.meets(call);
    if moment == Some(Moment::Before) {
        shared.trap.spring();
        return unanswered();
    }
    // In a task of its own: whoever asked may be gone before the answer comes, and what was sent is carried out.
    let api_server = shared.api_server.clone();
    let carried_out = tokio::spawn(async move {
        let (head, body) = api_server.send(request).await.ok()?.into_parts();
        Some((head, body.collect_bytes().await.ok()?))
    });
    let Ok(Some((mut head, body))) = carried_out.await else { return unanswered() };
    // It is sent in one piece.
    head.headers.remove(header::TRANSFER_ENCODING);
    match moment {
        Some(Moment::Unanswered) => {
            shared.trap.spring();
            return unanswered();
        }
        Some(Moment::Answered) => shared.trap.spring_soon(),
        Some(Moment::Before) | None => {}
    }
    Response::from_parts(head, Body::from(body))
}

/// For a client that is gone.
fn unanswered() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// What a request changes, without the namespace; `None` where it only reads, and for the Lease, whose renewals come
/// by the clock: a kill there is a kill between two calls.
fn describe(method: &Method, path: &str, body: &[u8]) -> Option<String> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) || path.contains("/leases") {
        return None;
    }
    let (_, object) = path.split_once("/namespaces/").unwrap_or_default();
    let object = object.split_once('/').map_or(path, |(_, object)| object);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let object = match (body["reason"].as_str(), body["metadata"]["name"].as_str()) {
        // Names of Events are random.
        (Some(reason), _) if object.starts_with("events") => format!("events ({reason})"),
        _ if object.starts_with("events") => "events".to_owned(),
        (_, Some(name)) if !object.contains('/') => format!("{object}/{name}"),
        _ => object.to_owned(),
    };
    Some(format!("{method} {object}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_has_a_name() {
        let described = |method: Method, path: &str, body: &str| describe(&method, path, body.as_bytes());
        let space = "/api/v1/namespaces/lab";
        assert_eq!(described(Method::GET, &format!("{space}/pods"), ""), None);
        let lease = "/apis/coordination.k8s.io/v1/namespaces/lab/leases/redis-operator";
        assert_eq!(described(Method::PUT, lease, "{}"), None);
        for (method, path, body, call) in [
            (
                Method::POST,
                "/configmaps",
                r#"{"metadata": {"name": "redis-record"}}"#,
                "POST configmaps/redis-record",
            ),
            (Method::PATCH, "/services/redis", r#"{"metadata": {"name": "redis"}}"#, "PATCH services/redis"),
            (Method::DELETE, "/pods/redis-2", r#"{"preconditions": {}}"#, "DELETE pods/redis-2"),
            (
                Method::POST,
                "/events",
                r#"{"reason": "Ready", "metadata": {"name": "x.1"}}"#,
                "POST events (Ready)",
            ),
        ] {
            assert_eq!(described(method, &format!("{space}{path}"), body).as_deref(), Some(call));
        }
    }
}
