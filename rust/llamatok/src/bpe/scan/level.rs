//! The levels of vector instructions.

/// Ways to make the masks; holding one other than `Scalar` proves that the processor has all that
/// [`Level::available`] asks for before it gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Sse42,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
}

impl Level {
    /// The best level of this processor; the environment variable `LLAMATOK_SIMD` (`scalar`, `sse42`,
    /// `avx2`, `avx512`, `neon`) asks for a lower one.
    pub(crate) fn detect() -> Self {
        let wanted = std::env::var("LLAMATOK_SIMD").unwrap_or_default();
        let levels = Self::available();
        levels.iter().copied().find(|level| level.name() == wanted).unwrap_or(levels[0])
    }

    /// All levels of this processor, the best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            // A hypervisor may hide any of them, whatever the processor has.
            let has_bits = is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let has_avx2 = has_bits && is_x86_feature_detected!("avx2");
            if has_avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                levels.push(Self::Avx512);
            }
            if has_avx2 {
                levels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("ssse3")
                && is_x86_feature_detected!("sse4.1")
                && is_x86_feature_detected!("sse4.2")
                && is_x86_feature_detected!("popcnt")
            {
                levels.push(Self::Sse42);
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            levels.push(Self::Neon);
        }
        levels.push(Self::Scalar);
        levels
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Sse42 => "sse42",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon => "neon",
        }
    }
}
