# shellcheck shell=sh
# Run in a new mount namespace: gives the node directories of its own at the usual places, then becomes "$@".
set -eu
node=$1
shift
# Pods may ask for mounts that propagate; nothing goes back to the host, which this namespace only follows.
mount --make-rshared /
for dir in /run/containerd /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods; do
    mount --bind "$node$dir" "$dir"
done
exec "$@"
