//! Container images made without a container engine: a file tree becomes a docker-archive or an OCI layout.

pub mod archive;
pub mod catalogue;
pub mod dockerfile;
pub mod load;
pub mod oci;
pub mod sysroot;
pub mod tree;
