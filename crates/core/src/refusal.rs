//! Pods that the API server does not let the `StatefulSet` controller make: a quota, a `LimitRange`, an admission policy or webhook.
//!
//! Kubernetes says so in Events of the `StatefulSet` and nowhere else. Pure; the operator's `kubernetes::events` lists them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;

use crate::{names::SetName, observed::Observed};

/// Reason of the Events that tell of it.
pub const FAILED_CREATE: &str = "FailedCreate";

/// The controller makes a pod within a moment after its turn came: for this long nothing is asked.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);
/// Clocks differ, and those of Events and reconciles have whole seconds. The controller tries again at growing intervals, so
/// a larger difference delays what is told and does not lose it.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);
/// The controller's longest pause between two tries is 1000 s. An older Event tells of a refusal that has ended.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(20);
/// A webhook may say anything. Two pods' words have room in a condition, and one Event has room for one's.
const MAX_WORDS: usize = 400;

/// What an Event tells of a pod that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Name of the pod.
    pub pod: String,
    /// The API server's own words.
    pub words: String,
    /// When it was tried last.
    pub at: Timestamp,
}

impl Told {
    /// Reads `create Pod redis-0 in StatefulSet redis failed error: …`, or the same of a pod's claim. The controller counts up an
    /// Event of the same words, and puts more words before one of many that are alike.
    pub fn read(event: &Event) -> Option<Self> {
        let (what, words) = event.message.as_deref()?.split_once(" failed error: ")?;
        let mut what = what.split_whitespace();
        what.find(|word| *word == "Pod")?;
        let times = [
            event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
            event.last_timestamp.as_ref().map(|time| time.0),
            event.event_time.as_ref().map(|time| time.0),
            event.metadata.creation_timestamp.as_ref().map(|time| time.0),
        ];
        Some(Self { pod: what.next()?.to_owned(), words: cut(words), at: times.into_iter().flatten().max()? })
    }
}

/// On one line, and not for ever.
fn cut(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_WORDS {
        return line;
    }
    line.chars().take(MAX_WORDS - 1).chain(['…']).collect()
}

/// A pod that is missing because the API server refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name of the pod.
    pub pod: String,
    /// The API server's own words, on one line.
    pub words: String,
}

/// What a live `StatefulSet` wants.
#[derive(Clone, Copy, Debug)]
pub struct Wants {
    /// How many pods.
    pub pods: i32,
    /// Its controller makes each only once those before it are ready (`OrderedReady`).
    pub in_order: bool,
}

/// Which pods of a set the `StatefulSet` wants and has not, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absences {
    /// By name. `None`: this process has never seen the pod, so it may have been missing for long. None at all before the first
    /// look.
    since: Option<BTreeMap<String, Option<Timestamp>>>,
    /// The one whose turn it is, and since when; `None`: since before this process looked.
    next: Option<(String, Option<Timestamp>)>,
}

impl Absences {
    /// Takes a look at the set's pods, of which the `StatefulSet` wants this many.
    pub fn look(&mut self, set: &SetName, wants: Wants, observed: &Observed, now: Timestamp) {
        let wanted = wants.pods;
        let found = |ordinal: i32| observed.pods.iter().find(|pod| pod.ordinal == ordinal);
        let is_first = self.since.is_none();
        let before = self.since.take().unwrap_or_default();
        let missing: BTreeMap<_, _> = (0..wanted)
            .filter(|ordinal| found(*ordinal).is_none())
            .map(|ordinal| {
                let pod = set.pod(ordinal);
                let since = before.get(&pod).copied().unwrap_or((!is_first).then_some(now));
                (pod, since)
            })
            .collect();
        // In order, each is made once those before it are ready: the others wait for their turn, and nobody refuses them yet.
        let is_up = |ordinal: &i32| {
            found(*ordinal).is_some_and(|pod| !wants.in_order || pod.ready && !pod.terminating)
        };
        let next = (0..wanted).find(|ordinal| !is_up(ordinal)).filter(|ordinal| found(*ordinal).is_none());
        self.next = next.map(|ordinal| {
            let pod = set.pod(ordinal);
            let is_known = |since: &Option<Timestamp>| since.is_none_or(|since| since <= now);
            let known = self.next.take().filter(|(known, since)| *known == pod && is_known(since));
            known.unwrap_or((pod, (!is_first).then_some(now)))
        });
        self.since = Some(missing);
    }

    /// Whether no pod is missing.
    pub fn is_empty(&self) -> bool {
        self.since.as_ref().is_none_or(BTreeMap::is_empty)
    }

    /// Whether a pod is missing whose turn it is.
    pub fn is_awaited(&self) -> bool {
        self.next.is_some()
    }

    /// Whether it has been missing for so long that something keeps the controller from making it. An operator that was just
    /// started cannot know, and is not to call right for a moment what the one before it told.
    pub fn lasts(&self, now: Timestamp) -> bool {
        let is_long = |since: &Timestamp| now.duration_since(*since) >= PATIENCE;
        self.next.as_ref().is_some_and(|(_, since)| since.as_ref().is_none_or(is_long))
    }

    /// The missing pods that are refused, by the newest that is told of each since it is missing.
    pub fn refused(&self, told: &[Told], now: Timestamp) -> Vec<Refused> {
        let newest = |(pod, since): (&String, &Option<Timestamp>)| {
            let is_now = |told: &&Told| match since {
                Some(since) => since.duration_since(told.at) <= CLOCKS,
                None => now.duration_since(told.at) <= LONGEST_PAUSE,
            };
            let of_pod = told.iter().filter(|told| told.pod == *pod).filter(is_now);
            let newest = of_pod.max_by_key(|told| told.at)?;
            Some(Refused { pod: pod.clone(), words: newest.words.clone() })
        };
        self.since.iter().flatten().filter_map(newest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::ObservedPod;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn event(message: &str, times: &Value) -> Event {
        let mut event = json!({"metadata": {}, "involvedObject": {}, "message": message});
        event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn told(pod: &str, words: &str, second: i64) -> Told {
        Told { pod: pod.into(), words: words.into(), at: at(second) }
    }

    fn seen(ordinals: &[i32]) -> Observed {
        Observed { pods: ordinals.iter().map(|ordinal| ObservedPod::running(*ordinal)).collect() }
    }

    const IN_ORDER: Wants = Wants { pods: 3, in_order: true };

    /// Looks at a set of three: which pods were there, and when.
    fn looked(looks: &[(&[i32], i64)]) -> Absences {
        let mut absences = Absences::default();
        for (ordinals, second) in looks {
            absences.look(&SetName::new("lab", "redis"), IN_ORDER, &seen(ordinals), at(*second));
        }
        absences
    }

    #[test]
    fn an_event_is_read_in_each_form_that_the_controller_gives_it() {
        let words = "pods \"redis-0\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0";
        let time = json!({"lastTimestamp": at(7)});
        for what in [
            "create Pod redis-0 in StatefulSet redis",
            "create Claim data-redis-0 Pod redis-0 in StatefulSet redis",
            "(combined from similar events): create Pod redis-0 in StatefulSet redis",
        ] {
            let read = Told::read(&event(&format!("{what} failed error: {words}"), &time));
            assert_eq!(read, Some(told("redis-0", words, 7)), "{what}");
        }
        for other in ["", "create Pod redis-0 in StatefulSet redis successful", "no failed error: x"] {
            assert_eq!(Told::read(&event(other, &time)), None, "{other}");
        }
    }

    #[test]
    fn an_event_that_is_counted_up_has_its_latest_time() {
        let message = "create Pod redis-0 in StatefulSet redis failed error: no";
        let micro = |second: i64| format!("2027-01-15T08:00:{second:02}.000000Z");
        for times in [
            json!({"firstTimestamp": at(1), "lastTimestamp": at(9)}),
            json!({"eventTime": micro(1), "series": {"count": 3, "lastObservedTime": micro(9)}}),
            json!({"eventTime": micro(9)}),
            json!({"metadata": {"creationTimestamp": at(9)}}),
        ] {
            let read = Told::read(&event(message, &times));
            assert_eq!(read.map(|told| told.at), Some(at(9)), "{times}");
        }
        assert_eq!(Told::read(&event(message, &json!({}))), None, "nobody knows when");
    }

    #[test]
    fn words_are_one_line_and_bounded() {
        let message = format!("create Pod a in StatefulSet b failed error: no\n  {}", "ä".repeat(1000));
        let read = Told::read(&event(&message, &json!({"lastTimestamp": at(0)}))).unwrap();
        assert!(read.words.starts_with("no ä") && read.words.ends_with('…'), "{}", read.words);
        assert_eq!(read.words.chars().count(), MAX_WORDS);
    }

    #[test]
    fn the_newest_of_each_missing_pod_is_told() {
        let absences = looked(&[(&[0, 1, 2], 0), (&[0], 100)]);
        let all = [
            told("redis-1", "the first", 101),
            told("redis-1", "the newest", 130),
            told("redis-1", "the second", 110),
            told("redis-0", "it is there", 140),
            told("redis-9", "nobody wants it", 140),
        ];
        let refused = Refused { pod: "redis-1".into(), words: "the newest".into() };
        assert_eq!(absences.refused(&all, at(131)), [refused]);
        assert_eq!(looked(&[(&[0, 1, 2], 0)]).refused(&all, at(131)), [], "nothing is missing");
    }

    #[test]
    fn what_was_told_before_the_pod_was_there_is_over() {
        let of_before = [told("redis-2", "no", 50)];
        assert_eq!(looked(&[(&[0, 1, 2], 0), (&[0, 1], 60)]).refused(&of_before, at(70)), []);
        let by_another_clock = looked(&[(&[0, 1, 2], 0), (&[0, 1], 54)]);
        assert_eq!(by_another_clock.refused(&of_before, at(70)).len(), 1);
    }

    /// The operator was started while a pod was refused: the controller may try again only after a quarter of an hour.
    #[test]
    fn of_a_pod_that_was_never_seen_an_event_counts_for_as_long_as_the_controller_may_pause() {
        let absences = looked(&[(&[0, 1], 2000), (&[0, 1], 2005)]);
        for (second, counts) in [(2004, true), (1000, true), (804, false)] {
            let found = absences.refused(&[told("redis-2", "no", second)], at(2005));
            assert_eq!(!found.is_empty(), counts, "{second}");
        }
    }

    #[test]
    fn only_the_pod_whose_turn_it_is_is_waited_for_and_not_for_long() {
        let absences = looked(&[(&[0, 1, 2], 0), (&[], 10), (&[], 12)]);
        assert!(absences.is_awaited() && !absences.lasts(at(12)) && absences.lasts(at(13)));
        let begun = looked(&[(&[], 0), (&[], 9), (&[0], 10)]);
        assert!(begun.is_awaited() && !begun.lasts(at(12)) && begun.lasts(at(13)), "the turn of redis-1");
        let whole = looked(&[(&[], 0), (&[0, 1, 2], 9)]);
        assert!(whole.is_empty() && !whole.is_awaited() && !whole.lasts(at(100)));

        let mut starting = seen(&[0, 1]);
        starting.pods[1].ready = false;
        let mut absences = Absences::default();
        absences.look(&SetName::new("lab", "redis"), IN_ORDER, &starting, at(0));
        assert!(!absences.is_empty() && !absences.is_awaited(), "redis-2 waits for redis-1");
        let at_once = Wants { in_order: false, ..IN_ORDER };
        absences.look(&SetName::new("lab", "redis"), at_once, &starting, at(1));
        assert!(absences.is_awaited(), "nothing is waited for before redis-2 is made");
    }

    #[test]
    fn an_operator_that_was_just_started_asks_at_once() {
        assert!(looked(&[(&[0, 1], 0)]).lasts(at(0)));
        assert!(!looked(&[(&[0, 1, 2], 0), (&[0, 1], 1)]).lasts(at(1)));
    }

    #[test]
    fn a_clock_that_went_back_begins_the_wait_anew() {
        let absences = looked(&[(&[0, 1, 2], 1000), (&[], 1000), (&[], 0)]);
        assert!(!absences.lasts(at(2)) && absences.lasts(at(3)));
    }
}
