//! What happens in each scenario. Each function begins with a settled set, marks the moment at which it disturbs it, and
//! returns once the disturbance has shown; that the set settles again is waited for by the caller.

pub mod change;
pub mod faults;
pub mod held;
pub mod links;
pub mod lost_node;
pub mod outside;
pub mod planned;
pub mod silence;
pub mod without_dns;
