//! Unit tests of the benchmark's pure parts. The benchmark itself has no test harness (so unit tests inside of it would
//! never run), and needs the real cluster.

#[path = "bench/audit.rs"]
mod audit;
#[path = "bench/stats.rs"]
mod stats;

#[cfg(test)]
mod stats_tests {
    use crate::stats::{Summary, summary};

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn one_value_is_all_of_them() {
        assert_eq!(summary(&[7]), Some(Summary { p50: 7, p99: 7, min: 7, max: 7, count: 1 }));
    }

    #[test]
    fn ranks_round_up() {
        // 20 values: the median is the 10th, p99 the 20th.
        let values: Vec<i64> = (1..=20).rev().collect();
        assert_eq!(summary(&values), Some(Summary { p50: 10, p99: 20, min: 1, max: 20, count: 20 }));
        // 5 values: the median is the 3rd.
        assert_eq!(summary(&[50, 10, 30, 20, 40]).map(|s| s.p50), Some(30));
    }

    #[test]
    fn p99_of_many_is_not_the_largest() {
        let values: Vec<i64> = (1..=200).collect();
        assert_eq!(summary(&values).map(|s| (s.p50, s.p99, s.max)), Some((100, 198, 200)));
    }
}

#[cfg(test)]
mod audit_tests {
    use std::collections::BTreeMap;

    use crate::audit::{Request, Tail, requests, tally};

    const OPERATOR: &str = "system:serviceaccount:redis-operator-system:redis-operator";

    fn line(stage: &str, user: &str, verb: &str, resource: &str, subresource: &str) -> String {
        let subresource =
            if subresource.is_empty() { String::new() } else { format!(r#","subresource":"{subresource}""#) };
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"{user}"}},"objectRef":{{"resource":"{resource}","namespace":"lab"{subresource}}},"requestReceivedTimestamp":"2026-11-23T01:04:05.212647Z"}}"#
        ) + "\n"
    }

    #[test]
    fn only_finished_requests_of_the_user_count() {
        let lines = [
            line("ResponseComplete", OPERATOR, "patch", "redisreplicasets", "status"),
            line("RequestReceived", OPERATOR, "patch", "services", ""),
            line("ResponseComplete", "kubernetes-admin", "patch", "services", ""),
            line("ResponseComplete", OPERATOR, "update", "leases", ""),
            line("ResponseComplete", OPERATOR, "get", "secrets", ""),
            line("ResponseComplete", OPERATOR, "list", "pods", ""),
        ]
        .concat();
        let found = requests(&lines, OPERATOR).unwrap();
        assert_eq!(found.len(), 4);
        let writes: Vec<&Request> = found.iter().filter(|r| r.is_write()).collect();
        assert_eq!(tally(writes), BTreeMap::from([("patch redisreplicasets/status".to_owned(), 1)]));
        assert_eq!(found.iter().filter(|r| r.is_list()).count(), 1);
        assert_eq!(found.first().and_then(|r| r.namespace.as_deref()), Some("lab"));
    }

    #[test]
    fn a_broken_line_is_an_error() {
        assert!(requests("{\"stage\":\n", OPERATOR).is_err());
    }

    #[test]
    fn the_tail_is_whole_lines_since_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, "before\n").unwrap();
        let tail = Tail::begin(&path).unwrap();
        assert_eq!(tail.read().unwrap(), "");
        std::fs::write(&path, "before\nafter\nhal").unwrap();
        assert_eq!(tail.read().unwrap(), "after\n");
    }
}
