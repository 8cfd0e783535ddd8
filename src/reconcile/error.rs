//! What can end a stage of a reconcile, and the word under which metrics and conditions count it.

use thiserror::Error;

use crate::kubernetes::{children::ApplyError, error::StoreError};
use operator_core::{api::Reason, plan::InvalidSpec};

/// The stage that failed, with its own error.
#[derive(Debug, Error)]
pub enum StageError {
    /// The spec cannot be planned.
    #[error(transparent)]
    Plan(#[from] InvalidSpec),
    /// The spec is not one that this operator knows.
    #[error("this RedisReplicaSet cannot be read: {0}. Edit it until kubectl apply accepts it")]
    Unreadable(String),
    /// The record or the password could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A child could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A decision could not be carried out.
    #[error(transparent)]
    Act(#[from] crate::act::ActError),
    /// The record that the watch showed is not there any more.
    #[error("the role record was deleted; the next reconcile makes it again from what all members answer")]
    RecordGone,
    /// There is no record, and none is made.
    #[error(
        "the role record is missing, and spec.paused keeps the operator from making it; it elects nobody until that is unset"
    )]
    RecordMissing,
    /// The reconcile took longer than its deadline.
    #[error("the reconcile did not end within {0:?}; the API server or the network is too slow")]
    Deadline(std::time::Duration),
}

impl StageError {
    /// A documented word for conditions (`docs/use/status.md`) and for the metric `redis_operator_errors`.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Plan(_) => Reason::InvalidSpec,
            Self::Unreadable(_) => Reason::Unreadable,
            Self::Store(StoreError::Foreign { .. }) => Reason::NameTaken,
            Self::Store(StoreError::Unreadable { .. }) | Self::RecordGone | Self::RecordMissing => {
                Reason::RecordUnreadable
            }
            Self::Apply(error) => error.reason(),
            Self::Store(_) => Reason::ApiError,
            Self::Act(_) => Reason::CommandFailed,
            Self::Deadline(_) => Reason::DeadlineExceeded,
        }
    }
}
