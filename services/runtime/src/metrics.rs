//! Metrics, declared once: one struct per service, one field per metric, and its doc comment is the help text.
//!
//! Names follow the Prometheus conventions: base units, `_total` for counters, `_seconds` for times. What a service declares
//! can be listed without running it, so that `docs/metrics.md`, the dashboards and the alerts are held against it.

use prometheus::{IntGaugeVec, Registry};

/// A metric as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    help: &'static str,
}

impl Declared {
    /// For [`metrics!`](crate::metrics!).
    pub const fn new(
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Declared {
        Declared { name, kind, labels, help }
    }

    /// What it counts or measures.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

/// Buckets for times of some milliseconds to some seconds; those of histograms that name no others.
pub const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Declares a struct of metrics: `field: Kind = "name" ["label", …]`, a histogram with `in BUCKETS` where the usual ones do not
/// suit. Fields after `with` are no metrics; each is made by a function of the registry.
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])+
        pub struct $Metrics:ident {
            $($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal [$($label:literal),*] $(in $buckets:expr)?,)*
        }
        $(with { $($(#[doc = $about:literal])* $vis:vis $extra:ident: $ty:ty = $make:expr,)* })?
    ) => {
        $(#[$attribute])+
        pub struct $Metrics {
            $($(#[doc = $help])+ pub $field: ::prometheus::$kind,)*
            $($($(#[doc = $about])* $vis $extra: $ty,)*)?
        }

        impl $Metrics {
            /// Every metric there is, in the order of the source.
            pub const DECLARED: &'static [$crate::metrics::Declared] = &[$(
                $crate::metrics::Declared::new(
                    $name, $crate::metrics!(@type $kind), &[$($label),*], concat!($($help),+),
                ),
            )*];

            /// Declares every metric in a registry.
            ///
            /// # Errors
            /// When a name is taken.
            pub fn register(registry: &::prometheus::Registry) -> ::prometheus::Result<$Metrics> {
                $(let $field = $crate::metrics!(@make $kind, $name, concat!($($help),+).trim(), [$($label),*] $(, $buckets)?)?;
                  registry.register(Box::new($field.clone()))?;)*
                $($(let make: fn(&::prometheus::Registry) -> ::prometheus::Result<$ty> = $make;
                    let $extra = make(registry)?;)*)?
                Ok($Metrics { $($field,)* $($($extra,)*)? })
            }
        }
    };
    (@type IntCounter) => { "counter" };
    (@type IntCounterVec) => { "counter" };
    (@type Histogram) => { "histogram" };
    (@type HistogramVec) => { "histogram" };
    (@type $gauge:ident) => { "gauge" };
    (@make Histogram, $name:literal, $help:expr, []) => {
        $crate::metrics!(@make Histogram, $name, $help, [], $crate::metrics::SECONDS)
    };
    (@make HistogramVec, $name:literal, $help:expr, $labels:tt) => {
        $crate::metrics!(@make HistogramVec, $name, $help, $labels, $crate::metrics::SECONDS)
    };
    (@make Histogram, $name:literal, $help:expr, [], $buckets:expr) => {
        ::prometheus::Histogram::with_opts(::prometheus::HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@make HistogramVec, $name:literal, $help:expr, $labels:tt, $buckets:expr) => {
        ::prometheus::HistogramVec::new(::prometheus::HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &$labels)
    };
    (@make $kind:ident, $name:literal, $help:expr, []) => { ::prometheus::$kind::new($name, $help) };
    (@make $kind:ident, $name:literal, $help:expr, $labels:tt) => {
        ::prometheus::$kind::new(::prometheus::Opts::new($name, $help), &$labels)
    };
}

metrics! {
    /// What every process says of itself.
    pub struct Process {
        /// Always 1; the labels say which build runs.
        build_info: IntGaugeVec = "stocktide_build_info" ["version", "revision"],
        /// Whether a part of the process works: 1, or 0. As `/ready` has it.
        part_ready: IntGaugeVec = "stocktide_part_ready" ["part"],
    }
}

impl Process {
    /// Declares the metrics, and says which build this is. The revision is what `STOCKTIDE_REVISION` was when it was built.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn of_build(registry: &Registry) -> prometheus::Result<Process> {
        let process = Process::register(registry)?;
        let revision = option_env!("STOCKTIDE_REVISION").unwrap_or("unknown");
        process.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
        Ok(process)
    }
}

/// Sets a gauge to 1 or 0.
pub fn set_flag(gauge: &IntGaugeVec, label: &str, is: bool) {
    gauge.with_label_values(&[label]).set(i64::from(is));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    crate::metrics! {
        /// Of a test.
        pub struct Tried {
            /// Counts,
            /// in two lines.
            counted: IntCounter = "tried_total" [],
            /// Times.
            times: HistogramVec = "tried_seconds" ["stage"],
            /// Sizes.
            sizes: Histogram = "tried_records" [] in [1.0, 10.0],
            /// Since when.
            since: Gauge = "tried_timestamp_seconds" [],
        }
        with {
            /// How many metrics the registry had before.
            pub before: usize = |registry| Ok(registry.gather().len()),
        }
    }

    #[test]
    fn what_is_declared_is_what_is_shown() {
        let registry = Registry::new();
        let tried = Tried::register(&registry).unwrap();
        tried.counted.inc();
        tried.times.with_label_values(&["apply"]).observe(0.003);
        tried.sizes.observe(2.0);
        tried.since.set(1.5);
        // The vector without a label has nothing to show yet.
        assert_eq!(tried.before, 3);
        let families = registry.gather();
        for declared in Tried::DECLARED {
            let family = families.iter().find(|family| family.name() == declared.name).unwrap();
            assert_eq!(family.help(), declared.help());
            assert_eq!(format!("{:?}", family.get_field_type()).to_lowercase(), declared.kind);
        }
        assert_eq!(Tried::DECLARED[0].help(), "Counts, in two lines.");
        assert_eq!((Tried::DECLARED[1].kind, Tried::DECLARED[1].labels), ("histogram", &["stage"][..]));
        assert_eq!(
            families.iter().find(|f| f.name() == "tried_records").unwrap().get_metric()[0]
                .get_histogram()
                .get_bucket()
                .len(),
            2
        );
    }
}
