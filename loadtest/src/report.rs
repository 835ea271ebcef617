//! Results for people who have to decide: a page of one run, a comparison of two.
//!
//! A report is one HTML file that refers to nothing outside itself. Everything a
//! user or a server can put into results is escaped: text by the template engine
//! and the plot library, the embedded JSON by writing `<` as `\u003c`.

pub mod compare;
mod decision;
mod figures;
pub mod page;
mod plots;
pub mod table;

#[cfg(test)]
mod tests;
