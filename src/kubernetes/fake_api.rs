//! An API server that answers from a list, for unit tests of what is sent to one and what is made of its answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use kube::{Client, client::Body};
use operator_core::{api::RedisReplicaSet, settings::Settings, subject::Subject};
use serde_json::{Value, json};

/// A request as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, as it was sent; empty without one.
    pub query: String,
    /// Body; null where there was none.
    pub body: Value,
}

/// What becomes of a request.
#[derive(Clone, Copy)]
pub enum Fate {
    /// The client itself fails in a way that nobody foresaw.
    Panic,
    /// No answer ever comes.
    Silence,
}

/// The server.
#[derive(Clone, Default)]
pub struct FakeApi {
    reads: Option<Fate>,
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    requests: Arc<Mutex<Vec<Sent>>>,
}

impl FakeApi {
    /// Answers the requests in turn with these HTTP codes and bodies, and fails the test at one more.
    pub fn answering(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    /// The same, but each GET meets this fate.
    pub fn failing(reads: Fate, answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self { reads: Some(reads), ..Self::answering(answers) }
    }

    /// A refusal.
    pub fn status(code: u16, reason: &str) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        let api = self.clone();
        Client::new(tower::service_fn(move |request| api.clone().serve(request)), "default")
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Sent> {
        self.requests.lock().unwrap().clone()
    }

    async fn serve(
        self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        self.requests.lock().unwrap().push(Sent {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        });
        match self.reads {
            Some(Fate::Panic) if head.method == http::Method::GET => panic!("made up"),
            Some(Fate::Silence) if head.method == http::Method::GET => std::future::pending().await,
            _ => {}
        }
        let (code, answer) = self.answers.lock().unwrap().pop_front().expect("one request too many");
        Ok(http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }
}

/// A set of tests, as the API server would have it.
pub fn a_subject() -> Subject {
    let resource: RedisReplicaSet = serde_json::from_value(json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {"name": "redis", "namespace": "lab", "uid": "u-1"}, "spec": {},
    }))
    .unwrap();
    let settings = Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "operator:1".into(),
        operator_namespace: "ops".into(),
    };
    Subject::of(&resource, &settings).unwrap()
}
