//! Steps that show what they do and how long it takes: on a terminal by one line that is written over, in a log by
//! a line from time to time. What the commands say is in the demo's log, and its end in the error.

use std::fs::{self, File};
use std::io::{IsTerminal as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command::shown;
use crate::layout::make_dir;

/// Between two looks at a command.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two calls of a check, which asks the API server.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Between two lines in a log.
const SILENCE: Duration = Duration::from_secs(10);
/// Lines of a failed command's output that its error shows.
const TAIL: usize = 15;
/// Characters of the line that a terminal shows while it waits; a wrapped line could not be written over.
const WIDTH: usize = 68;

/// The steps of one run.
pub struct Steps {
    log: PathBuf,
    count: u32,
    terminal: bool,
}

impl Steps {
    /// No step yet, and an empty log.
    pub fn new(log: PathBuf) -> Result<Self> {
        if let Some(dir) = log.parent() {
            make_dir(dir)?;
        }
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        Ok(Self { log, count: 0, terminal: std::io::stdout().is_terminal() })
    }

    /// Does one step and says how long it took.
    pub fn step<T>(&mut self, title: &str, work: impl FnOnce(&mut Step) -> Result<T>) -> Result<T> {
        self.count += 1;
        println!("[{}] {title}", self.count);
        let now = Instant::now();
        let mut step = Step { log: &self.log, terminal: self.terminal, started: now, told: now };
        let result = work(&mut step);
        let seconds = now.elapsed().as_secs_f32();
        step.clear();
        match result {
            Ok(value) => {
                println!("    done in {seconds:.1} s");
                Ok(value)
            }
            Err(error) => Err(error.context(format!("step {} failed after {seconds:.1} s", self.count))),
        }
    }
}

/// A step under way.
pub struct Step<'a> {
    log: &'a Path,
    terminal: bool,
    started: Instant,
    told: Instant,
}

impl Step<'_> {
    /// Runs a command to its end; its output goes to the log.
    pub fn command(&mut self, command: &mut Command) -> Result<()> {
        let shown = shown(command);
        let mut log = self.log()?;
        writeln!(log, "\n$ {shown}").context("cannot write the log")?;
        let start = log.seek(SeekFrom::End(0)).context("cannot write the log")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{shown}`; is the program installed and in PATH?"))?;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{shown}`"))? {
                if status.success() {
                    return Ok(());
                }
                bail!("`{shown}` failed ({status}):\n{}", tail(&self.since(start), TAIL));
            }
            self.tell(&tail(&self.since(start), 1));
            std::thread::sleep(PAUSE);
        }
    }

    /// Calls `check` until it succeeds; meanwhile its error is what is shown.
    pub fn until<T>(&mut self, limit: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            match check() {
                Ok(value) => return Ok(value),
                Err(reason) if Instant::now() >= end => {
                    return Err(reason.context(anyhow!("waited {} s in vain", limit.as_secs())));
                }
                Err(reason) => self.tell(&format!("{reason:#}")),
            }
            std::thread::sleep(LONG_PAUSE);
        }
    }

    /// Writes what a command says to the log, whether it succeeds or not: for whoever looks for a cause.
    pub fn record(&mut self, command: &mut Command) {
        if let Err(error) = self.command(command) {
            // The cause that is looked for must not be hidden by a second failure.
            self.say(&format!("{error:#}"));
        }
    }

    /// Says something that stays on the screen.
    pub fn say(&mut self, text: &str) {
        self.clear();
        println!("    {text}");
    }

    /// Shows for how long the step has been under way, and with what.
    fn tell(&mut self, doing: &str) {
        let line = format!("{:>4} s  {}", self.started.elapsed().as_secs(), doing.trim());
        if self.terminal {
            print!("\r\x1b[2K    {}", clip(&line));
            // A terminal that is gone is no reason to end.
            let _ = std::io::stdout().flush();
        } else if self.told.elapsed() >= SILENCE {
            self.told = Instant::now();
            println!("    {line}");
        }
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }

    fn log(&self) -> Result<File> {
        let options = File::options().append(true).create(true).open(self.log);
        options.with_context(|| format!("cannot write {}", self.log.display()))
    }

    /// The log from `start` on.
    fn since(&self, start: u64) -> String {
        let bytes = fs::read(self.log).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }
}

/// The last lines of a text that hold something.
fn tail(text: &str, lines: usize) -> String {
    let mut last: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

fn clip(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::command;

    fn steps(dir: &tempfile::TempDir) -> Steps {
        Steps { terminal: false, ..Steps::new(dir.path().join("log")).unwrap() }
    }

    #[test]
    fn an_error_names_the_step_and_shows_only_what_its_command_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut steps = steps(&dir);
        let sh = |script: &str| command("sh", ["-c", script]);
        steps.step("first", |step| step.command(&mut sh("echo fine"))).unwrap();
        let error =
            steps.step("second", |step| step.command(&mut sh("echo no room >&2; exit 7"))).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("step 2 failed after 0."), "{error}");
        assert!(error.ends_with("failed (exit status: 7):\nno room"), "{error}");
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(log.contains("$ sh -c echo fine\nfine\n"), "{log}");
    }

    #[test]
    fn waiting_ends_with_the_last_reason() {
        let dir = tempfile::tempdir().unwrap();
        let wait = |step: &mut Step| step.until(Duration::ZERO, || -> Result<()> { bail!("not yet") });
        let error = format!("{:#}", steps(&dir).step("wait", wait).unwrap_err());
        assert!(error.ends_with("waited 0 s in vain: not yet"), "{error}");
    }

    #[test]
    fn a_long_line_fits() {
        assert_eq!(clip(&"é".repeat(WIDTH)), "é".repeat(WIDTH));
        assert_eq!(clip(&"é".repeat(WIDTH + 1)).chars().count(), WIDTH);
    }

    #[test]
    fn the_tail_skips_empty_lines() {
        assert_eq!(tail("a\n\nb\n \nc\n\n", 2), "b\nc");
    }
}
