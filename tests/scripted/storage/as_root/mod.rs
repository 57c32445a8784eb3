//! A file system of the test's own, which fails on demand: takes root and `/dev/fuse`.

mod bad_input;
mod disk_faults;
mod faulty_disk;
mod model;
mod power_cut;
mod quota;
mod rotten;
