//! Every workload undisturbed, then with the operator killed at each of its calls.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::Instant,
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    run::{Lab, Outcome},
    trap::{Call, Moment, Target},
    workload::Workload,
};

/// Runs at the same time: they wait more than they work.
const AT_ONCE: usize = 8;

/// A run need not make every call that the undisturbed one made (how often the status tells of progress goes by the
/// clock): a call that was not made is waited for in this many runs.
const TRIES: usize = 3;

/// A planned kill.
struct Kill<'a> {
    workload: Workload,
    target: Target,
    undisturbed: &'a Outcome,
}

/// A planned kill and what came of it, or how the run broke off.
struct Killed<'a> {
    kill: Kill<'a>,
    outcome: Result<Outcome, String>,
}

/// Runs the workloads, each call of the undisturbed runs at the moments that `moments` gives for it, and fails on what is
/// not as undisturbed.
///
/// To see one failure again: `CRASH_ONLY` holds the beginning of its line, or of several.
pub fn campaign(workloads: &[Workload], mut moments: impl FnMut(&Call) -> Vec<Moment>) {
    let begun = Instant::now();
    let only = std::env::var("CRASH_ONLY").unwrap_or_default();
    let is_wanted = |line: &str| line.starts_with(&only) || only.starts_with(line);
    let lab = runtime().block_on(Lab::start());
    let mut workloads = workloads.to_vec();
    workloads.retain(|workload| is_wanted(&workload.to_string()));
    let undisturbed = at_once(workloads, |workload| {
        let outcome = runtime().block_on(lab.run(workload, None, None));
        println!("{workload}: undisturbed, {} calls, {:.1?}", outcome.calls.len(), outcome.took);
        assert!(outcome.wrong.is_empty(), "{workload}, undisturbed: {:#?}", outcome.wrong);
        (workload, outcome)
    });

    let mut kills = Vec::new();
    for (workload, undisturbed) in &undisturbed {
        for call in &undisturbed.calls {
            for moment in moments(call) {
                let target = Target { call: call.clone(), moment };
                if is_wanted(&format!("{workload}: {target}")) {
                    kills.push(Kill { workload: *workload, target, undisturbed });
                }
            }
        }
    }
    // The longest first, so that none of them is waited for alone.
    kills.sort_by_key(|kill| std::cmp::Reverse(kill.undisturbed.took));
    assert!(!kills.is_empty(), "CRASH_ONLY={only} names no call that was made");
    let results = at_once(kills, |kill| {
        // A step that fails is a result like others.
        let run = catch_unwind(AssertUnwindSafe(|| runtime().block_on(kill.run(&lab))));
        let outcome = run.map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(_) => "the run broke off".to_owned(),
        });
        let killed = Killed { kill, outcome };
        println!("{}", killed.line());
        killed
    });
    for (workload, undisturbed) in &undisturbed {
        let of: Vec<&Killed> = results.iter().filter(|result| result.kill.workload == *workload).collect();
        println!("{}", totals(*workload, undisturbed, &of));
    }
    println!("{} runs in {:.0?}", results.len(), begun.elapsed());

    let lines = |which: &dyn Fn(&Killed) -> bool| -> Vec<String> {
        results.iter().filter(|result| which(result)).map(Killed::line).collect()
    };
    let wrong = lines(&|result| !result.wrong().is_empty());
    assert!(
        wrong.is_empty(),
        "{} of {} are not as undisturbed:\n{}",
        wrong.len(),
        results.len(),
        wrong.join("\n")
    );
    // Some calls are made by the clock; most are not.
    let missed = lines(&|result| result.is_missed());
    assert!(
        missed.len() * 10 <= results.len(),
        "too many calls that only the undisturbed run made:\n{}",
        missed.join("\n")
    );
}

/// Does this with each, some at the same time; the results come in no order.
fn at_once<T: Send, R: Send>(jobs: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (jobs, results) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let result = act(job);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// Each run has its own: what it leaves running ends with it.
fn runtime() -> Runtime {
    // What stands in for the kubelets waits for processes in one of the threads.
    Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

fn totals(workload: Workload, undisturbed: &Outcome, results: &[&Killed]) -> String {
    let keys: usize = results.iter().filter_map(|result| result.outcome.as_ref().ok()).map(|o| o.keys).sum();
    let (killed, missed) = results.iter().fold((0, 0), |(killed, missed), result| match &result.outcome {
        Ok(outcome) if outcome.killed => (killed + 1, missed),
        Ok(_) => (killed, missed + 1),
        Err(_) => (killed, missed),
    });
    let wrong = results.iter().filter(|result| !result.wrong().is_empty()).count();
    format!(
        "{workload}: {} calls undisturbed; {} runs: {killed} killed, {missed} in which the call was not made, {wrong} \
         not as undisturbed; {keys} acknowledged keys",
        undisturbed.calls.len(),
        results.len(),
    )
}

impl Kill<'_> {
    /// Runs until the call was made, a few times at most.
    async fn run(&self, lab: &Lab) -> Outcome {
        let mut tries = 1;
        loop {
            let target = Some(self.target.clone());
            let outcome = lab.run(self.workload, target, Some(&self.undisturbed.state)).await;
            if outcome.killed || !outcome.wrong.is_empty() || tries == TRIES {
                return outcome;
            }
            tries += 1;
        }
    }
}

impl Killed<'_> {
    fn is_missed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| !outcome.killed)
    }

    fn wrong(&self) -> &[String] {
        match &self.outcome {
            Ok(outcome) => &outcome.wrong,
            Err(broke_off) => std::slice::from_ref(broke_off),
        }
    }

    fn line(&self) -> String {
        const SHOWN: usize = 12;
        let wrong = self.wrong();
        let mut text: String = wrong.iter().take(SHOWN).map(|part| format!("\n  {part}")).collect();
        if wrong.len() > SHOWN {
            let _ = write!(text, "\n  and {} more", wrong.len() - SHOWN);
        }
        if let (Ok(outcome), []) = (&self.outcome, wrong) {
            text = if outcome.killed {
                format!("as undisturbed, {:.1?}", outcome.took)
            } else {
                "the call was not made".to_owned()
            };
        }
        format!("{}: {}: {text}", self.kill.workload, self.kill.target)
    }
}
