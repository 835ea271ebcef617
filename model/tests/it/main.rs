//! Tests of packing and opening, on small random checkpoints of each family.

mod checkpoint;
mod damage;
mod families;
mod import_errors;
