//! Runs a target on inputs, one after the other, and says what it did not survive.

use std::collections::HashSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use crate::memory;
use crate::mutate::mutated;
use crate::targets::Target;

/// Bytes of the heap that a target may hold for each byte of its input, beside its own allowance.
pub const HEAP_PER_BYTE: usize = 160;
/// What any input may take of the processor, and each byte of it. Unoptimised code on a slow machine gets along with a tenth.
const TIME: Duration = Duration::from_millis(500);
const TIME_PER_BYTE: Duration = Duration::from_micros(10);
/// No answer at all for so long: the input hangs the target.
const HANG: Duration = Duration::from_mins(2);
/// The stack that services' threads have.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// Inputs with answers of their own that are kept to go on from.
const MOST_KEPT: usize = 4_096;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What, without what depends on the run.
    pub kind: Kind,
    /// In words.
    pub what: String,
}

/// What kind of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It panicked; also where what the target asserts does not hold.
    Panic,
    /// It held too much memory.
    Memory,
    /// It took too long.
    Time,
}

/// What running a target came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Inputs that were run.
    pub executions: u64,
    /// Different answers, as far as they can be told apart.
    pub answers: usize,
    /// What was found, each with the smallest input that shows it.
    pub findings: Vec<(Finding, Vec<u8>)>,
    /// The most memory held, and for an input of which length.
    pub most_held: (usize, usize),
}

/// Until when mutations are made.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So many executions.
    Executions(u64),
    /// A moment.
    Instant(Instant),
}

static SAID: Mutex<String> = Mutex::new(String::new());

/// Runs one input on this thread; the answer, or what must not be, and the memory that it held.
pub fn execute(target: &Target, input: &[u8]) -> (Result<u64, Finding>, usize) {
    let begun = clock_gettime(ClockId::ThreadCPUTime);
    let (done, held) = memory::most_held(|| panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    let took = Duration::try_from(ended - begun).unwrap_or_default();
    let kilobytes = input.len().div_ceil(1_000);
    let answer = match done {
        Err(_) => {
            let what = SAID.lock().map(|said| said.clone()).unwrap_or_default();
            Err(Finding { kind: Kind::Panic, what })
        }
        Ok(_) if held > target.heap_bytes + HEAP_PER_BYTE * input.len() => Err(Finding {
            kind: Kind::Memory,
            what: format!("held {held} bytes for {kilobytes} kB of input"),
        }),
        Ok(_) if took > TIME + TIME_PER_BYTE * input.len() as u32 => Err(Finding {
            kind: Kind::Time,
            what: format!("took {} ms for {kilobytes} kB of input", took.as_millis()),
        }),
        Ok(answer) => Ok(answer),
    };
    (answer, held)
}

/// The inputs that are kept in the repository for a target, by name.
///
/// # Errors
/// When they cannot be read.
pub fn corpus(target: &Target) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("no corpus: {}", dir.display()))? {
        let entry = entry?;
        inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Runs the corpus, then mutations of it, on a thread of its own. The input at hand is always written down under `scratch`, so that
/// one that ends the process is known.
///
/// # Errors
/// When an input hangs the target, or the corpus cannot be read.
pub fn run(target: &'static Target, seed: u64, until: Until, scratch: &Path) -> anyhow::Result<Report> {
    panic::set_hook(Box::new(|info| {
        if let Ok(mut said) = SAID.lock() {
            *said = info.to_string().replace('\n', " ");
        }
    }));
    fs::create_dir_all(scratch)?;
    let at_hand = scratch.join(format!("{}.at-hand", target.name));
    let inputs: Vec<Vec<u8>> = corpus(target)?.into_iter().map(|(_, input)| input).collect();
    let (beat, beats) = mpsc::channel();
    let place = at_hand.clone();
    let worker = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || Search::new(target, seed, place, beat).run(inputs, until))?;
    loop {
        match beats.recv_timeout(HANG) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                anyhow::bail!("{}: hangs on the input in {}", target.name, at_hand.display())
            }
        }
    }
    let report = worker.join().map_err(|_| anyhow::anyhow!("the search itself panicked"))?;
    let _ = panic::take_hook();
    // Only one that ends the process is of interest.
    fs::remove_file(&at_hand)?;
    report
}

struct Search {
    target: &'static Target,
    random: ChaCha8Rng,
    at_hand: PathBuf,
    beat: mpsc::Sender<()>,
    last_beat: Instant,
    kept: Vec<Vec<u8>>,
    answers: HashSet<u64>,
    told: HashSet<String>,
    report: Report,
}

impl Search {
    fn new(target: &'static Target, seed: u64, at_hand: PathBuf, beat: mpsc::Sender<()>) -> Search {
        Search {
            target,
            random: ChaCha8Rng::seed_from_u64(seed),
            at_hand,
            beat,
            last_beat: Instant::now(),
            kept: Vec::new(),
            answers: HashSet::new(),
            told: HashSet::new(),
            report: Report::default(),
        }
    }

    fn run(mut self, corpus: Vec<Vec<u8>>, until: Until) -> anyhow::Result<Report> {
        for input in corpus {
            self.try_out(input.clone())?;
            self.kept.push(input);
        }
        let goes_on = |done: u64| match until {
            Until::Executions(most) => done < most,
            Until::Instant(end) => Instant::now() < end,
        };
        while goes_on(self.report.executions) && !self.kept.is_empty() {
            let [one, other] = [0, 0].map(|_| self.random.random_range(0..self.kept.len()));
            let input = mutated(&self.kept[one], &self.kept[other], self.target.tokens, &mut self.random);
            self.try_out(input)?;
        }
        self.report.answers = self.answers.len();
        Ok(self.report)
    }

    fn try_out(&mut self, input: Vec<u8>) -> anyhow::Result<()> {
        fs::write(&self.at_hand, &input)?;
        let (answer, held) = execute(self.target, &input);
        self.report.executions += 1;
        if self.last_beat.elapsed() > Duration::from_secs(1) {
            self.last_beat = Instant::now();
            // Who listens is waiting for the end.
            let _ = self.beat.send(());
        }
        if held > self.report.most_held.0 {
            self.report.most_held = (held, input.len());
        }
        match answer {
            Ok(answer) => {
                // Short ones: a long input says no more, and costs more.
                if self.answers.insert(answer) && self.kept.len() < MOST_KEPT && input.len() < 16_384 {
                    self.kept.push(input);
                }
            }
            Err(finding) => {
                if self.told.insert(generally(&finding)) {
                    let input = self.smallest(input, &finding);
                    self.report.findings.push((finding, input));
                }
            }
        }
        Ok(())
    }

    /// Takes pieces away as long as the finding stays.
    fn smallest(&mut self, mut input: Vec<u8>, finding: &Finding) -> Vec<u8> {
        let same = |input: &[u8]| {
            execute(self.target, input).0.is_err_and(|found| generally(&found) == generally(finding))
        };
        let mut piece = input.len() / 2;
        let deadline = Instant::now() + Duration::from_secs(20);
        while piece > 0 && Instant::now() < deadline {
            let mut at = 0;
            while at + piece <= input.len() && Instant::now() < deadline {
                let shorter = [&input[..at], &input[at + piece..]].concat();
                if same(&shorter) { input = shorter } else { at += piece }
            }
            let _ = self.beat.send(());
            piece /= 2;
        }
        input
    }
}

/// A finding without its numbers: the same trouble is told once.
fn generally(finding: &Finding) -> String {
    let words = match finding.kind {
        // Where it panicked is in the first words; what it says of the input varies.
        Kind::Panic => finding.what.split(": ").next().unwrap_or_default(),
        Kind::Memory | Kind::Time => "",
    };
    format!("{:?} {words}", finding.kind)
}

/// Writes a finding's input down; where.
///
/// # Errors
/// When it cannot.
pub fn keep(dir: &Path, target: &Target, input: &[u8]) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let digest =
        Sha256::digest(input).iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let path = dir.join(format!("{}-{digest:012x}", target.name));
    fs::write(&path, input)?;
    Ok(path)
}
