//! What the process remembers of each set between reconciles. Losing it costs nothing but a needless call.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operator_core::{
    acl::{Rules, User},
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    credentials::{Application, Internal, Took},
    election::{mending::unmended, process_end::Former, votes::PrimarySample},
    live_config::AppliedConfig,
    names::SetName,
    observed::Observed,
    refusal::{Absences, Told},
    role_labels::Change,
};
use redis_node::login::Login;

use crate::kubernetes::{record::Stored, secrets};
use tokio::time::Instant;

/// The Secrets are read again after this time, by name: less than between two scheduled reconciles, so that a change is seen within
/// a minute. A watch would tell sooner, and needs the right to list, which is the right to read all Secrets.
const SECRETS_AGE: Duration = Duration::from_secs(40);
/// After a switchover that did not happen: writes were paused in vain, and that must not become a habit.
const SWITCHOVER_RETRY: Duration = Duration::from_secs(5);
/// After one that had to be taken back, at first.
const TAKEN_BACK_RETRY: Duration = Duration::from_secs(60);
/// After many.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// What makes it worth reading the Secrets again: a person who changes the set may have changed a Secret too. A server that
/// refuses the password does so as well ([`Memory::forget_secrets`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// UID of the set: a namesake has a Secret of its own.
    pub uid: String,
    /// `metadata.generation` of the set.
    pub generation: Option<i64>,
    /// Labels and annotations of the set.
    pub metadata: [Option<BTreeMap<String, String>>; 2],
}

/// The Secrets of a set, as they were read.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The operator's own; none where it is not there and may not be made.
    pub internal: Option<secrets::Stored>,
    /// What applications log in with.
    pub application: Application,
    /// The same of the users of the spec, by name.
    pub users: BTreeMap<String, Application>,
}

/// What this operator has told the processes of a set of their users, by `run_id`.
pub type ToldUsers = HashMap<String, ToldServer>;

/// What it has told one process.
#[derive(Clone, Debug, Default)]
pub struct ToldServer {
    /// By user: what it told, and what the server said of the user after it.
    pub users: HashMap<String, (User, String)>,
    /// The orders whose passwords it took, each by a login.
    pub took: Option<String>,
}

/// A status that this process wrote.
#[derive(Debug)]
struct Written {
    /// Version of the cached object at that time: while the cache still has it, the status is newer than the cache.
    over_version: Option<String>,
    /// Version that the object had after it.
    version: Option<String>,
    status: RedisReplicaSetStatus,
    at: Instant,
    /// How many writes of mere progress in a row this is; 0 for any other write.
    progress: u32,
}

/// What the process remembers of each set between reconciles. Losing it costs nothing but a needless call.
#[derive(Debug, Default)]
pub struct Memory {
    sets: Mutex<HashMap<ObjectRef<RedisReplicaSet>, Remembered>>,
}

/// Pods of a set that may be gone at the same time without a report of their end. Where there are more, their time begins again.
const MOST_GONE: usize = 64;

#[derive(Debug, Default)]
struct Remembered {
    written: Option<Written>,
    /// Reconciles that failed in a row.
    failures: u32,
    /// Since when nobody serves.
    nobody_serves: Option<Instant>,
    /// Followers of a silent primary that were detached, by `run_id`, and since when.
    detached: Option<(BTreeSet<String>, Instant)>,
    /// Pods that are gone while their node is ready, by UID: since when the node is, and since when that is known here.
    gone: BTreeMap<String, (String, Instant)>,
    /// Until when no switchover is begun, and how many in a row were in vain.
    switches_again: Option<(Instant, u32)>,
    /// Pods that refused a write for a cause of their own, with the `run_id` that did.
    refused: BTreeMap<String, String>,
    /// What the API server said of silent followers, by `run_id`, and when.
    unseen: BTreeMap<String, (Former, Instant)>,
    /// Since when the primary of record hands its role over.
    hands_over: Option<Instant>,
    /// A look at the serving primary, and when it was taken.
    glimpse: Option<(PrimarySample, Instant)>,
    /// `run_id`s of the last look.
    alive: BTreeSet<String>,
    /// Replicas whose link is down, since when, or since they were told again.
    unlinked: HashMap<String, Instant>,
    /// What each process was told of its configuration.
    told: AppliedConfig,
    /// UIDs of pods whose names did not lead to them, why, and when that was asked.
    astray: HashMap<String, (String, Instant)>,
    /// UIDs of pods that are not to be read, since when.
    unread: HashMap<String, Instant>,
    /// The Secrets as they were read, on which occasion, and when.
    secrets: Option<(Secrets, Occasion, Instant)>,
    /// UID of the set, and its Secrets as they were read last.
    last_secrets: Option<(String, Secrets)>,
    /// UID of the set, and a login that one of its servers accepted last.
    accepted: Option<(String, Login)>,
    /// What each process was told of its users.
    users_told: ToldUsers,
    /// What the operator's own Secret said when every server took that.
    took: Option<Internal>,
    /// Rules of users that every server took.
    took_rules: BTreeMap<String, Rules>,
    /// UID of the set, and its record as it was read or written last.
    record: Option<(String, Stored)>,
    /// Version of the record that this process wrote, or read from the API server, last.
    record_version: Option<String>,
    /// UID of the pod that was deleted last, to be replaced.
    deleted: Option<String>,
    /// Pods whose label was changed, with the version over which that was done.
    relabelled: HashMap<String, String>,
    /// Pods that the `StatefulSet` wants and has not.
    absences: Absences,
    /// What Events of the `StatefulSet` told of pods that could not be made, as they were listed last.
    told_of_pods: Vec<Told>,
    /// When they were asked for last.
    asked_for_events: Option<Instant>,
    /// They could not be listed when they were asked for last.
    lacks_events: bool,
}

impl Memory {
    /// The status as it stands in the cluster now, as far as this process can know.
    pub fn current_status(&self, set: &RedisReplicaSet) -> Option<RedisReplicaSetStatus> {
        self.newer(set, |written| Some(written.status.clone())).unwrap_or_else(|| set.status.clone())
    }

    /// The status that this process wrote last.
    pub fn last_written(&self, set: &ObjectRef<RedisReplicaSet>) -> Option<RedisReplicaSetStatus> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(set).and_then(|remembered| remembered.written.as_ref()).map(|written| written.status.clone())
    }

    /// The version of the set as it stands in the cluster now, as far as this process can know.
    pub fn current_version(&self, set: &RedisReplicaSet) -> Option<String> {
        self.newer(set, |written| written.version.clone()).unwrap_or_else(|| set.resource_version())
    }

    /// Of the status that this process wrote last, where the cache does not show that write yet.
    fn newer<T>(&self, set: &RedisReplicaSet, of: impl FnOnce(&Written) -> T) -> Option<T> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sets.get(&ObjectRef::from_obj(set))?.written.as_ref()?;
        (written.over_version == set.resource_version()).then(|| of(written))
    }

    /// Remembers a status that was just written, which version the set has since, and whether it told of mere progress.
    pub fn wrote_status(
        &self,
        set: &RedisReplicaSet,
        status: RedisReplicaSetStatus,
        version: Option<String>,
        progress: bool,
    ) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let written = &mut sets.entry(ObjectRef::from_obj(set)).or_default().written;
        let in_a_row = written.as_ref().map_or(0, |before| before.progress);
        let progress = if progress { in_a_row.saturating_add(1) } else { 0 };
        let over_version = set.resource_version();
        *written = Some(Written { over_version, version, status, at: Instant::now(), progress });
    }

    /// Whether this process wrote the status so lately that mere progress has to wait: for `interval` at first, twice
    /// as long after each such write, four times at most.
    pub fn wrote_lately(&self, set: &RedisReplicaSet, interval: Duration) -> bool {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sets.get(&ObjectRef::from_obj(set)).and_then(|r| r.written.as_ref());
        written.is_some_and(|written| {
            written.at.elapsed() < interval.saturating_mul(2_u32.pow(written.progress.min(2)))
        })
    }

    /// Counts a failed reconcile; returns how many failed in a row. A success starts again.
    pub fn count_failure(&self, set: &ObjectRef<RedisReplicaSet>, failed: bool) -> u32 {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = sets.entry(set.clone()).or_default();
        remembered.failures = if failed { remembered.failures.saturating_add(1) } else { 0 };
        remembered.failures
    }

    /// Of the replicas whose link is down now, those for which that has lasted for `patience`; each again only after
    /// the same time.
    pub fn stalled(&self, set: &SetName, unlinked: Vec<String>, patience: Duration) -> Vec<String> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = ObjectRef::new(&set.name).within(&set.namespace);
        let since = &mut sets.entry(set).or_default().unlinked;
        since.retain(|pod, _| unlinked.contains(pod));
        let now = Instant::now();
        let mut stalled = unlinked;
        stalled.retain(|pod| {
            let first = *since.entry(pod.clone()).or_insert(now);
            let due = now.duration_since(first) >= patience;
            if due {
                since.insert(pod.clone(), now);
            }
            due
        });
        stalled
    }

    /// What the processes of a set were told of their configuration.
    pub fn told(&self, set: &SetName) -> AppliedConfig {
        self.with(set, |remembered| remembered.told.clone())
    }

    /// Remembers it.
    pub fn remember_told(&self, set: &SetName, told: AppliedConfig) {
        self.with(set, |remembered| remembered.told = told);
    }

    /// Remembers why the name of this pod (by UID) does not lead to it.
    pub fn goes_astray(&self, set: &SetName, uid: &str, why: String) {
        self.with(set, |remembered| remembered.astray.insert(uid.to_owned(), (why, Instant::now())));
    }

    /// Pods (by UID) whose names did not lead to them within this time, and why.
    pub fn astray(&self, set: &SetName, within: Duration) -> HashMap<String, String> {
        self.with(set, |remembered| {
            remembered.astray.retain(|_, (_, asked)| asked.elapsed() < within);
            remembered.astray.iter().map(|(uid, (why, _))| (uid.clone(), why.clone())).collect()
        })
    }

    /// For how long each of these pods (by UID) is not to be read. Whoever is not among them starts again.
    pub fn unread_for(&self, set: &SetName, unread: Vec<String>) -> BTreeMap<String, Duration> {
        self.with(set, |remembered| {
            let since = &mut remembered.unread;
            since.retain(|uid, _| unread.contains(uid));
            let time = |uid: String| (uid.clone(), since.entry(uid).or_insert_with(Instant::now).elapsed());
            unread.into_iter().map(time).collect()
        })
    }

    /// Those of the changes that were not made yet. The watch may be behind: a change that was made over the very
    /// version of the pod that is seen again is not made twice.
    pub fn not_made_yet(&self, set: &SetName, mut changes: Vec<Change>) -> Vec<Change> {
        self.with(set, |remembered| {
            changes.retain(|change| remembered.relabelled.get(&change.pod) != Some(&change.version));
        });
        changes
    }

    /// Remembers changes that were made.
    pub fn made(&self, set: &SetName, changes: Vec<Change>) {
        let made = changes.into_iter().map(|change| (change.pod, change.version));
        self.with(set, |remembered| remembered.relabelled.extend(made));
    }

    /// Whether this pod was deleted already: the watch may be behind.
    pub fn has_deleted(&self, set: &SetName, uid: &str) -> bool {
        self.with(set, |remembered| remembered.deleted.as_deref() == Some(uid))
    }

    /// Remembers that this pod was deleted.
    pub fn deleted(&self, set: &SetName, uid: &str) {
        self.with(set, |remembered| remembered.deleted = Some(uid.to_owned()));
    }

    /// Whether this is the version of the record that this process wrote, or read from the API server, last.
    pub fn knows_record(&self, set: &SetName, version: &str) -> bool {
        self.with(set, |remembered| remembered.record_version.as_deref() == Some(version))
    }

    /// Remembers the record of the set with this UID that was written, or read from the API server.
    pub fn remember_record(&self, set: &SetName, uid: &str, stored: &Stored) {
        self.with(set, |remembered| {
            remembered.record_version = Some(stored.resource_version.clone());
            remembered.record = Some((uid.to_owned(), stored.clone()));
        });
    }

    /// Remembers the record that a watch showed, unless a newer one is known.
    pub fn remember_shown_record(&self, set: &SetName, uid: &str, stored: &Stored) {
        self.with(set, |remembered| {
            if remembered.record.as_ref().is_none_or(|(of, _)| of != uid) {
                remembered.record = Some((uid.to_owned(), stored.clone()));
            }
        });
    }

    /// The Secrets, if they were read on the same occasion, and not long ago. What is missing is looked for each time.
    pub fn secrets(&self, set: &SetName, occasion: &Occasion) -> Option<Secrets> {
        self.with(set, |remembered| {
            let (secrets, known, at) = remembered.secrets.as_ref()?;
            let is_whole = secrets.internal.is_some() && secrets.application != Application::Unknown;
            (is_whole && known == occasion && at.elapsed() < SECRETS_AGE).then(|| secrets.clone())
        })
    }

    /// The Secrets of the set with this UID as they were read last, however long ago.
    pub fn last_secrets(&self, set: &SetName, uid: &str) -> Option<Secrets> {
        self.with(set, |remembered| {
            remembered.last_secrets.clone().filter(|(of, _)| of == uid).map(|(_, s)| s)
        })
    }

    /// Remembers the Secrets.
    pub fn remember_secrets(&self, set: &SetName, secrets: Secrets, occasion: Occasion) {
        self.with(set, |remembered| {
            remembered.last_secrets = Some((occasion.uid.clone(), secrets.clone()));
            remembered.secrets = Some((secrets, occasion, Instant::now()));
        });
    }

    /// A server refused a password, or one is to be noted: the Secrets are to be read again.
    pub fn forget_secrets(&self, set: &SetName) {
        self.with(set, |remembered| remembered.secrets = None);
    }

    /// A server of the set with this UID accepted this login.
    pub fn accepts(&self, set: &SetName, uid: &str, login: Login) {
        self.with(set, |remembered| remembered.accepted = Some((uid.to_owned(), login)));
    }

    /// A login that a server of the set with this UID accepted.
    pub fn accepted(&self, set: &SetName, uid: &str) -> Option<Login> {
        self.with(set, |remembered| {
            remembered.accepted.as_ref().filter(|(of, _)| of == uid).map(|(_, login)| login.clone())
        })
    }

    /// What the servers of a set were told of their users.
    pub fn users_told(&self, set: &SetName) -> ToldUsers {
        self.with(set, |remembered| remembered.users_told.clone())
    }

    /// Remembers that.
    pub fn remember_users_told(&self, set: &SetName, told: ToldUsers) {
        self.with(set, |remembered| remembered.users_told = told);
    }

    /// What every server took, beside what the operator's own Secret says now.
    pub fn took(&self, set: &SetName, internal: &Internal) -> Took {
        self.with(set, |remembered| Took {
            all: remembered.took.as_ref() == Some(internal),
            rules: remembered.took_rules.clone(),
        })
    }

    /// Remembers that every server took what the operator's own Secret says (`None` where one did not), and which rules they took.
    pub fn remember_took(&self, set: &SetName, internal: Option<Internal>, rules: BTreeMap<String, Rules>) {
        self.with(set, |remembered| (remembered.took, remembered.took_rules) = (internal, rules));
    }

    /// The pods that are missing, after this look at them.
    pub fn absences(&self, set: &SetName, look: impl FnOnce(&mut Absences)) -> Absences {
        self.with(set, |remembered| {
            look(&mut remembered.absences);
            remembered.absences.clone()
        })
    }

    /// Whether the Events of the `StatefulSet` were not asked for within `interval`. Who is told so is to ask.
    pub fn is_to_ask_for_events(&self, set: &SetName, interval: Duration) -> bool {
        self.with(set, |remembered| {
            let is_due = remembered.asked_for_events.is_none_or(|at| at.elapsed() >= interval);
            if is_due {
                remembered.asked_for_events = Some(Instant::now());
            }
            is_due
        })
    }

    /// Remembers what they told; `None` where they could not be listed. Returns whether that is news: no right to list them is
    /// the same each time.
    pub fn remember_events(&self, set: &SetName, told: Option<Vec<Told>>) -> bool {
        self.with(set, |remembered| {
            let lacked = std::mem::replace(&mut remembered.lacks_events, told.is_none());
            if let Some(told) = told {
                remembered.told_of_pods = told;
            }
            remembered.lacks_events && !lacked
        })
    }

    /// What they told when they were listed last.
    pub fn told_of_pods(&self, set: &SetName) -> Vec<Told> {
        self.with(set, |remembered| remembered.told_of_pods.clone())
    }

    /// The record of the set with this UID, as it was read or written last. Only the leader writes it, so it is what should stand there.
    pub fn last_record(&self, set: &SetName, uid: &str) -> Option<Stored> {
        self.with(set, |remembered| {
            remembered.record.as_ref().filter(|(of, _)| of == uid).map(|(_, stored)| stored.clone())
        })
    }

    /// For how long nobody has been serving, as far as this process knows.
    pub fn nobody_serves_for(&self, set: &SetName, nobody_serves: bool) -> Duration {
        self.with(set, |remembered| lasted(&mut remembered.nobody_serves, nobody_serves))
    }

    /// Remembers that these processes were parked, and other operators cut off from them.
    pub fn detached(&self, set: &SetName, run_ids: BTreeSet<String>) {
        self.with(set, |remembered| remembered.detached = Some((run_ids, Instant::now())));
    }

    /// For how long these processes have been detached, as far as this process knows. `None`: not all of them are parked, and the
    /// time begins again.
    pub fn detached_for(&self, set: &SetName, parked: Option<&BTreeSet<String>>) -> Option<Duration> {
        self.with(set, |remembered| {
            remembered.detached.take_if(|(known, _)| Some(&*known) != parked);
            remembered.detached.as_ref().map(|(_, since)| since.elapsed())
        })
    }

    /// For how long this process has known that the pod of this UID is gone while its node is ready since `ready`; `None`: it is
    /// not, and the time begins again.
    pub fn gone_for(&self, set: &SetName, uid: &str, ready: Option<&str>) -> Duration {
        self.with(set, |remembered| {
            let Some(ready) = ready else {
                remembered.gone.remove(uid);
                return Duration::ZERO;
            };
            match remembered.gone.get(uid) {
                Some((known, since)) if known == ready => since.elapsed(),
                _ => {
                    // Of those whose end is known nobody asks again.
                    if remembered.gone.len() >= MOST_GONE {
                        remembered.gone.clear();
                    }
                    remembered.gone.insert(uid.to_owned(), (ready.to_owned(), Instant::now()));
                    Duration::ZERO
                }
            }
        })
    }

    /// Remembers that a switchover ended without a change, and for how long none is begun now: each keeps writes waiting, so
    /// the time doubles with each in a row, and is longer after one that was `taken_back`. Returns that time.
    pub fn switched_in_vain(&self, set: &SetName, taken_back: bool) -> Duration {
        self.with(set, |remembered| {
            let before = remembered.switches_again.map_or(0, |(_, in_a_row)| in_a_row);
            let first = if taken_back { TAKEN_BACK_RETRY } else { SWITCHOVER_RETRY };
            let wait = first.saturating_mul(2_u32.saturating_pow(before)).min(LONGEST_RETRY);
            remembered.switches_again = Some((Instant::now() + wait, before.saturating_add(1)));
            wait
        })
    }

    /// Remembers that a switchover succeeded.
    pub fn switched(&self, set: &SetName) {
        self.with(set, |remembered| remembered.switches_again = None);
    }

    /// For how long no switchover is to be begun.
    pub fn switches_in(&self, set: &SetName) -> Option<Duration> {
        self.with(set, |remembered| {
            let left = remembered.switches_again?.0.saturating_duration_since(Instant::now());
            (!left.is_zero()).then_some(left)
        })
    }

    /// What is known of a silent follower since `age` at most.
    pub fn unseen(&self, set: &SetName, run_id: &str, age: Duration) -> Option<Former> {
        self.with(set, |remembered| {
            remembered.unseen.retain(|_, (_, at)| at.elapsed() < age);
            remembered.unseen.get(run_id).map(|(former, _)| former.clone())
        })
    }

    /// Remembers what the API server said of a silent follower just now.
    pub fn remember_unseen(&self, set: &SetName, run_id: String, former: Former) {
        self.with(set, |remembered| remembered.unseen.insert(run_id, (former, Instant::now())));
    }

    /// Notes that a server refuses writes for a cause of its own. Returns whether that is news.
    pub fn refuses_writes(&self, set: &SetName, pod: String, run_id: String) -> bool {
        self.with(set, |remembered| remembered.refused.insert(pod, run_id.clone()) != Some(run_id))
    }

    /// The pods that refused writes for a cause of their own, and are not mended by what a look shows.
    pub fn unmended(&self, set: &SetName, observed: &Observed) -> BTreeSet<String> {
        self.with(set, |remembered| {
            remembered.refused = unmended(&remembered.refused, observed);
            remembered.refused.keys().cloned().collect()
        })
    }

    /// For how long the primary of record has been handing its role over, as far as this process knows.
    pub fn hands_over_for(&self, set: &SetName, hands_over: bool) -> Duration {
        self.with(set, |remembered| lasted(&mut remembered.hands_over, hands_over))
    }

    /// Takes what a look shows of the serving primary; returns an earlier one of at least this age.
    ///
    /// Who was alive is taken from the look before: its processes were seen before this one read the offset.
    pub fn glimpse(
        &self,
        set: &SetName,
        seen: Option<PrimarySample>,
        age: Duration,
    ) -> Option<PrimarySample> {
        self.with(set, |remembered| {
            let Some(mut seen) = seen else {
                (remembered.glimpse, remembered.alive) = (None, BTreeSet::new());
                return None;
            };
            let alive_before = std::mem::replace(&mut remembered.alive, seen.alive.clone());
            seen.alive = alive_before;
            let earlier = remembered.glimpse.as_ref().filter(|(earlier, _)| earlier.primary == seen.primary);
            let aged = earlier.filter(|(_, at)| at.elapsed() >= age).map(|(earlier, _)| earlier.clone());
            // The next one is taken when this one has served: replicas that came since are in it.
            if earlier.is_none() || aged.is_some() {
                remembered.glimpse = Some((seen, Instant::now()));
            }
            aged
        })
    }

    fn with<T>(&self, set: &SetName, act: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        act(sets.entry(ObjectRef::new(&set.name).within(&set.namespace)).or_default())
    }

    /// Forgets a set that is gone.
    pub fn forget(&self, set: &ObjectRef<RedisReplicaSet>) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}

/// For how long something has been so; where it is not, the time begins again.
fn lasted(since: &mut Option<Instant>, is_so: bool) -> Duration {
    if !is_so {
        *since = None;
        return Duration::ZERO;
    }
    since.get_or_insert_with(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_asked_for_now_and_then_and_a_missing_right_is_told_once() {
        let (memory, set) = (Memory::default(), SetName::new("lab", "redis"));
        let interval = Duration::from_secs(60);
        let asked: Vec<bool> = (0..3).map(|_| memory.is_to_ask_for_events(&set, interval)).collect();
        assert_eq!(asked, [true, false, false]);
        assert!(memory.is_to_ask_for_events(&set, Duration::ZERO));
        let news = [None, None, Some(Vec::new()), None].map(|told| memory.remember_events(&set, told));
        assert_eq!(news, [true, false, false, true]);
    }

    /// Regression: the API server was asked for a silent follower at each look.
    #[test]
    fn what_is_known_of_a_silent_follower_stands_for_a_moment() {
        let (memory, set) = (Memory::default(), SetName::new("lab", "redis"));
        let age = Duration::from_secs(60);
        assert_eq!(memory.unseen(&set, "run", age), None);
        memory.remember_unseen(&set, "run".into(), Former::Ended);
        assert_eq!(memory.unseen(&set, "run", age), Some(Former::Ended));
        assert_eq!(memory.unseen(&set, "another", age), None);
        assert_eq!(memory.unseen(&set, "run", Duration::ZERO), None);
    }

    /// Regression: a target that never caught up cost a second of writes in every five.
    #[test]
    fn switchovers_in_vain_come_less_and_less_often() {
        let (memory, set) = (Memory::default(), SetName::new("lab", "redis"));
        assert_eq!(memory.switches_in(&set), None);
        let waits: Vec<u64> = (0..9).map(|n| memory.switched_in_vain(&set, n == 2).as_secs()).collect();
        assert_eq!(waits, [5, 10, 240, 40, 80, 160, 320, 600, 600], "the third had to be taken back");
        assert!(memory.switches_in(&set) > Some(Duration::from_secs(590)));
        memory.switched(&set);
        assert_eq!((memory.switches_in(&set), memory.switched_in_vain(&set, true).as_secs()), (None, 60));
    }
}
