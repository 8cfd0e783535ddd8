//! Where the operator puts what the agent reads in each pod, and under which keys.

/// Port on which every Redis listens, and the port that replicas name as their primary's.
pub const REDIS_PORT: u16 = 6379;
/// Key of the application's password in its Secret.
pub const PASSWORD_KEY: &str = "password";
/// Key of the ACL users in the Secret `<name>-internal`: `user` lines of redis.conf, with hashes of passwords.
pub const USERS_KEY: &str = "users.acl";
/// Key of the password of [`crate::login::OPERATOR_USER`] in the Secret `<name>-internal`. No pod mounts it.
pub const OPERATOR_PASSWORD_KEY: &str = "operator-password";
/// Key of the password of [`crate::login::REPLICA_USER`] in the Secret `<name>-internal`.
pub const REPLICA_PASSWORD_KEY: &str = "replica-password";
/// Key of the password of [`crate::login::AGENT_USER`] in the Secret `<name>-internal`.
pub const AGENT_PASSWORD_KEY: &str = "agent-password";
/// Key of the user's redis.conf directives in the `ConfigMap` `<name>-config`.
pub const CONFIG_KEY: &str = "redis.conf";
/// Key of the role record (JSON) in the `ConfigMap` `<name>-record`.
pub const RECORD_KEY: &str = "record.json";
/// Key of the member list in the `ConfigMap` `<name>-record`: one pod name a line, for the agent.
pub const MEMBERS_KEY: &str = "members";
/// Where an init container puts the agent binary (an emptyDir).
pub const AGENT_DIR: &str = "/opt/redis-operator";
/// Where the `ConfigMap` `<name>-config` is mounted.
pub const CONFIG_DIR: &str = "/etc/redis-operator/config";
/// Where the `ConfigMap` `<name>-record` is mounted.
pub const RECORD_DIR: &str = "/etc/redis-operator/record";
/// Where the Secret `<name>-internal` is mounted: the users, and the passwords that Redis and the agent need.
pub const INTERNAL_DIR: &str = "/etc/redis-operator/internal";
/// Where pods of earlier versions have the Secret with the application's password.
pub const FORMER_AUTH_DIR: &str = "/etc/redis-operator/auth";
/// Where the agent writes the final redis.conf (an emptyDir in memory: it holds the password).
pub const RUN_DIR: &str = "/run/redis-operator";
/// Redis' working directory: RDB and AOF files live here.
pub const DATA_DIR: &str = "/data";
/// `terminationGracePeriodSeconds` of a pod whose set does not say.
pub const DEFAULT_GRACE_SECONDS: i64 = 120;
