//! A cgroup for each node, in every hierarchy of cgroup v1 and in cgroup v2. All its Pods are below it, which is
//! how they are found and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::topology::Node;
use crate::wait;

const NAME: &str = "redis-operator-cluster";

/// What the kubelet and runc set limits with; others, such as rdma, stay as the machine has them.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// One mounted cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    path: PathBuf,
    cpuset_v1: bool,
    v2: bool,
}

/// The node's cgroup as its kubelet names it.
pub fn root_of(node: Node) -> String {
    format!("/{NAME}/{}", node.name())
}

/// Makes the node's cgroup in every hierarchy.
pub fn make(node: Node) -> Result<()> {
    let all = hierarchies()?;
    if all.is_empty() {
        bail!("no cgroup hierarchy is mounted; mount cgroup v2 at /sys/fs/cgroup and try again");
    }
    for hierarchy in all {
        let parent = hierarchy.path.join(NAME);
        let own = parent.join(node.name());
        for (above, dir) in [(&hierarchy.path, &parent), (&parent, &own)] {
            if hierarchy.v2 {
                enable_controllers(above)?;
            }
            fs::create_dir_all(dir).with_context(|| format!("cannot make the cgroup {}", dir.display()))?;
            if hierarchy.cpuset_v1 {
                // A new v1 cpuset is empty and takes no process until it has these two.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    copy(&above.join(file), &dir.join(file))?;
                }
            }
        }
        if hierarchy.v2 {
            enable_controllers(&own)?;
        }
    }
    Ok(())
}

/// Processes in the node's cgroup and below.
pub fn processes(node: Node) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        for dir in tree(&hierarchy.path.join(NAME).join(node.name())) {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Removes the node's cgroup, or that of all nodes; its processes have to be gone.
pub fn remove(node: Option<Node>) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut top = hierarchy.path.join(NAME);
        if let Some(node) = node {
            top.push(node.name());
        }
        // The kernel lets go of a cgroup a moment after its last process ended.
        wait::until("the kernel to release a cgroup", Duration::from_secs(10), || {
            for dir in tree(&top).iter().rev() {
                fs::remove_dir(dir).with_context(|| format!("cannot remove the cgroup {}", dir.display()))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// `top` and all cgroups below it, parents first; empty when `top` does not exist.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = if top.is_dir() { vec![top.to_owned()] } else { vec![] };
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        open.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        found.push(dir);
    }
    found
}

fn enable_controllers(dir: &Path) -> Result<()> {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let path = dir.join("cgroup.subtree_control");
    for controller in available.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        fs::write(&path, format!("+{controller}")).with_context(|| {
            format!(
                "cannot enable the cgroup controller {controller} in {}; run as root of the machine",
                path.display()
            )
        })?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let value = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, value.trim()).with_context(|| format!("cannot write {}", to.display()))
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let path = "/proc/self/mountinfo";
    Ok(parse(&fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?))
}

/// The cgroup mounts in a mountinfo file: `ID PARENT DEV ROOT PATH OPTIONS… - TYPE SOURCE OPTIONS`.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let Some(path) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next().unwrap_or_default();
        let options = filesystem.nth(1).unwrap_or_default();
        let v2 = kind == "cgroup2";
        if (v2 || kind == "cgroup") && !found.iter().any(|hierarchy| hierarchy.path == path) {
            found.push(Hierarchy {
                path,
                cpuset_v1: options.split(',').any(|option| option == "cpuset"),
                v2,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(path: &str, cpuset_v1: bool, v2: bool) -> Hierarchy {
        Hierarchy { path: path.into(), cpuset_v1, v2 }
    }

    #[test]
    fn finds_v1_hierarchies() {
        let text = "30 24 0:26 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset\n\
                    31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    32 24 0:28 / /tmp rw - tmpfs tmpfs rw\n";
        let found = [
            hierarchy("/sys/fs/cgroup/cpuset", true, false),
            hierarchy("/sys/fs/cgroup/memory", false, false),
        ];
        assert_eq!(parse(text), found);
    }

    #[test]
    fn finds_v2() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        assert_eq!(parse(text), [hierarchy("/sys/fs/cgroup", false, true)]);
    }
}
