//! What a person asks for by annotating a set.

/// Where the primary belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The pod.
    pub pod: String,
    /// A person asked for it just now; otherwise it is merely where the primary returns to.
    pub asked: bool,
}

/// A person's consent to lose what the named pod does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The pod to promote.
    pub pod: String,
    /// The epoch that the person saw: a decision that was made since voids the consent.
    pub epoch: i64,
}
