//! How long a program waits for a processor: hosts of a lab share those that there are.

use std::{collections::BTreeMap, fs, time::Duration};

/// What each thread of a process has waited for a processor so far, by its id.
#[derive(Clone, Debug, Default)]
pub struct Waited(BTreeMap<String, Duration>);

impl Waited {
    /// Of a process that lives; nothing of one that does not, or where the kernel does not say.
    pub(super) fn of(process: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let waited = |text: String| text.split(' ').nth(1)?.parse().ok().map(Duration::from_nanos);
        let threads = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((thread.file_name().to_string_lossy().into_owned(), waited(text)?))
        });
        Self(threads.collect())
    }

    /// What the thread has waited since then that has waited the longest.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        let more = |(thread, now): (&String, &Duration)| {
            now.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(more).max().unwrap_or_default()
    }
}
