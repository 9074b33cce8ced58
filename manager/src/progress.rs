//! What the operator sees while a command runs: headings as ZeekControl prints them, and one
//! line per host when standard error is a terminal. Says nothing when the answer is JSON.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// Time between two pictures of a spinner.
const SPIN_INTERVAL: Duration = Duration::from_millis(120);

/// The live view of one command. Clones draw into the same view.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    is_on: bool,
}

impl Progress {
    /// A view that is drawn only when `is_on`.
    pub fn new(is_on: bool) -> Self {
        // indicatif hides the bars by itself when standard error is no terminal.
        let target =
            if is_on { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), is_on }
    }

    /// A line that stays: `starting workers ...`.
    pub fn heading(&self, text: &str) {
        if self.is_on {
            self.bars.suspend(|| report::print_line(text));
        }
    }

    /// Adds the line of one host; it goes when the value is dropped.
    pub fn host(&self, host: &str) -> HostProgress {
        let bar = self.bars.add(ProgressBar::new_spinner());
        // The template is fixed and known to be right; without it the default is drawn.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:24} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(host.to_owned());
        bar.enable_steady_tick(SPIN_INTERVAL);
        HostProgress { bar }
    }
}

/// The line of one host.
#[derive(Debug)]
pub struct HostProgress {
    bar: ProgressBar,
}

impl HostProgress {
    /// Says what is being done on the host.
    pub fn say(&self, text: impl Into<Cow<'static, str>>) {
        self.bar.set_message(text);
    }
}

impl Drop for HostProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
