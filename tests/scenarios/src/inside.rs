//! Writers on the primary's side of a cut: they run on its node and know its address alone. They show what a server that is
//! cut off still takes, and until when.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    node::{Heard, Order, Span},
    stage::Stage,
};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::log::Log,
    node::InNode,
};

/// Begins the names of these writers; the round follows.
pub const NAME: &str = "inside";
/// Until they must have written, or told what they wrote.
const LIMIT: Duration = Duration::from_secs(30);

/// Two writers on one node; they end when this is dropped.
pub struct Inside {
    program: InNode,
    heard: Arc<Log<Heard>>,
}

/// From the cut until the last success within it, in milliseconds; 0 where there was none.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Took {
    /// Answered with OK.
    pub ok: i64,
    /// Acknowledged by a replica.
    pub acknowledged: i64,
}

impl Inside {
    /// Begins on the node of this Pod; returns once both have succeeded.
    pub async fn begin(stage: &Stage<'_>, pod: &str) -> Result<Self, Failure> {
        let (heard, begun) = (Log::new(), now());
        let told = Arc::clone(&heard);
        // The histories are handed on, so no file is written here.
        let arguments = ["client", "--prefix", stage.client.prefix(), "--history", "/dev/null"];
        let node = stage.node(pod)?;
        let program = InNode::start(&stage.lab.cluster, &node, &arguments, move |answer| {
            told.push(now(), answer);
        })?;
        let inside = Self { program, heard };
        let writer = format!("{NAME}-{}", stage.round);
        let server = stage.set.target(stage.lab, pod).await?;
        inside.program.send(&Order::BeginAt { writer: writer.clone(), server })?;
        for name in [format!("{writer}+wait"), writer] {
            let is_first =
                |heard: &Heard| matches!(heard, Heard::First { writer } if *writer == name).then_some(());
            let what = format!("a first success of the writer {name} on {node}");
            inside.heard.find(begun, LIMIT, &what, is_first).await?;
        }
        Ok(inside)
    }

    /// Ends them, notes until when the server took their writes within this time, and has these read back at the end.
    pub async fn end(self, stage: &Stage<'_>, cut: Span) -> Result<(), Failure> {
        let asked = now();
        self.program.send(&Order::Stop)?;
        let stopped = |heard: &Heard| match heard {
            Heard::Stopped(histories) => Some(histories.clone()),
            _ => None,
        };
        let (_, histories) = self.heard.find(asked, LIMIT, "the writers inside end", stopped).await?;
        let last = |confirms: bool| {
            let history = histories.iter().find(|history| history.confirms == confirms);
            history.and_then(|history| history.last_success_in(cut)).map_or(0, |at| millis(cut.from, at))
        };
        stage.took(Took { ok: last(false), acknowledged: last(true) });
        stage.client.adopt(histories)
    }
}

/// From a moment until now.
pub fn since(from: Timestamp) -> Span {
    Span { from, to: now() }
}
