//! The kinds of faults, and how a seed makes a sequence of them.

use std::fmt;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which part of the installation a fault is about. There is one sequence of faults for each, and they run side by side, so
/// that faults of different parts meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The processors.
    Processors,
    /// Producers and job workers.
    Sources,
    /// The brokers.
    Kafka,
    /// The database.
    Postgres,
    /// What lies between the processors, or the job workers, and the database.
    WaysToPostgres,
    /// What lies between the processors, or the producers, and the brokers.
    WaysToKafka,
}

impl Lane {
    /// All of them.
    pub const ALL: [Lane; 6] = [
        Lane::Processors,
        Lane::Sources,
        Lane::Kafka,
        Lane::Postgres,
        Lane::WaysToPostgres,
        Lane::WaysToKafka,
    ];

    /// The longest pause between two faults, in milliseconds.
    fn longest_pause(self) -> u32 {
        match self {
            Lane::Processors | Lane::WaysToPostgres => 1_500,
            Lane::WaysToKafka | Lane::Postgres => 2_500,
            Lane::Sources => 4_000,
            Lane::Kafka => 6_000,
        }
    }
}

macro_rules! kinds {
    ($($kind:ident $name:literal $lane:ident $targets:literal $weight:literal $hold:expr, $words:literal;)*) => {
        /// What is done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $words] #[serde(rename = $name)] $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// Its name in histories and on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }

            /// What it does, for people.
            pub fn words(self) -> &'static str {
                match self { $(Kind::$kind => $words),* }
            }

            /// What it is about.
            pub fn lane(self) -> Lane {
                match self { $(Kind::$kind => Lane::$lane),* }
            }

            fn targets(self) -> u8 {
                match self { $(Kind::$kind => $targets),* }
            }

            fn weight(self) -> u32 {
                match self { $(Kind::$kind => $weight),* }
            }

            /// How long it lasts, in milliseconds.
            fn hold(self) -> std::ops::RangeInclusive<u32> {
                match self { $(Kind::$kind => $hold),* }
            }
        }
    };
}

kinds! {
    KillProcessor "kill-processor" Processors 3 8 0..=1_500, "SIGKILL to a processor, started again a little later";
    KillProcessors "kill-processors" Processors 1 2 0..=1_500, "SIGKILL to all processors at once";
    FreezeProcessor "freeze-processor" Processors 3 8 4_000..=9_000, "SIGSTOP to a processor for longer than its session, so that it wakes as a zombie";
    Rebalance "rebalance" Processors 3 6 300..=3_000, "a processor leaves the group in order, and joins again";
    ClockJump "clock-jump" Processors 1 3 1_000..=5_000, "a processor's clock jumps by up to half a minute forth or two hours back, and later to the right time again";
    KillProducer "kill-producer" Sources 3 3 0..=1_000, "SIGKILL to a producer; another one is started";
    FreezeProducer "freeze-producer" Sources 3 2 1_000..=4_000, "SIGSTOP to a producer";
    KillJobs "kill-jobs" Sources 2 3 0..=1_500, "SIGKILL to a job worker, started again a little later";
    FreezeJobs "freeze-jobs" Sources 2 2 2_500..=5_000, "SIGSTOP to a job worker for longer than its runs wait for a sign of life";
    KillBroker "kill-broker" Kafka 3 6 0..=2_000, "SIGKILL to a broker, started again";
    KillBrokers "kill-brokers" Kafka 1 1 0..=1_000, "SIGKILL to all brokers at once";
    FreezeBroker "freeze-broker" Kafka 3 4 1_000..=6_000, "SIGSTOP to a broker, also for longer than its session with the controller";
    RollBrokers "roll-brokers" Kafka 1 1 0..=500, "every broker in turn is stopped in order and started again";
    CutReplica "cut-replica" Kafka 3 3 1_000..=5_000, "a broker cannot be reached by the other brokers";
    TruncateTopic "truncate-topic" Kafka 4 0 0..=0, "records that were never read are deleted: an episode of its own, in which the processor must stop";
    KillPostgres "kill-postgres" Postgres 1 4 0..=1_000, "SIGKILL to every process of PostgreSQL, started again";
    StopPostgresFast "restart-postgres-fast" Postgres 1 3 0..=1_000, "PostgreSQL is restarted: fast";
    StopPostgresImmediate "restart-postgres-immediate" Postgres 1 3 0..=1_000, "PostgreSQL is restarted: immediate";
    FreezePostgres "freeze-postgres" Postgres 1 2 500..=4_000, "SIGSTOP to every process of PostgreSQL";
    Terminate "terminate-backends" Postgres 1 6 0..=1_000, "pg_terminate_backend on all connections, again and again";
    Cancel "cancel-statements" Postgres 1 4 300..=2_000, "statements are cancelled as a statement timeout does it, again and again";
    LockStock "lock-stock" Postgres 1 4 500..=7_000, "another session holds stock rows, for up to longer than the lock timeout";
    LockProgress "lock-progress" Postgres 4 3 500..=7_000, "another session holds the progress rows of a topic";
    Exhaust "exhaust-connections" Postgres 1 3 500..=3_000, "every connection that PostgreSQL has is taken, and those of the services are ended";
    DiskFull "disk-full" Postgres 1 3 500..=4_000, "the file system under PostgreSQL, its log included, has no byte left";
    PoisonRow "poison-row" Postgres 1 3 2_000..=6_000, "the database refuses some rows, so that each record has to be found that is to blame";
    LoseQuestion "lose-commit" WaysToPostgres 3 6 5_000..=5_000, "a connection breaks before its COMMIT reaches the server";
    LoseAnswer "lose-commit-answer" WaysToPostgres 3 8 5_000..=5_000, "a connection breaks when the server has answered to COMMIT";
    CutDatabase "cut-database" WaysToPostgres 3 3 200..=3_000, "no way between a processor and PostgreSQL";
    SlowDatabase "slow-database" WaysToPostgres 3 2 1_000..=4_000, "a slow way between a processor and PostgreSQL";
    StopDatabase "stop-database" WaysToPostgres 3 3 500..=6_000, "a way to PostgreSQL that swallows everything, half-open or both ways; later it arrives, or the connection is reset";
    CutJobs "cut-jobs" WaysToPostgres 2 2 500..=6_000, "no way between a job worker and PostgreSQL";
    StopJobs "stop-jobs" WaysToPostgres 2 2 1_000..=6_000, "a way between a job worker and PostgreSQL that swallows everything, half-open or both ways; later it arrives, or the connection is reset";
    CutBroker "cut-broker" WaysToKafka 9 4 200..=6_000, "no way between a processor and a broker";
    SlowBroker "slow-broker" WaysToKafka 9 3 1_000..=5_000, "a slow way between a processor and a broker";
    StopBroker "stop-broker" WaysToKafka 9 4 1_000..=7_000, "a way to a broker that swallows everything, half-open or both ways; later it arrives, or the connection is reset";
    StopBrokers "stop-brokers" WaysToKafka 3 3 1_000..=7_000, "the same between a processor and all brokers";
    CutProducer "cut-producers" WaysToKafka 3 1 500..=3_000, "no way between the producers and a broker";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let names = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        Kind::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("allowed: {}", names()))
    }
}

/// A fault that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// How long all is left in peace before it, as far as this lane goes.
    pub pause: Duration,
    /// What is done.
    pub kind: Kind,
    /// To which of its targets, from 0.
    pub target: u8,
    /// How long it lasts.
    pub hold: Duration,
    /// Chance for what is left to choose.
    pub dice: u32,
}

/// How likely kinds are: what is not named has its own weight, or none where only the named ones are wanted.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    /// Kinds and their weights.
    pub weights: Vec<(Kind, u32)>,
    /// Whether there are no others.
    pub only: bool,
    /// Kinds that this machine cannot do.
    pub left_out: Vec<Kind>,
}

impl Mix {
    fn weight(&self, kind: Kind) -> u32 {
        if self.left_out.contains(&kind) {
            return 0;
        }
        let named = self.weights.iter().find(|(named, _)| *named == kind).map(|(_, weight)| *weight);
        named.unwrap_or(if self.only { 0 } else { kind.weight() })
    }
}

/// The faults of one lane, without end; the same for the same seed and mix. What a machine cannot do is drawn and passed over,
/// so that the others stay the same.
pub struct Sequence {
    dice: ChaCha8Rng,
    lane: Lane,
    kinds: Vec<(Kind, u32)>,
    left_out: Vec<Kind>,
}

impl Sequence {
    /// Of a lane.
    pub fn new(seed: u64, lane: Lane, mix: &Mix) -> Sequence {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(1 + lane as u64);
        let all = Mix { left_out: Vec::new(), ..mix.clone() };
        let of_lane = Kind::ALL.iter().copied().filter(|kind| kind.lane() == lane);
        let kinds = of_lane.map(|kind| (kind, all.weight(kind))).filter(|(_, weight)| *weight > 0).collect();
        Sequence { dice, lane, kinds, left_out: mix.left_out.clone() }
    }
}

impl Iterator for Sequence {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let total: u32 = self.kinds.iter().map(|(_, weight)| weight).sum();
        if total == 0 || self.kinds.iter().all(|(kind, _)| self.left_out.contains(kind)) {
            return None;
        }
        loop {
            let mut at = self.dice.random_range(0..total);
            let drawn = self.kinds.iter().find(|(_, weight)| match at.checked_sub(*weight) {
                Some(left) => {
                    at = left;
                    false
                }
                None => true,
            });
            let (kind, _) = *drawn?;
            let millis = |ms: u32| Duration::from_millis(ms.into());
            let fault = Fault {
                pause: millis(self.dice.random_range(100..=self.lane.longest_pause())),
                kind,
                target: self.dice.random_range(0..kind.targets()),
                hold: millis(self.dice.random_range(kind.hold())),
                dice: self.dice.random(),
            };
            if !self.left_out.contains(&kind) {
                return Some(fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, lane: Lane, mix: &Mix) -> Vec<Fault> {
        Sequence::new(seed, lane, mix).take(200).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_faults_and_another_one_others() {
        for lane in Lane::ALL {
            let faults = first(7, lane, &Mix::default());
            assert_eq!(faults, first(7, lane, &Mix::default()));
            assert_ne!(faults, first(8, lane, &Mix::default()));
            assert!(
                faults.iter().all(|fault| fault.kind.lane() == lane && fault.target < fault.kind.targets())
            );
        }
    }

    #[test]
    fn what_cannot_be_done_here_is_left_out_and_the_others_stay() {
        let mix = Mix { left_out: vec![Kind::DiskFull], ..Mix::default() };
        let mut all = first(7, Lane::Postgres, &Mix::default());
        all.retain(|fault| fault.kind != Kind::DiskFull);
        assert_eq!(first(7, Lane::Postgres, &mix)[..all.len()], all);
        assert!(all.len() < 200);
    }

    #[test]
    fn a_mix_may_be_of_one_kind_alone() {
        let mix = Mix { weights: vec![(Kind::KillBroker, 1)], only: true, ..Mix::default() };
        assert!(first(7, Lane::Kafka, &mix).iter().all(|fault| fault.kind == Kind::KillBroker));
        assert!(first(7, Lane::WaysToKafka, &mix).is_empty());
        let none = Mix { left_out: vec![Kind::KillBroker], ..mix };
        assert!(first(7, Lane::Kafka, &none).is_empty());
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_that_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
        }
    }
}
