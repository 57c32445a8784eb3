//! The disk: what it may do to the mirror, and what it must not.

mod faulty_disk;

