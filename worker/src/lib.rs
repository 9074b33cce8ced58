//! The worker: captures packets, analyses them once, and ships what the logs say.

pub mod capture;
pub mod output;
pub mod pipeline;
