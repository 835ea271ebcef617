//! What commands print and write.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table};

/// `println!` that ignores a closed pipe: a reader such as `head` has read enough.
macro_rules! println_ignoring_epipe {
    () => {
        println_ignoring_epipe!("")
    };
    ($($text:tt)*) => {
        $crate::commands::output::print_line(format_args!($($text)*))
    };
}

/// Behind `println_ignoring_epipe!`. What else may go wrong ends the program, as with
/// `println!`.
pub(super) fn print_line(text: Arguments) {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            panic!("failed printing to standard output: {error}")
        }
        _ => {}
    }
}

/// Writes `text` to the file `path`.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Aligns columns of numbers.
pub(super) fn right_align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
