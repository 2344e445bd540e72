//! Buckets of the one histogram that goes from the kernel to Grafana: those of
//! Prometheus native histograms, schema 3, in seconds.
//!
//! Bucket `k` holds values `v` with `bound(k - 1) < v <= bound(k)`, where
//! `bound(k) = 2^((k + FIRST_SCHEMA_INDEX) / 8)` seconds. Values at or below the
//! first bound fall into bucket 0, values above the last into the last one.

/// Histograms of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum HistogramKind {
    /// Round-trip time as the kernel samples it.
    Rtt = 0,
    /// SYN sent to connection established; client halves only.
    Connect = 1,
    /// Established to closed.
    Lifetime = 2,
}

/// How many kinds of histogram a half has.
pub const HISTOGRAMS: usize = 3;

impl HistogramKind {
    /// Every kind in the order of its index.
    pub const ALL: [HistogramKind; HISTOGRAMS] =
        [HistogramKind::Rtt, HistogramKind::Connect, HistogramKind::Lifetime];

    /// Index of the kind in every array of [`HISTOGRAMS`] values.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Number of buckets: 40 powers of two, 8 buckets each.
pub const BUCKETS: usize = 320;

/// Schema-3 index of bucket 0, whose bound is 2^(-160/8) s, just under 1 us.
/// The last bucket's is 159: 2^(159/8) s, about 11 days.
pub const FIRST_SCHEMA_INDEX: i32 = -160;

/// `floor(bound(k) in ns)`. Since durations are whole nanoseconds, comparing with
/// the floor is exact. Computed with integer roots; the test recomputes them.
#[rustfmt::skip]
pub static BOUNDS_NS: [u64; BUCKETS] = [
    953, 1_039, 1_134, 1_236, 1_348, 1_470, 1_603, 1_749,
    1_907, 2_079, 2_268, 2_473, 2_697, 2_941, 3_207, 3_498,
    3_814, 4_159, 4_536, 4_947, 5_394, 5_883, 6_415, 6_996,
    7_629, 8_319, 9_072, 9_894, 10_789, 11_766, 12_831, 13_992,
    15_258, 16_639, 18_145, 19_788, 21_579, 23_532, 25_662, 27_984,
    30_517, 33_279, 36_291, 39_576, 43_158, 47_064, 51_324, 55_969,
    61_035, 66_559, 72_583, 79_152, 86_316, 94_129, 102_648, 111_938,
    122_070, 133_118, 145_166, 158_305, 172_633, 188_258, 205_296, 223_877,
    244_140, 266_237, 290_333, 316_611, 345_266, 376_516, 410_593, 447_755,
    488_281, 532_474, 580_667, 633_222, 690_533, 753_032, 821_187, 895_511,
    976_562, 1_064_948, 1_161_335, 1_266_444, 1_381_067, 1_506_065, 1_642_375, 1_791_023,
    1_953_125, 2_129_897, 2_322_670, 2_532_889, 2_762_135, 3_012_130, 3_284_751, 3_582_047,
    3_906_250, 4_259_795, 4_645_340, 5_065_779, 5_524_271, 6_024_261, 6_569_503, 7_164_094,
    7_812_500, 8_519_591, 9_290_680, 10_131_559, 11_048_543, 12_048_522, 13_139_006, 14_328_188,
    15_625_000, 17_039_183, 18_581_361, 20_263_118, 22_097_086, 24_097_044, 26_278_012, 28_656_376,
    31_250_000, 34_078_366, 37_162_722, 40_526_236, 44_194_173, 48_194_088, 52_556_025, 57_312_752,
    62_500_000, 68_156_733, 74_325_444, 81_052_472, 88_388_347, 96_388_176, 105_112_051, 114_625_505,
    125_000_000, 136_313_466, 148_650_889, 162_104_944, 176_776_695, 192_776_353, 210_224_103, 229_251_010,
    250_000_000, 272_626_933, 297_301_778, 324_209_888, 353_553_390, 385_552_706, 420_448_207, 458_502_021,
    500_000_000, 545_253_866, 594_603_557, 648_419_777, 707_106_781, 771_105_412, 840_896_415, 917_004_043,
    1_000_000_000, 1_090_507_732, 1_189_207_115, 1_296_839_554, 1_414_213_562, 1_542_210_825, 1_681_792_830, 1_834_008_086,
    2_000_000_000, 2_181_015_465, 2_378_414_230, 2_593_679_109, 2_828_427_124, 3_084_421_650, 3_363_585_661, 3_668_016_172,
    4_000_000_000, 4_362_030_930, 4_756_828_460, 5_187_358_218, 5_656_854_249, 6_168_843_301, 6_727_171_322, 7_336_032_345,
    8_000_000_000, 8_724_061_861, 9_513_656_920, 10_374_716_437, 11_313_708_498, 12_337_686_603, 13_454_342_644, 14_672_064_691,
    16_000_000_000, 17_448_123_722, 19_027_313_840, 20_749_432_874, 22_627_416_997, 24_675_373_206, 26_908_685_288, 29_344_129_382,
    32_000_000_000, 34_896_247_445, 38_054_627_680, 41_498_865_748, 45_254_833_995, 49_350_746_413, 53_817_370_576, 58_688_258_765,
    64_000_000_000, 69_792_494_890, 76_109_255_360, 82_997_731_497, 90_509_667_991, 98_701_492_826, 107_634_741_152, 117_376_517_530,
    128_000_000_000, 139_584_989_781, 152_218_510_720, 165_995_462_995, 181_019_335_983, 197_402_985_652, 215_269_482_304, 234_753_035_060,
    256_000_000_000, 279_169_979_562, 304_437_021_440, 331_990_925_990, 362_038_671_967, 394_805_971_304, 430_538_964_609, 469_506_070_120,
    512_000_000_000, 558_339_959_124, 608_874_042_881, 663_981_851_981, 724_077_343_935, 789_611_942_608, 861_077_929_219, 939_012_140_241,
    1_024_000_000_000, 1_116_679_918_249, 1_217_748_085_762, 1_327_963_703_962, 1_448_154_687_870, 1_579_223_885_217, 1_722_155_858_439, 1_878_024_280_483,
    2_048_000_000_000, 2_233_359_836_498, 2_435_496_171_525, 2_655_927_407_925, 2_896_309_375_740, 3_158_447_770_435, 3_444_311_716_879, 3_756_048_560_966,
    4_096_000_000_000, 4_466_719_672_996, 4_870_992_343_051, 5_311_854_815_850, 5_792_618_751_480, 6_316_895_540_870, 6_888_623_433_758, 7_512_097_121_932,
    8_192_000_000_000, 8_933_439_345_993, 9_741_984_686_102, 10_623_709_631_701, 11_585_237_502_960, 12_633_791_081_741, 13_777_246_867_516, 15_024_194_243_865,
    16_384_000_000_000, 17_866_878_691_987, 19_483_969_372_204, 21_247_419_263_402, 23_170_475_005_920, 25_267_582_163_483, 27_554_493_735_033, 30_048_388_487_730,
    32_768_000_000_000, 35_733_757_383_975, 38_967_938_744_409, 42_494_838_526_804, 46_340_950_011_841, 50_535_164_326_967, 55_108_987_470_067, 60_096_776_975_461,
    65_536_000_000_000, 71_467_514_767_950, 77_935_877_488_818, 84_989_677_053_608, 92_681_900_023_683, 101_070_328_653_934, 110_217_974_940_134, 120_193_553_950_922,
    131_072_000_000_000, 142_935_029_535_900, 155_871_754_977_636, 169_979_354_107_217, 185_363_800_047_366, 202_140_657_307_869, 220_435_949_880_269, 240_387_107_901_845,
    262_144_000_000_000, 285_870_059_071_801, 311_743_509_955_273, 339_958_708_214_434, 370_727_600_094_732, 404_281_314_615_739, 440_871_899_760_539, 480_774_215_803_690,
    524_288_000_000_000, 571_740_118_143_602, 623_487_019_910_546, 679_917_416_428_868, 741_455_200_189_465, 808_562_629_231_478, 881_743_799_521_078, 961_548_431_607_381,
];

/// [`BOUNDS_NS`] for searching: the last bucket takes everything above, and the length is a power of
/// two so that a mask keeps any index inside, which the kernel's verifier can follow.
static SEARCH_NS: [u64; BUCKETS_POW2] = search_ns();

/// The power of two above [`BUCKETS`]: arrays of this length can be indexed through a mask.
pub const BUCKETS_POW2: usize = 512;

const fn search_ns() -> [u64; BUCKETS_POW2] {
    let mut table = [u64::MAX; BUCKETS_POW2];
    let mut bucket = 0;
    while bucket < BUCKETS - 1 {
        table[bucket] = BOUNDS_NS[bucket];
        bucket += 1;
    }
    table
}

/// For each position of the highest set bit of a duration in ns, the first bucket
/// whose bound is at least the smallest such duration.
static FIRST_OF_BIT: [u16; 64] = first_of_bit();

const fn first_of_bit() -> [u16; 64] {
    let mut table = [0_u16; 64];
    let mut bit = 0;
    while bit < 64 {
        let mut bucket = 0;
        while bucket < BUCKETS - 1 && BOUNDS_NS[bucket] < (1_u64 << bit) {
            bucket += 1;
        }
        table[bit] = bucket as u16;
        bit += 1;
    }
    table
}

/// Durations below this have a table of their own: those of a fast network, of which there are most.
const SHORT_NS: u64 = 1 << 20;

/// The ranges of that table are two to this power of nanoseconds.
const RANGE_BITS: u32 = 10;

/// The bucket in which each range begins.
static FIRST_OF_RANGE: [u16; (SHORT_NS >> RANGE_BITS) as usize] = first_of_range();

const fn first_of_range() -> [u16; (SHORT_NS >> RANGE_BITS) as usize] {
    let mut table = [0_u16; (SHORT_NS >> RANGE_BITS) as usize];
    let (mut range, mut bucket) = (0, 0);
    while range < table.len() {
        while BOUNDS_NS[bucket] < (range as u64) << RANGE_BITS {
            bucket += 1;
        }
        table[range] = bucket as u16;
        range += 1;
    }
    table
}

/// Bucket of a duration in nanoseconds.
///
/// A table gives the first candidate: of a short one by its range, which seldom has more than two, else from the highest
/// set bit; a power of two holds at most nine bounds, so that behind two of them at most three halving steps remain.
#[inline(always)]
#[must_use]
pub fn bucket_of_ns(ns: u64) -> u16 {
    let first = if ns < SHORT_NS {
        let range = (ns >> RANGE_BITS) as usize & (FIRST_OF_RANGE.len() - 1);
        usize::from(FIRST_OF_RANGE[range])
    } else {
        let bit = 63 - (ns | 1).leading_zeros();
        usize::from(FIRST_OF_BIT[(bit & 63) as usize])
    };
    if SEARCH_NS[first & (BUCKETS_POW2 - 1)] >= ns {
        return first as u16;
    }
    if SEARCH_NS[(first + 1) & (BUCKETS_POW2 - 1)] >= ns {
        return first as u16 + 1;
    }
    search(first + 2, ns)
}

/// The first bucket whose bound is at least `ns` among `low ..= low + 7`.
#[inline(always)]
fn search(mut low: usize, ns: u64) -> u16 {
    let mut step = 4;
    while step > 0 {
        if SEARCH_NS[(low + step - 1) & (BUCKETS_POW2 - 1)] < ns {
            low += step;
        }
        step >>= 1;
    }
    low as u16
}

/// Upper bound of a bucket in seconds, inclusive.
#[cfg(any(test, feature = "std"))]
#[must_use]
pub fn bound_seconds(bucket: u16) -> f64 {
    f64::exp2(f64::from(i32::from(bucket) + FIRST_SCHEMA_INDEX) / 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn exact_floor_ns(bucket: usize) -> u64 {
        let index = bucket as i32 + FIRST_SCHEMA_INDEX;
        let scaled = BigUint::from(10_u32).pow(72);
        let scaled = if index >= 0 { scaled << index } else { scaled >> -index };
        u64::try_from(scaled.nth_root(8)).unwrap()
    }

    fn reference(ns: u64) -> u16 {
        BOUNDS_NS.iter().position(|bound| ns <= *bound).unwrap_or(BUCKETS - 1) as u16
    }

    #[test]
    fn bounds_are_exact() {
        for (bucket, bound) in BOUNDS_NS.iter().enumerate() {
            assert_eq!(*bound, exact_floor_ns(bucket), "bucket {bucket}");
        }
    }

    #[test]
    fn every_bound_and_its_neighbours_fall_where_they_belong() {
        for bound in BOUNDS_NS {
            for ns in [bound - 1, bound, bound + 1] {
                assert_eq!(bucket_of_ns(ns), reference(ns), "{ns} ns");
            }
        }
        for ns in [0, 1, 2, u64::MAX - 1, u64::MAX] {
            assert_eq!(bucket_of_ns(ns), reference(ns), "{ns} ns");
        }
    }

    #[test]
    fn short_durations_fall_into_the_reference_bucket() {
        for ns in (0..20_000).chain((0..SHORT_NS + 4_096).step_by(509)) {
            assert_eq!(bucket_of_ns(ns), reference(ns), "{ns} ns");
        }
        for at in (0..=SHORT_NS).step_by(1 << RANGE_BITS) {
            for ns in [at.saturating_sub(1), at, at + 1] {
                assert_eq!(bucket_of_ns(ns), reference(ns), "{ns} ns");
            }
        }
    }

    #[test]
    fn bounds_in_seconds_are_those_in_nanoseconds() {
        for (bucket, bound) in BOUNDS_NS.iter().enumerate() {
            let seconds = bound_seconds(bucket as u16);
            assert!((seconds * 1e9 - *bound as f64).abs() <= 1.0 + *bound as f64 * 1e-12);
        }
    }

    proptest! {
        #[test]
        fn any_duration_falls_into_the_reference_bucket(ns in any::<u64>(), shift in 0_u32..64) {
            let ns = ns >> shift;
            prop_assert_eq!(bucket_of_ns(ns), reference(ns));
        }
    }
}
