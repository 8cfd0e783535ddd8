//! Who may log in to a set's servers, and what becomes of that when a password changes. Pure.
//!
//! The Secret `<name>-internal` holds the passwords of the operator's own users, and all users as each server starts with them. The
//! operator writes it, and tells the running servers afterwards: so a server that starts meanwhile takes what the others take. A
//! changed password is added beside the former one, which goes once every server has taken the new one and its time is over.

mod internal;
mod next;
mod report;

pub use internal::{FormerOwn, Granted, Internal, Own, Taken, Unusable};
pub use next::{Application, Took, Wanted, next};
pub use report::{Missing, Report};
