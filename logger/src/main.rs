//! logger
fn main() {}
