//! Variants of the processor that are broken on purpose: negative controls of the fault harness, which has to find each of them.
//!
//! They are there in builds with the feature `broken` alone, which no release build may have; elsewhere [`is`] is `false` before
//! anything is compiled. `STOCKTIDE_TEST_BROKEN` names the one that a process is.

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!("the feature `broken` is for the fault harness: no release build may have it");

macro_rules! variants {
    ($($variant:ident $name:literal $words:literal;)*) => {
        /// What is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Broken { $(#[doc = $words] $variant,)* }

        impl Broken {
            /// All of them.
            pub const ALL: &[Broken] = &[$(Broken::$variant),*];

            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Broken::$variant => $name),* }
            }

            /// What is wrong, for people.
            pub fn words(self) -> &'static str {
                match self { $(Broken::$variant => $words),* }
            }
        }
    };
}

variants! {
    OffsetsFirst "offsets-first" "offsets are committed before the database has the batch";
    FenceOff "fence-off" "the progress is locked, and not compared with where the batch begins (rule 4)";
    BatchDedupe "batch-dedupe" "duplicates are found within the batch only";
    ReplaysDropped "replays-dropped" "what was applied and not published is taken for done: nothing is published again";
    NoTransaction "no-transaction" "outputs and offsets are not in one Kafka transaction: the outputs are committed before";
    NoGeneration "no-generation" "offsets are sent without the member and generation of the group, even when the session has ended (rule 2)";
    StampedAnew "stamped-anew" "a batch whose publication failed is stamped anew after the rebalance, and published (rule 2)";
    PendingIgnored "pending-ignored" "K is read without waiting for the offsets of open transactions (rule 1)";
    LostAnswer "lost-answer" "a COMMIT whose answer was lost is taken for a failure, and the batch applied again";
    DlqApart "dlq-apart" "dead letters are published outside of the batch's transaction";
    RollupsApart "rollups-apart" "rollups are written in a second transaction";
    TimerCursorLost "timer-cursor-lost" "what the timer put out is taken for published: its cursor is left out (rule 6)";
    SoundRejected "sound-rejected" "one order in a hundred is rejected for a product that the catalogue has";
}

/// Whether this process is that variant.
#[cfg(feature = "broken")]
pub fn is(variant: Broken) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("STOCKTIDE_TEST_BROKEN").ok());
    CHOSEN.as_deref() == Some(variant.name())
}

/// No process is.
#[cfg(not(feature = "broken"))]
#[inline(always)]
#[allow(clippy::inline_always)] // so that nothing is left of it in what is released
pub const fn is(_: Broken) -> bool {
    false
}
