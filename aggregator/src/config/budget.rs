//! How much room there is for what agents report.

use super::{ConfigError, Layers, values};

/// What everything else takes: the program, connections, what is under way, the names of the history.
const BASE_BYTES: u64 = 128_000_000;

/// What a half may take, with a link of its own and its places in all tables, in a snapshot that is being
/// written too.
const HALF_BYTES: u64 = 2_500;

/// What a series may take, with its edge, both services, a workload, its labels at usual lengths, and its steps
/// of the last minutes.
const SERIES_BYTES: u64 = 5_000;

/// Fewer halves are of no use.
const LEAST_HALVES: u64 = 1_000;

/// How much room there is for what agents report. What does not fit is counted together, as `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Series and edges at a time.
    pub max_series: usize,
    /// Halves at a time.
    pub max_halves: usize,
    /// Bytes a second that one stream may bring; more are read later.
    pub stream_bytes_per_second: u64,
}

impl Budget {
    pub(super) fn resolve(layers: &Layers) -> Result<Self, ConfigError> {
        let max_series =
            layers.get_or("max-series", "200000").parse_with(values::number_of_series)?;
        let memory = layers.get_or("max-memory-bytes", "4GB");
        let max_halves = memory.parse_with(|text| {
            let halves = Self::halves(values::bytes(text)?, max_series);
            halves.ok_or_else(|| {
                format!(
                    "`{text}` is too little for {max_series} series: {} MB at least, or a smaller \
                     --max-series",
                    Self::least(max_series).div_ceil(1_000_000)
                )
            })
        })?;
        let stream_bytes_per_second =
            layers.get_or("stream-bytes-per-second", "32MB").parse_with(values::rate)?;
        Ok(Self { max_series, max_halves, stream_bytes_per_second })
    }

    /// How many halves fit beside that many series.
    fn halves(memory_bytes: u64, max_series: usize) -> Option<usize> {
        let room = memory_bytes.checked_sub(Self::least(max_series))?;
        usize::try_from(LEAST_HALVES + room / HALF_BYTES).ok()
    }

    const fn least(max_series: usize) -> u64 {
        BASE_BYTES + LEAST_HALVES * HALF_BYTES + max_series as u64 * SERIES_BYTES
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { max_series: 200_000, max_halves: 1_000_000, stream_bytes_per_second: 32_000_000 }
    }
}
