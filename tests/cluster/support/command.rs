//! kubectl, as a user has it.

use std::{
    env,
    io::Write,
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long the API may be away (a control plane that restarts) before a command fails.
const API_ABSENCE: Duration = Duration::from_secs(90);

/// What kubectl says where it did not reach the API server, so that nothing was done.
const NOT_REACHED: [&str; 4] =
    ["was refused - did you specify", "TLS handshake timeout", "unexpected EOF", "context deadline exceeded"];

/// A program from the environment, else from PATH.
pub fn program(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// Path of the kubeconfig.
pub fn kubeconfig() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        env::var("KUBECONFIG").unwrap_or_else(|_| {
            let output = Command::new(program("CLUSTER", "target/debug/cluster"))
                .arg("kubeconfig")
                .output()
                .expect("KUBECONFIG is not set, and the program in CLUSTER cannot be run");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    })
}

/// A kubectl that is not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(program("KUBECTL", "kubectl"));
    command.env("KUBECONFIG", kubeconfig()).args(args);
    command
}

/// Runs kubectl with this input; tried again while the API server is away.
fn run(args: &[&str], input: &str) -> Output {
    let began = Instant::now();
    loop {
        let mut child = command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run kubectl (environment KUBECTL): {e}"));
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let away = !output.status.success() && NOT_REACHED.iter().any(|text| said.contains(text));
        if !away || began.elapsed() > API_ABSENCE {
            return output;
        }
        sleep(Duration::from_secs(1));
    }
}

/// Runs kubectl with this input; what it printed, or what it said against it.
pub fn kubectl_with(args: &[&str], input: &str) -> Result<String, String> {
    let output = run(args, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Runs kubectl, which must succeed.
pub fn kubectl(args: &[&str]) -> String {
    kubectl_with(args, "").unwrap_or_else(|said| panic!("kubectl {}: {said}", args.join(" ")))
}

/// Runs kubectl in a namespace; it must succeed.
pub fn kubectl_in(namespace: &str, args: &[&str]) -> String {
    kubectl(&[&["-n", namespace], args].concat())
}

/// Runs kubectl with this input, which the API server must refuse; what it said.
pub fn kubectl_refused(args: &[&str], input: &str) -> String {
    match kubectl_with(args, input) {
        Ok(output) => panic!("kubectl {} was not refused: {output}\n{input}", args.join(" ")),
        Err(said) => said,
    }
}

/// An object, if it exists: `get_opt("ns", &["pod", "redis-0"])`.
pub fn get_opt(namespace: &str, what: &[&str]) -> Option<Value> {
    let args = [&["-n", namespace, "get", "-o", "json", "--ignore-not-found"], what].concat();
    let text = kubectl(&args);
    (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
}

/// An object that must exist.
pub fn get(namespace: &str, what: &[&str]) -> Value {
    get_opt(namespace, what).unwrap_or_else(|| panic!("{} not found in {namespace}", what.join(" ")))
}

/// Objects of a kind, none perhaps, by name: `list("ns", &["pods", "-l", "app=nginx"])`.
pub fn list(namespace: &str, what: &[&str]) -> Vec<Value> {
    let list = get_opt(namespace, what).unwrap_or_default();
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|item| text(item, "/metadata/name"));
    items
}

/// A field of an object by JSON pointer, as text; empty where it is missing.
pub fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
