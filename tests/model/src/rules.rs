//! The shipped functions, and the ways to take one rule out of them for a regression: each alters what goes in or what
//! comes out, so that the product needs no switch.

use operator_core::election::{Decision, decide, elect, snapshot::Snapshot};
use redis_agent::start_rule::{Own, PeerAnswer, Start, decide as start};
use redis_node::record::Record;

/// What decides. Every field is the shipped function unless a regression says otherwise.
#[derive(Clone, Copy)]
pub struct Rules {
    pub decide: fn(&Record, &Snapshot) -> Decision,
    pub elect: fn(&Record, &Snapshot, &Snapshot) -> Decision,
    /// The start rule; the last argument is a pod's name out of a file that may be old.
    pub start: fn(Own<'_>, &[PeerAnswer], bool, &str) -> StartAs,
    /// An act reaches only the process that was looked at.
    pub bound: bool,
    /// Rule 1: a leader that acts on a server ends what a former one had begun there, and on all before a promotion.
    pub cut_former: Cut,
    /// After that, and before a promotion, all are asked whether they serve.
    pub looks_before_promoting: bool,
    /// And so are those that were parked, whether they still are.
    pub parked_before_promoting: bool,
    /// A leader that detaches the followers of a silent primary ends what a former one had begun on each of them.
    pub detach_cuts: bool,
    /// That a follower has ended is proven, or taken for granted where its pod was replaced.
    pub followers_ends_are_witnessed: bool,
    /// The record is written with the version that was read as precondition.
    pub preconditioned: bool,
    /// Whether the process that served last has ended is proven, or taken for granted where its pod was replaced.
    pub ends_are_witnessed: bool,
    /// The end of any earlier process of a pod counts as the end of the one that served.
    pub old_ends_count: bool,
    /// Who counts as alive before the primary's offset was read must have answered in the look before that.
    pub votes_need_two_looks: bool,
    /// Who rewrites its append-only file is not taken for one whose file is whole.
    pub rewrites_are_seen: bool,
    /// A leader whose lease is over sends nothing more; what it had sent still arrives.
    pub mandate: bool,
}

/// On which members the connections of a former leader are cut before an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The rule is out.
    Nobody,
    /// The member that is told something.
    Told,
    /// That one, and before a promotion every member.
    All,
}

/// How Redis starts; the shipped rule knows no third way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAs {
    By(Start),
    Primary,
}

/// As shipped.
pub const SHIPPED: Rules = Rules {
    decide,
    elect,
    start: |own, asked, wait_over, _| StartAs::By(start(own, asked, wait_over)),
    bound: true,
    cut_former: Cut::All,
    looks_before_promoting: true,
    parked_before_promoting: true,
    detach_cuts: true,
    followers_ends_are_witnessed: true,
    preconditioned: true,
    ends_are_witnessed: true,
    old_ends_count: false,
    votes_need_two_looks: true,
    rewrites_are_seen: true,
    mandate: true,
};
