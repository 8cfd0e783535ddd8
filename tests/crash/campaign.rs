//! Every workload undisturbed, then with the operator killed at each of its calls.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex},
    time::Instant,
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    document::{checkout, document},
    run::{Lab, Outcome},
    trap::{Call, Target},
    workload::{WORKLOADS, Workload},
};

/// Runs at the same time: they wait more than they work.
const AT_ONCE: usize = 12;

/// A run need not make every call that the undisturbed one made (how often the status tells of progress goes by the
/// clock): a call that was not made is waited for in this many runs.
const TRIES: usize = 3;

/// A planned kill and what came of it, or how the run broke off.
pub struct Kill {
    workload: Workload,
    target: Target,
    outcome: Result<Outcome, String>,
}

/// A workload's runs.
pub struct Part {
    /// What was done.
    pub workload: Workload,
    /// With nobody killed.
    pub undisturbed: Outcome,
    /// With the operator killed.
    pub kills: Vec<Kill>,
}

/// Runs the workloads undisturbed, then with the operator killed at each of the targets that `plan` takes from the calls
/// of the undisturbed run, and fails on what is not as undisturbed.
///
/// To see one failure again: `CRASH_ONLY` holds the beginning of its line; several are separated by commas. `CRASH_DOCUMENT` names the file
/// that is to tell of the run; `scope` says there what was planned.
pub fn campaign(scope: &str, plan: fn(&[Call]) -> Vec<Target>) {
    let (begun, checkout) = (Instant::now(), checkout());
    let only = std::env::var("CRASH_ONLY").unwrap_or_default();
    let is_wanted = |line: &str| only.split(',').any(|only| line.starts_with(only) || only.starts_with(line));
    let (lab, slots) = (runtime().block_on(Lab::start()), Slots::default());
    let parts: Vec<Part> =
        at_once(WORKLOADS.into_iter().filter(|workload| is_wanted(&workload.to_string())), |workload| {
            let undisturbed = slots.take(|| runtime().block_on(lab.run(workload, None, None)));
            println!("{workload}: undisturbed, {} calls, {:.1?}", undisturbed.calls.len(), undisturbed.took);
            assert!(undisturbed.wrong.is_empty(), "{workload}, undisturbed: {:#?}", undisturbed.wrong);
            let mut targets = plan(&undisturbed.calls);
            targets.retain(|target| is_wanted(&format!("{workload}: {target}")));
            let kills = at_once(targets, |target| {
                // A step that fails is a result like others.
                let run = || runtime().block_on(kill(&lab, workload, &target, &undisturbed));
                let run = slots.take(|| catch_unwind(AssertUnwindSafe(run)));
                let outcome = run.map_err(|panic| match panic.downcast::<String>() {
                    Ok(text) => *text,
                    Err(_) => "the run broke off".to_owned(),
                });
                let kill = Kill { workload, target, outcome };
                println!("{}", kill.line());
                kill
            });
            Part { workload, undisturbed, kills }
        });

    for part in &parts {
        println!("{}", part.totals());
    }
    let kills: Vec<&Kill> = parts.iter().flat_map(|part| &part.kills).collect();
    println!("{} runs in {:.0?}", kills.len(), begun.elapsed());
    if let Some(path) = std::env::var_os("CRASH_DOCUMENT") {
        std::fs::write(path, document(scope, &checkout, &parts, begun.elapsed()).unwrap()).unwrap();
    }
    assert!(!kills.is_empty(), "CRASH_ONLY={only} names no call that was made");
    let lines = |which: fn(&Kill) -> bool| -> Vec<String> {
        kills.iter().filter(|kill| which(kill)).map(|kill| kill.line()).collect()
    };
    let wrong = lines(|kill| !kill.wrong().is_empty());
    assert!(
        wrong.is_empty(),
        "{} of {} are not as undisturbed:\n{}",
        wrong.len(),
        kills.len(),
        wrong.join("\n")
    );
    // Some calls are made by the clock; most are not.
    let missed = lines(Kill::is_missed);
    assert!(
        missed.len() * 10 <= kills.len(),
        "too many calls that only the undisturbed run made:\n{}",
        missed.join("\n")
    );
}

/// Does this with each, each in a thread of its own; the results come in the order of the jobs.
fn at_once<T: Send, R: Send>(jobs: impl IntoIterator<Item = T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(move || act(job))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an undisturbed run has failed")).collect()
    })
}

/// Lets so many run at the same time.
#[derive(Default)]
struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn take<T>(&self, act: impl FnOnce() -> T) -> T {
        let taken = self.taken.lock().unwrap();
        *self.freed.wait_while(taken, |taken| *taken == AT_ONCE).unwrap() += 1;
        let result = act();
        *self.taken.lock().unwrap() -= 1;
        self.freed.notify_one();
        result
    }
}

/// Each run has its own: what it leaves running ends with it.
fn runtime() -> Runtime {
    // What stands in for the kubelets waits for processes in one of the threads.
    Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap()
}

/// Runs until the call was made, a few times at most.
async fn kill(lab: &Lab, workload: Workload, target: &Target, undisturbed: &Outcome) -> Outcome {
    let mut tries = 1;
    loop {
        let outcome = lab.run(workload, Some(target.clone()), Some(&undisturbed.state)).await;
        if outcome.killed || !outcome.wrong.is_empty() || tries == TRIES {
            return outcome;
        }
        tries += 1;
    }
}

impl Part {
    fn totals(&self) -> String {
        let count = |which: fn(&Kill) -> bool| self.kills.iter().filter(|kill| which(kill)).count();
        format!(
            "{}: {} calls undisturbed; {} runs: {} killed, {} in which the call was not made, {} not as undisturbed; \
             {} acknowledged keys",
            self.workload,
            self.undisturbed.calls.len(),
            self.kills.len(),
            count(|kill| kill.outcome.as_ref().is_ok_and(|outcome| outcome.killed)),
            count(Kill::is_missed),
            count(|kill| !kill.wrong().is_empty()),
            self.keys(),
        )
    }

    /// Keys that were acknowledged in all runs.
    pub fn keys(&self) -> usize {
        self.kills.iter().filter_map(|kill| kill.outcome.as_ref().ok()).map(|outcome| outcome.keys).sum()
    }

    /// The runs in which the operator was killed and all ended as undisturbed.
    pub fn ended_well(&self) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.kills.iter().filter_map(|kill| kill.outcome.as_ref().ok());
        outcomes.filter(|outcome| outcome.killed && outcome.wrong.is_empty())
    }
}

impl Kill {
    /// The call was not made.
    pub fn is_missed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| !outcome.killed)
    }

    /// What is not as undisturbed.
    pub fn wrong(&self) -> &[String] {
        match &self.outcome {
            Ok(outcome) => &outcome.wrong,
            Err(broke_off) => std::slice::from_ref(broke_off),
        }
    }

    /// All of it in words.
    pub fn line(&self) -> String {
        const SHOWN: usize = 12;
        let wrong = self.wrong();
        let mut text: String = wrong.iter().take(SHOWN).map(|part| format!("\n  {part}")).collect();
        if wrong.len() > SHOWN {
            let _ = write!(text, "\n  and {} more", wrong.len() - SHOWN);
        }
        if let (Ok(outcome), []) = (&self.outcome, wrong) {
            text = if outcome.killed {
                format!("as undisturbed, {:.1?}{}", outcome.took, deposed(outcome))
            } else {
                "the call was not made".to_owned()
            };
        }
        format!("{}: {}: {text}", self.workload, self.target)
    }
}

/// That operators gave up by themselves is said where they did.
fn deposed(outcome: &Outcome) -> String {
    match outcome.deposed {
        0 => String::new(),
        times => format!(" (the Lease was lost {times} times besides: the machine is crowded)"),
    }
}
