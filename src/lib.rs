//! An operator for replicated Redis: everything with a client, a clock or a connection. What it decides is in
//! `operator_core`, which has none of these.
//!
//! One reconcile of one `RedisReplicaSet`, stage by stage. Each stage is a file in `reconcile`; beside it stand the modules of the
//! core that decide in it:
//!
//! ```text
//! begin      the children, the record, the passwords   labels volumes credentials
//!   |  Begun
//! look       every server, asked again                 observed topology
//!   |  Seen
//! settle     who is primary: decide, act, look again   election role_labels
//!   |  Seen
//! configure  redis.conf: told to running servers       redis_conf live_config
//!   |
//! rollout    size, children, next pod, placement       plan desired diff rollout
//!   |
//! volumes    they grow, and bear the history           volumes
//!   |
//! users      every server takes what the Secrets say   acl credentials
//!   |  Outcome
//! publish    status, Events, figures                   status events
//! ```
//!
//! What looks, elects, labels and reports needs a `Subject`, never a valid spec. A stage that fails is a line in the `Outcome`,
//! and what does not need it goes on. `tests/architecture/` holds the code to this page.

pub mod act;
pub mod cache;
pub mod cli;
pub mod cluster_dns;
pub mod context;
pub mod controller;
pub mod error_chain;
pub mod http;
pub mod kubernetes;
pub mod leadership;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod reconcile;
pub mod redis;
pub mod run;
pub mod watch;
