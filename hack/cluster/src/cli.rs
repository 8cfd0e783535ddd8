//! The verbs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::image::catalogue::{self, Image};
use crate::image::load;
use crate::layout::Layout;
use crate::topology::Node;
use crate::{demo, down, lock, network, node, packages, policies, relay, status, tools, up};

/// A real three-node Kubernetes cluster on one Linux machine.
#[derive(Parser)]
#[command(name = "cluster")]
struct Cli {
    /// Directory of the kubeconfig, the audit log and the components' logs; that of the cluster that exists, or
    /// target/cluster.
    #[arg(long, global = true, env = "CLUSTER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build Kubernetes and the other tools that are not in the cache yet.
    Tools {
        /// Only print the path of this built program.
        #[arg(long, value_name = "NAME")]
        path: Option<String>,
    },
    /// Install the Debian packages that are missing.
    Packages,
    /// Bring the cluster up, or repair it, and wait until it is usable.
    Up {
        /// Port of the API on the host's loopback.
        #[arg(long, default_value_t = 16443)]
        api_port: u16,
    },
    /// Enforce `NetworkPolicies` on all nodes, until each is stopped.
    Enforce,
    /// Remove the cluster.
    Down,
    /// Say what runs.
    Status,
    /// Print the path of the kubeconfig.
    Kubeconfig,
    /// Bring up a cluster, the operator and a verified sample, or remove them.
    Demo(demo::Options),
    /// Stop, start, cut off or enter a node.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Make images and bring them into the nodes.
    #[command(subcommand)]
    Image(ImageVerb),
    /// Relay a listening socket, given as standard input, to an address (used by `up`).
    #[command(hide = true)]
    Relay { target: SocketAddr },
}

#[derive(Subcommand)]
enum NodeVerb {
    /// Take the power away: kill the node's components and Pods.
    Stop { name: String },
    /// Give the power back and wait until the node is Ready.
    Start { name: String },
    /// Cut the node off from all others; its Pods go on running.
    Cut { name: String },
    /// Join a node again that was cut off.
    Heal { name: String },
    /// Run a command in the node's network.
    Exec {
        name: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ImageVerb {
    /// Import docker-archives into all nodes.
    Load {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write an image as a docker-archive.
    Build {
        image: Image,
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Write the operator's image, for all given architectures, as an OCI layout, and print its digest.
    Operator {
        /// An architecture and the directory with its static binaries, for example amd64=DIR.
        #[arg(required = true, value_parser = architecture)]
        binaries: Vec<(String, PathBuf)>,
        #[arg(long, short)]
        output: PathBuf,
        /// The Dockerfile whose final stage the image is.
        #[arg(long, default_value = "Dockerfile")]
        dockerfile: PathBuf,
    },
    /// Make the operator's image from its static binaries and import it into all nodes.
    LoadOperator {
        /// Directory with the static binaries redis-operator and agent.
        binaries: PathBuf,
        /// The Dockerfile whose final stage the image is.
        #[arg(long, default_value = "Dockerfile")]
        dockerfile: PathBuf,
    },
}

/// Does what the command line says.
pub fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    // Only where it is used: without root nobody sees whether there is a cluster.
    let layout = || match (&cli.state_dir, Layout::existing()?) {
        (Some(dir), _) => Layout::new(dir),
        (None, Some(existing)) => Ok(existing),
        (None, None) => Layout::new(Path::new("target/cluster")),
    };
    match cli.verb {
        Verb::Tools { path: Some(name) } => println!("{}", tools::path(&name)?.display()),
        Verb::Tools { path: None } => {
            tools::ensure(&tools::ALL)?;
            println!("all tools are built");
        }
        Verb::Packages => packages::ensure()?,
        Verb::Up { api_port } => {
            let _lock = lock::take(Path::new(lock::CLUSTER))?;
            up::up(&layout()?, api_port)?;
        }
        Verb::Enforce => {
            let _lock = lock::take(Path::new(lock::CLUSTER))?;
            policies::enforce(&existing()?)?;
        }
        Verb::Down => {
            let _lock = lock::take(Path::new(lock::CLUSTER))?;
            down::down(&layout()?)?;
        }
        Verb::Status => std::io::stdout().write_all(status::report()?.as_bytes())?,
        Verb::Kubeconfig => println!("{}", existing()?.kubeconfig().display()),
        Verb::Demo(options) => demo::run(&options, cli.state_dir.as_deref())?,
        Verb::Node(verb) => return run_node(verb),
        Verb::Image(verb) => run_image(&verb)?,
        Verb::Relay { target } => relay::serve(target)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_node(verb: NodeVerb) -> Result<ExitCode> {
    let layout = existing()?;
    match verb {
        NodeVerb::Stop { name } => node::stop(Node::named(&name)?)?,
        NodeVerb::Start { name } => up::start_node(&layout, Node::named(&name)?)?,
        NodeVerb::Cut { name } => network::cut(Node::named(&name)?.machine)?,
        NodeVerb::Heal { name } => network::heal(Node::named(&name)?.machine)?,
        NodeVerb::Exec { name, command } => return node::exec(Node::named(&name)?, &command),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_image(verb: &ImageVerb) -> Result<()> {
    match verb {
        ImageVerb::Load { files } => files.iter().try_for_each(|file| load::file(file)),
        ImageVerb::Build { image, output } => {
            let archive = image.build()?;
            std::fs::write(output, &archive.bytes)
                .with_context(|| format!("cannot write {}", output.display()))?;
            println!("{} in {}", archive.reference, output.display());
            Ok(())
        }
        ImageVerb::Operator { binaries, output, dockerfile } => {
            let layout = catalogue::operator_layout(dockerfile, binaries)?;
            std::fs::write(output, &layout.bytes)
                .with_context(|| format!("cannot write {}", output.display()))?;
            println!("{}", layout.digest);
            Ok(())
        }
        ImageVerb::LoadOperator { binaries, dockerfile } => load_operator(dockerfile, binaries),
    }
}

/// `amd64=DIR`.
fn architecture(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name @ ("amd64" | "arm64"), dir)) => Ok((name.to_owned(), dir.into())),
        _ => Err("give amd64=DIR or arm64=DIR".to_owned()),
    }
}

fn load_operator(dockerfile: &Path, binaries: &Path) -> Result<()> {
    let archive = catalogue::operator(dockerfile, binaries)?;
    load::archive(&archive)?;
    println!("{} is on all nodes", archive.reference);
    Ok(())
}

fn existing() -> Result<Layout> {
    Layout::existing()?.context("there is no cluster on this machine; bring one up with: cluster up")
}
