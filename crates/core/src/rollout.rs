//! The pods: how many, which is to be replaced next and by what image, and where the primary belongs meanwhile.

pub mod at_rest;
pub mod compatibility;
pub mod next_pod;
pub mod placement;
pub mod size;
